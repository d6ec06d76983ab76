"""From the layer graph of a YOLO network, cut or whole, to Darknet's sections."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from tfslim import errors, ops
from tfslim.detection.darknet.network import (
    ACTIVATIONS,
    Convolutional,
    Layer,
    Maxpool,
    Network,
    Op,
    Route,
    Shape,
    Shortcut,
    Upsample,
    Yolo,
)
from tfslim.detection.darknet.to_graph import EPSILON
from tfslim.detection.darknet.weights import ConvWeights
from tfslim.detection.heads import Head
from tfslim.graph import ir

# They compute nothing outside training.
_IDENTITIES = ops.keras("idle")


def from_graph(
    graph: ir.Graph, heads: Sequence[Head]
) -> tuple[Network, tuple[ConvWeights, ...]]:
    """Writes a graph as Darknet's sections, in the order in which they are needed.

    Args:
        graph: of convolutions, batch norms, activations, sums, concatenations,
            upsampling and pooling, as `to_graph` makes them.
        heads: what its outputs mean, in their order.

    Raises:
        GraphError: a layer has no section in Darknet.
    """
    if len(graph.input_refs) != 1 or len(graph.output_refs) != len(heads):
        raise errors.GraphError(
            f"The model has {len(graph.input_refs)} inputs and "
            f"{len(graph.output_refs)} outputs; Darknet has one image, and "
            f"{len(heads)} heads were given."
        )
    writer = _Writer(graph)
    for ref, head in zip(graph.output_refs, heads, strict=True):
        for number in _needed(graph, ref, known={known.node for known in writer.found}):
            writer.add_node(number)
        writer.add_head(ref, head)
    return Network(writer.image, tuple(writer.sections)), tuple(writer.weights)


def _needed(graph: ir.Graph, end: ir.TensorRef, *, known: set[int]) -> Iterator[int]:
    """Yields the nodes that `end` needs and that are not known, first inputs first.

    That is the order in which Darknet's own files have them.
    """
    waiting, seen = [(end.node, False)], set(known)
    while waiting:
        number, is_ready = waiting.pop()
        if is_ready:
            yield number
        elif number not in seen:
            seen.add(number)
            waiting.append((number, True))
            inputs = graph.nodes[number].inputs
            waiting += [(ref.node, False) for ref in reversed(inputs)]


class _Writer:
    """The sections so far; `found` has the number of the one that makes a tensor."""

    def __init__(self, graph: ir.Graph):
        self._graph = graph
        used = [ref for node in graph.nodes for ref in node.inputs]
        self._uses = collections.Counter([*used, *graph.output_refs])
        # A tensor padded with zeros -> the tensor before and the zeros.
        self._padded: dict[ir.TensorRef, tuple[ir.TensorRef, list[list[int]]]] = {}
        self.image = self._shape(graph.input_refs[0])
        self.found: dict[ir.TensorRef, int] = {}
        self.sections: list[Layer] = []
        self.weights: list[ConvWeights] = []

    def add_node(self, number: int) -> None:
        """Adds what a node computes; its inputs are there."""
        node = self._graph.nodes[number]
        layer, inputs = self._graph.layer_of(node), list(node.inputs)
        out = ir.TensorRef(number)
        if layer.op == "Input":
            self.found[out] = -1
        elif layer.op in _IDENTITIES:
            self.found[out] = self.found[inputs[0]]
        elif layer.op == "ZeroPadding2D":
            self._padded[out] = (inputs[0], layer.config["padding"])
        elif layer.op == "Conv2D":
            self._add_convolution(layer, inputs[0], out=out)
        elif layer.op == "BatchNormalization":
            self._add_batch_norm(layer, inputs[0], out=out)
        elif (activation := _activation(layer)) is not None:
            self._activate(layer, activation, inputs[0], out)
        else:
            shapes = [self._shape(ref) for ref in inputs]
            self._add(_section(layer, shapes, out=self._shape(out)), inputs, out)

    def add_head(self, ref: ir.TensorRef, head: Head) -> None:
        """Ends an output in a `[yolo]`."""
        height, width, channels = self._shape(ref)
        cells = (height * head.stride, width * head.stride)
        if channels != head.num_channels or cells != self.image[:2]:
            raise errors.GraphError(
                f"An output is [{height}, {width}, {channels}]; the head given for it "
                f"has stride {head.stride} and {head.num_channels} channels, for an "
                f"image of {self.image[0]}x{self.image[1]}."
            )
        self._go_back(self.found[ref])
        self.sections.append(Layer(Yolo(head), (self._last,), self._shape(ref)))

    @property
    def _last(self) -> int:
        return len(self.sections) - 1

    def _shape(self, ref: ir.TensorRef) -> Shape:
        shape = self._graph.shape(ref)[1:]
        if len(shape) != 3 or any(side is None for side in shape):
            raise errors.GraphError(
                f"'{self._graph.nodes[ref.node].layer}' gives {shape}; Darknet needs "
                "a fixed (height, width, channels). Build the model for one image size."
            )
        return shape  # type: ignore[return-value]

    def _add(self, op: Op, inputs: list[ir.TensorRef], out: ir.TensorRef) -> None:
        for ref in inputs:
            if ref in self._padded:
                raise errors.GraphError(
                    f"'{self._graph.nodes[ref.node].layer}' pads what is no "
                    "convolution; Darknet has no such section."
                )
        numbers = [self.found[ref] for ref in inputs]
        if isinstance(op, Route):
            self._check_routed(numbers)
        elif isinstance(op, Shortcut) and numbers[1] == self._last:
            numbers.reverse()
        else:
            numbers[0] = self._go_back(numbers[0])
        self.sections.append(Layer(op, tuple(numbers), self._shape(out)))
        self.found[out] = self._last

    def _go_back(self, number: int) -> int:
        """Makes layer `number` the one before the next section."""
        if number != self._last:
            self._check_routed([number])
            self.sections.append(Layer(Route(), (number,), self.sections[number].shape))
        return self._last

    def _check_routed(self, numbers: list[int]) -> None:
        if -1 in numbers:
            raise errors.GraphError(
                "The image itself is used in several places; Darknet only reads it in "
                "its first section."
            )

    def _add_convolution(
        self, layer: ir.Layer, x: ir.TensorRef, *, out: ir.TensorRef
    ) -> None:
        config = layer.config
        source, zeros = self._padded.get(x, (x, [[0, 0], [0, 0]]))
        op = Convolutional(
            filters=int(config["filters"]),
            size=_one(layer, "kernel_size"),
            stride=_one(layer, "strides"),
            padding=0,
            groups=int(config.get("groups", 1)),
            activation=_conv_activation(layer),
        )
        if {*config.get("dilation_rate", [1])} != {1}:
            raise _refusal(layer, "a dilation")
        sides = list(zip(self._shape(x)[:2], self._shape(out)[:2], strict=True))
        before = [pair[0] for pair in zeros]
        if config["padding"] == "same":
            steps = [
                _same_padding(n, op.size, stride=op.stride) for n in self._shape(x)[:2]
            ]
            before = [b + s for b, s in zip(before, steps, strict=True)]
        whole = [n - sum(pair) for (n, _), pair in zip(sides, zeros, strict=True)]
        op = dataclasses.replace(op, padding=before[0])
        for (_, wanted), side, start in zip(sides, whole, before, strict=True):
            found = (side + 2 * op.padding - op.size) // op.stride + 1
            if found != wanted or start != op.padding:
                raise _refusal(layer, "other zeros on its sides than half its kernel")
        kernel = layer.weights["kernel"].transpose(3, 2, 0, 1)
        bias = layer.weights.get("bias", np.zeros(op.filters, np.float32))
        self.weights.append(ConvWeights(kernel, bias))
        self._add(op, [source], out)

    def _add_batch_norm(
        self, layer: ir.Layer, x: ir.TensorRef, *, out: ir.TensorRef
    ) -> None:
        op = self._changeable(layer, x)
        if not isinstance(op, Convolutional) or op.batch_normalize:
            raise _refusal(layer, "no convolution before it")
        weights, values = self.weights[-1], layer.weights
        zeros = np.zeros(op.filters, np.float32)
        mean, variance = values["moving_mean"], values["moving_variance"]
        if weights.bias is not None and weights.bias.any():
            mean = mean - weights.bias
        if layer.config["epsilon"] != EPSILON:
            variance = variance + np.float32(layer.config["epsilon"] - EPSILON)
        norm = {
            "beta": values.get("beta", zeros),
            "gamma": values.get("gamma", zeros + 1),
            "moving_mean": mean,
            "moving_variance": variance,
        }
        self.weights[-1] = ConvWeights(weights.kernel, norm=norm)
        self._replace(dataclasses.replace(op, batch_normalize=True), out)

    def _activate(
        self, layer: ir.Layer, activation: str, x: ir.TensorRef, out: ir.TensorRef
    ) -> None:
        if activation == "linear":
            self.found[out] = self.found[x]
            return
        op = self._changeable(layer, x)
        if not isinstance(op, Convolutional | Shortcut):
            raise _refusal(layer, "neither a convolution nor a sum before it")
        self._replace(dataclasses.replace(op, activation=activation), out)

    def _changeable(self, layer: ir.Layer, x: ir.TensorRef) -> Op | None:
        """Returns the last section, if it is linear and only `layer` reads it."""
        if self.found.get(x) != self._last or not self.sections:
            return None
        op = self.sections[-1].op
        if getattr(op, "activation", "linear") != "linear":
            return None
        if self._uses[x] > 1:
            raise _refusal(layer, "an input that others read, too")
        return op

    def _replace(self, op: Op, out: ir.TensorRef) -> None:
        self.sections[-1] = dataclasses.replace(self.sections[-1], op=op)
        self.found[out] = self._last


def _refusal(layer: ir.Layer, reason: str) -> errors.GraphError:
    return errors.GraphError(
        f"'{layer.name}' ({layer.op}) has {reason}; Darknet has no section for that."
    )


def _one(layer: ir.Layer, key: str) -> int:
    """Returns an option that must be equal for height and width."""
    height, width = layer.config[key]
    if height != width:
        raise _refusal(layer, f"{key} {height}x{width}")
    return int(height)


def _same_padding(side: int, size: int, *, stride: int) -> int:
    """Returns how many zeros 'same' puts before one side."""
    return max(0, (-(-side // stride) - 1) * stride + size - side) // 2


def _activation(layer: ir.Layer) -> str | None:
    """Returns Darknet's name of an activation layer, None for other layers."""
    name, config = layer.op, layer.config
    if name == "Activation":
        name = config["activation"]
    if name in ("LeakyReLU", "leaky_relu"):
        slope = config.get("negative_slope", 0.3 if name == "LeakyReLU" else 0.2)
        if not np.isclose(slope, 0.1):
            raise _refusal(layer, f"a slope of {slope:g} (leaky has 0.1)")
        return "leaky"
    if name == "ReLU":
        if config.get("negative_slope") or config.get("threshold"):
            raise _refusal(layer, "a slope or threshold")
        name = {None: "relu", 6.0: "relu6"}.get(config.get("max_value"), "ReLU")
    names = {value: key for key, value in ACTIVATIONS.items()}
    return names.get(name)


def _conv_activation(layer: ir.Layer) -> str:
    name = layer.config.get("activation", "linear")
    found = _activation(ir.Layer(layer.name, "Activation", {"activation": name}))
    if found is None or name == "leaky_relu":
        raise _refusal(layer, f"the activation {name}")
    return found


def _section(layer: ir.Layer, shapes: list[Shape], *, out: Shape) -> Op:
    """Returns the section of a layer that is no convolution."""
    config = layer.config
    if layer.op in ("Add", "add") and shapes == [out, out]:
        return Shortcut()
    if layer.op in ("Concatenate", "concatenate") and config["axis"] in (-1, 3):
        return Route()
    if layer.op == "getitem":
        return _group(layer, shapes[0], out=out)
    if layer.op == "UpSampling2D" and config["interpolation"] == "nearest":
        return Upsample(_one(layer, "size"))
    if layer.op == "MaxPooling2D":
        return _maxpool(layer, shapes[0], out=out)
    raise errors.GraphError(
        f"'{layer.name}' ({layer.op} of {shapes}) has no section in Darknet. Known: "
        "convolutions, batch norms, activations, sums of two, concatenations and "
        "equal parts of channels, nearest upsampling and maximum pooling."
    )


def _group(layer: ir.Layer, shape: Shape, *, out: Shape) -> Route:
    *others, channels = layer.config["key"]
    start = (channels[0] or 0) if isinstance(channels, list) else 0
    same = len(others) == 3 and all(isinstance(entry, list) for entry in others)
    divides = shape[2] % out[2] == 0 and start >= 0 and start % out[2] == 0
    if not same or out[:2] != shape[:2] or not divides or channels[2] not in (None, 1):
        raise _refusal(layer, f"a part of {shape} that is none of equal groups")
    return Route(shape[2] // out[2], start // out[2])


def _maxpool(layer: ir.Layer, shape: Shape, *, out: Shape) -> Maxpool:
    size, stride = _one(layer, "pool_size"), _one(layer, "strides")
    is_same = layer.config["padding"] == "same"
    for padding in (size - 1, *range(size)):
        if all(
            (side + padding - size) // stride + 1 == wanted
            and padding // 2 == is_same * _same_padding(side, size, stride=stride)
            for side, wanted in zip(shape[:2], out[:2], strict=True)
        ):
            return Maxpool(size, stride, padding)
    raise _refusal(layer, "a padding that is not Darknet's")
