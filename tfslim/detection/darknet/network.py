"""What a `.cfg` describes: layers with their inputs and shapes.

Semantics are those of Darknet's source, https://github.com/pjreddie/darknet; `groups`
of a route are of https://github.com/AlexeyAB/darknet.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from tfslim.detection.heads import Head

Shape: TypeAlias = tuple[int, int, int]

# Names of Darknet -> those of the layer graph.
ACTIVATIONS = {
    "linear": "linear",
    "leaky": "leaky_relu",
    "logistic": "sigmoid",
    "relu": "relu",
    "relu6": "relu6",
    "swish": "silu",
}


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """A convolution with zero padding of `padding` on all sides."""

    filters: int
    size: int
    stride: int
    padding: int
    groups: int = 1
    batch_normalize: bool = False
    activation: str = "linear"


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """The sum of two inputs of one shape."""

    activation: str = "linear"


@dataclasses.dataclass(frozen=True)
class Route:
    """Part number `group_id` of `groups` of each input, one after the other."""

    groups: int = 1
    group_id: int = 0


@dataclasses.dataclass(frozen=True)
class Upsample:
    """Each pixel `stride` times, in both directions."""

    stride: int


@dataclasses.dataclass(frozen=True)
class Maxpool:
    """The maximum of windows; `padding` is of both sides together."""

    size: int
    stride: int
    padding: int


@dataclasses.dataclass(frozen=True)
class Yolo:
    """Marks its input as an output of the network."""

    head: Head


Op: TypeAlias = Convolutional | Shortcut | Route | Upsample | Maxpool | Yolo


@dataclasses.dataclass(frozen=True)
class Layer:
    """One section after `[net]`.

    Attributes:
        op: what it computes.
        inputs: numbers of the layers it reads, -1 for the image.
        shape: (height, width, channels) of its output.
    """

    op: Op
    inputs: tuple[int, ...]
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Network:
    """A whole `.cfg`.

    Attributes:
        input_shape: (height, width, channels) of the image.
        layers: in Darknet's order, which is that of the weights, too.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def shape(self, index: int) -> Shape:
        """Returns the shape of a layer's output, or of the image for -1."""
        return self.input_shape if index < 0 else self.layers[index].shape

    @property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the layers that the `[yolo]` sections read."""
        return tuple(x.inputs[0] for x in self.layers if isinstance(x.op, Yolo))

    @property
    def heads(self) -> tuple[Head, ...]:
        """What the outputs mean, in the same order."""
        return tuple(x.op.head for x in self.layers if isinstance(x.op, Yolo))
