"""The layer graph: what a Keras model computes, as plain values without Keras.

A `Graph` has layers (what is computed, with which weights) and nodes (where it is
called). A layer that the model calls twice is one `Layer` with two `Node`s; a nested
model is flattened. All values are immutable: a pass over a graph returns a new one.

The vocabulary of `Layer.op` is small and the same for tf_keras and Keras 3:

* `Input`: a tensor the caller feeds; config `batch_shape`, `dtype`.
* `Constant`: an array in the model's arithmetic (`x * 0.5`), its only weight `value`;
  it has no inputs and does not count as a parameter.
* A Keras layer goes by its class name (`Conv2D`, `BatchNormalization`, `Add`), its
  config in the words of Keras 3 (`negative_slope`, `axis=-1`, `dtype="float32"`),
  without `name` and `trainable`, which are fields of `Layer`. So do the two that
  keras.applications define: `CustomScaleLayer` (x + `scale` y), `LayerScale`.
* A function of tensors goes by its lower-case numpy or `keras.ops` name; its inputs
  are tensors, its parameters stand in the config:
  `add subtract multiply divide maximum minimum power matmul` of two tensors, which
  broadcast as in numpy; the elementwise functions of `tfslim.ops`;
  `mean sum max min` (`axis`, `keepdims`); `reshape` (`shape`, batch axis included);
  `transpose` (`axes`); `concatenate` (`axis`); `split` (`sizes`, `axis`);
  `pad` (`paddings`, `mode`, `value`); `clip` (`minimum`, `maximum`);
  `resize` (`size`, `interpolation`); `expand_dims`, `squeeze` (`axis`);
  `getitem` (`key`, one entry per axis: an int, or `[start, stop, step]`);
  `cast` (`dtype`); `softmax` (`axis`).
* Anything else keeps its own name and its class in `keras_class`; only the Keras it
  came from can rebuild it, and no pass looks into it.

Activations inside a config are names, those of Keras 3, with one addition:
`hard_sigmoid_legacy` is clip(0.2 x + 0.5, 0, 1), which tf_keras calls `hard_sigmoid`,
while `hard_sigmoid` is relu6(x + 3) / 6, as Keras 3 has it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
# The size of each axis, None where it is only known at run time (the batch).
Shape: TypeAlias = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class TensorRef:
    """The tensor that node number `node` gives at output number `port`."""

    node: int
    port: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One operation and its weights.

    Attributes:
        name: unique in the graph.
        op: what is computed; the module's docstring has the vocabulary.
        config: the operation's options, plain data.
        weights: arrays by their Keras names (`kernel`, `gamma`), read-only.
        state: names of those weights that no optimizer trains (`moving_mean`).
        trainable: whether training may change the other weights.
        keras_class: the class that rebuilds an op outside the vocabulary.
    """

    name: str
    op: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    state: frozenset[str] = frozenset()
    trainable: bool = True
    keras_class: type | None = None

    def __post_init__(self) -> None:
        """Closes the mappings and the arrays against writing."""
        weights = {}
        for name, weight in self.weights.items():
            view = np.asarray(weight).view()
            view.flags.writeable = False
            weights[name] = view
        object.__setattr__(self, "weights", types.MappingProxyType(weights))
        object.__setattr__(self, "config", types.MappingProxyType(dict(self.config)))

    def __eq__(self, other: object) -> bool:
        """Tells whether both compute the same, weight for weight."""
        if not isinstance(other, Layer):
            return NotImplemented
        return (
            _fields_but_weights(self) == _fields_but_weights(other)
            and list(self.weights) == list(other.weights)
            and all(
                np.array_equal(weight, other.weights[name], equal_nan=True)
                for name, weight in self.weights.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]


def _fields_but_weights(layer: Layer) -> tuple[Any, ...]:
    return (
        layer.name,
        layer.op,
        dict(layer.config),
        layer.state,
        layer.trainable,
        layer.keras_class,
    )


@dataclasses.dataclass(frozen=True)
class Node:
    """One call of a layer.

    Attributes:
        layer: the name of the layer.
        args: positional arguments of the call: `TensorRef`s, lists of them
            (`Concatenate`), or plain data.
        shapes: the shape of each output.
        kwargs: arguments by name, e.g. `training=False` of a frozen base model.
    """

    layer: str
    args: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorRef, ...]:
        """The tensors of the call, in order; one that is used twice comes twice."""
        return (*refs(self.args), *refs(self.kwargs))


@dataclasses.dataclass(frozen=True)
class Graph:
    """A model: its layers by name and their calls, each after what it needs.

    Attributes:
        name: the model's name.
        layers: every layer that a node calls.
        nodes: in an order in which they can be computed.
        inputs: a `TensorRef`, or a list or dict of them, as the model takes them.
        outputs: the same for what the model returns.
        source: the Keras it was read from, by whose rules a node's `training` holds;
            empty for a graph made by hand.
    """

    name: str
    layers: Mapping[str, Layer]
    nodes: tuple[Node, ...]
    inputs: Any
    outputs: Any
    source: str = ""

    @property
    def input_refs(self) -> tuple[TensorRef, ...]:
        """The model's inputs, flat."""
        return tuple(refs(self.inputs))

    @property
    def output_refs(self) -> tuple[TensorRef, ...]:
        """The model's outputs, flat."""
        return tuple(refs(self.outputs))

    def layer_of(self, node: Node) -> Layer:
        """Returns the layer that `node` calls."""
        return self.layers[node.layer]

    def shape(self, ref: TensorRef) -> Shape:
        """Returns the shape of a tensor, batch axis included."""
        return self.nodes[ref.node].shapes[ref.port]

    def with_layers(self, changed: Mapping[str, Layer]) -> Graph:
        """Returns the graph with some layers replaced by ones of the same name."""
        return dataclasses.replace(self, layers={**self.layers, **changed})


def refs(structure: Any) -> Iterator[TensorRef]:
    """Yields the tensors in a nested structure, in order."""
    if isinstance(structure, TensorRef):
        yield structure
    elif isinstance(structure, Mapping):
        for value in structure.values():
            yield from refs(value)
    elif isinstance(structure, list | tuple):
        for value in structure:
            yield from refs(value)


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """Returns the structure with `function` applied to all that is not a container."""
    if isinstance(structure, Mapping):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        items = [map_leaves(function, value) for value in structure]
        # A namedtuple takes its fields one by one.
        return type(structure)(*items) if hasattr(structure, "_fields") else (*items,)
    if isinstance(structure, list):
        return [map_leaves(function, value) for value in structure]
    return function(structure)


def substitute(structure: Any, values: Mapping[TensorRef, Any]) -> Any:
    """Returns the structure with every `TensorRef` replaced by what it stands for."""
    return map_leaves(
        lambda leaf: values[leaf] if isinstance(leaf, TensorRef) else leaf, structure
    )
