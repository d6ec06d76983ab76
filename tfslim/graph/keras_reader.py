"""The walk through a Keras model that both Keras share: nesting, sharing, names.

What a Keras keeps where is a `Dialect`; `keras2.py` and `keras3.py` have one each.
"""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfslim import errors
from tfslim.graph import (
    editor,
    ir,
    keras_config,
    keras_functions,
    keras_state,
    names,
)
from tfslim.graph.keras_functions import Call, Function


class Dialect(abc.ABC):
    """Where one Keras keeps what the reader needs."""

    # The module of the layers, and those that keras.applications define themselves.
    layers: ClassVar[Any]
    applications: ClassVar[Mapping[str, type]]
    # Names of activations here -> the graph's, where they differ.
    activations: ClassVar[Mapping[str, str]]
    # (class, name here) -> name in the graph, of options and weights.
    options: ClassVar[Mapping[tuple[str, str], str]] = {}
    weight_names: ClassVar[Mapping[tuple[str, str], str]] = {}

    @abc.abstractmethod
    def calls(self, model: Any) -> Iterator[Call]:
        """Yields the calls of a functional model, each after those it needs."""

    @abc.abstractmethod
    def ends(self, model: Any) -> tuple[Any, Any]:
        """Returns the model's inputs and outputs, nested as the model takes them."""

    @abc.abstractmethod
    def is_tensor(self, value: Any) -> bool:
        """Tells whether `value` is a symbolic tensor of this Keras."""

    @abc.abstractmethod
    def is_array(self, value: Any) -> bool:
        """Tells whether `value` is a tensor or array with a value."""

    @abc.abstractmethod
    def is_functional(self, layer: Any) -> bool:
        """Tells whether `layer` is a model whose calls can be read."""

    @abc.abstractmethod
    def is_trained(self, weight: Any, native: Any) -> bool:
        """Tells whether training may change a weight, were its layer not frozen."""

    @abc.abstractmethod
    def function(self, call: Call) -> Function | None:
        """Returns a call of a function of the vocabulary, None for all else."""

    def class_of(self, op: str) -> type | None:
        """Returns the class of a layer by its name, None if this Keras has none."""
        return self.applications.get(op) or getattr(self.layers, op, None)

    def layer(self, native: Any, name: str, ndim: int) -> ir.Layer:
        """Returns a Keras layer as a value; `ndim` is the rank of its input."""
        known = self._is_known(native)
        weights = self.weights(native)
        return ir.Layer(
            name,
            type(native).__name__,
            self.layer_config(native, ndim) if known else keras_config.native(native),
            {key: weight.numpy().copy() for key, weight in weights.items()},
            frozenset(k for k, w in weights.items() if not self.is_trained(w, native)),
            native.trainable,
            None if known else type(native),
        )

    def weights(self, native: Any) -> dict[str, Any]:
        """Returns a layer's variables by their names in the graph."""
        op = type(native).__name__
        if not hasattr(native, "trainable"):
            return {}  # An operation of keras.ops.
        if self._is_known(native) and op in keras_state.WITHOUT_WEIGHTS:
            return {}
        named = keras_config.named_weights(native.weights)
        return {self.weight_names.get((op, key), key): w for key, w in named.items()}

    def _is_known(self, native: Any) -> bool:
        """Tells whether a layer is one of this Keras's own, and in the vocabulary."""
        known = self.class_of(type(native).__name__)
        return known is type(native) and not keras_config.is_wrapper(native)

    def layer_config(self, native: Any, ndim: int) -> dict[str, Any]:
        """Returns the config of a known layer in the words of the graph."""
        op = type(native).__name__
        if op == "Lambda":
            return keras_config.of_lambda(native)
        config = {}
        for key, value in keras_config.plain(keras_state.config(native)).items():
            key = self.options.get((op, key), key)
            if key in ("activation", "recurrent_activation"):
                value = self._activation(native, key, value)
            elif key == "axis" and op.endswith("Normalization"):
                value = keras_config.normalized_axis(value, ndim)
            elif key == "dtype":
                value = keras_config.dtype_name(value)
            config[key] = value
        return keras_config.without_fields(config)

    def _activation(self, native: Any, key: str, value: Any) -> Any:
        """Returns an activation's name; a function of the user's stays a function."""
        if isinstance(value, str):
            return self.activations.get(value, value)
        return None if value is None else getattr(native, key)


def read(model: Any, dialect: Dialect, *, source: str) -> ir.Graph:
    """Reads a functional model of the Keras `source`; see `tfslim.graph.keras.read`."""
    graph = _walk(model, dialect)[0]
    if not graph.output_refs:
        raise errors.GraphError(f"Model '{model.name}' has no outputs.")
    return dataclasses.replace(graph, source=source)


def own_variables(model: Any, dialect: Dialect) -> dict[str, dict[str, Any]]:
    """Returns a model's variables; see `tfslim.graph.keras.own_variables`."""
    graph, natives = _walk(model, dialect)
    return {
        name: weights
        for name, native in natives.items()
        if name in graph.layers and (weights := dialect.weights(native))
    }


def _walk(model: Any, dialect: Dialect) -> tuple[ir.Graph, dict[str, Any]]:
    """Returns what a model's outputs need of it, and its Keras layers by name."""
    _check_functional(model, dialect)
    reader = _Reader(dialect)
    inputs, outputs = dialect.ends(model)
    tensors = reader.inline(model, None, prefix="", training=None)
    graph = ir.Graph(
        name=model.name,
        layers=reader.layers,
        nodes=tuple(reader.nodes),
        inputs=_structure(inputs, dialect, tensors=tensors),
        outputs=_structure(outputs, dialect, tensors=tensors),
    )
    return editor.without_unused(graph), reader.natives


def _check_functional(model: Any, dialect: Dialect) -> None:
    if dialect.is_functional(model):
        return
    kind = type(model).__name__
    if kind == "Sequential":
        raise errors.GraphError(
            f"Sequential model '{model.name}' is not built. Start it with an Input, or "
            "call model.build(input_shape) before."
        )
    raise errors.GraphError(
        f"Model '{model.name}' is a subclassed model ({kind}): what its call method "
        "does cannot be read. Build it as keras.Model(inputs, outputs), where it is a "
        "chain of layers by calling them on a keras.Input, or pass its functional core."
    )


# A symbolic tensor by its place: layer, number of the call, number of the output.
_Key = tuple[int, int, int]


def _key(tensor: Any) -> _Key:
    layer, call, port = tensor._keras_history
    return id(layer), call, port


def _flat(structure: Any, dialect: Dialect) -> list[Any]:
    """Returns the symbolic tensors of a structure in Keras's order."""
    if dialect.is_tensor(structure):
        return [structure]
    if isinstance(structure, Mapping):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, list | tuple):
        return [leaf for item in structure for leaf in _flat(item, dialect)]
    return []


def _structure(
    structure: Any, dialect: Dialect, *, tensors: Mapping[_Key, ir.TensorRef]
) -> Any:
    if dialect.is_tensor(structure):
        return tensors[_key(structure)]
    if isinstance(structure, Mapping):
        return {
            key: _structure(structure[key], dialect, tensors=tensors)
            for key in sorted(structure)
        }
    return [_structure(item, dialect, tensors=tensors) for item in structure]


class _Reader:
    """Collects layers and nodes while walking through nested models."""

    def __init__(self, dialect: Dialect):
        self._dialect = dialect
        self._names: dict[int, str] = {}
        self.natives: dict[str, Any] = {}
        self.layers: dict[str, ir.Layer] = {}
        self.nodes: list[ir.Node] = []

    def inline(
        self,
        model: Any,
        bound: Sequence[ir.TensorRef] | None,
        *,
        prefix: str,
        training: bool | None,
    ) -> dict[_Key, ir.TensorRef]:
        """Adds the calls of a model; returns its tensors.

        Args:
            model: a functional model.
            bound: what a nested model is called on, in the order of its inputs.
            prefix: put before the names of layers whose own name is taken.
            training: the `training` argument that a nested model is called with.
        """
        dialect = self._dialect
        tensors: dict[_Key, ir.TensorRef] = {}
        if bound is not None:
            inputs = _flat(dialect.ends(model)[0], dialect)
            tensors |= {
                _key(tensor): ref for tensor, ref in zip(inputs, bound, strict=True)
            }
        for call in dialect.calls(model):
            if _key(call.outputs[0]) in tensors:
                continue  # An input of a nested model.
            if training is not None and _takes_training(call.layer):
                kwargs = {"training": training, **call.kwargs}
                call = dataclasses.replace(call, kwargs=kwargs)
            refs = self._add_call(call, tensors, prefix=prefix)
            tensors |= {
                _key(tensor): ref
                for tensor, ref in zip(call.outputs, refs, strict=True)
            }
        return tensors

    def _add_call(
        self, call: Call, tensors: Mapping[_Key, ir.TensorRef], *, prefix: str
    ) -> list[ir.TensorRef]:
        if self._dialect.is_functional(call.layer):
            return self._add_model(call, tensors, prefix=prefix)
        function = self._dialect.function(call)
        if function is not None:
            return self._add_function(function, call, tensors=tensors, prefix=prefix)
        name = self._names.get(id(call.layer))
        if name is None:
            name = self._free_name(call.layer.name, prefix)
            self._names[id(call.layer)] = name
            self.natives[name] = call.layer
            sources = _flat([call.args, dict(call.kwargs)], self._dialect)
            ndim = len((sources or call.outputs)[0].shape)
            self.layers[name] = self._dialect.layer(call.layer, name, ndim)
        args, kwargs = ir.map_leaves(
            lambda leaf: self._argument(leaf, tensors, name=name),
            (tuple(call.args), dict(call.kwargs)),
        )
        return self._add_node(name, args, outputs=call.outputs, kwargs=kwargs)

    def _add_model(
        self, call: Call, tensors: Mapping[_Key, ir.TensorRef], *, prefix: str
    ) -> list[ir.TensorRef]:
        bound = [tensors[_key(t)] for t in _flat(call.args, self._dialect)]
        inner = self.inline(
            call.layer,
            bound,
            prefix=f"{prefix}{call.layer.name}_",
            training=call.kwargs.get("training"),
        )
        outputs = _flat(self._dialect.ends(call.layer)[1], self._dialect)
        return [inner[_key(tensor)] for tensor in outputs]

    def _add_function(
        self,
        function: Function,
        call: Call,
        *,
        tensors: Mapping[_Key, ir.TensorRef],
        prefix: str,
    ) -> list[ir.TensorRef]:
        name = self._free_name(call.layer.name, prefix)
        self.layers[name] = ir.Layer(name, function.op)  # Takes the name at once.
        args = ir.map_leaves(
            lambda leaf: self._operand(leaf, tensors, name=name), function.operands
        )
        first = next(ir.refs(args))
        config = keras_functions.normalize(
            function.op,
            function.config,
            source=self.nodes[first.node].shapes[first.port],
            outputs=[tuple(output.shape) for output in call.outputs],
        )
        self.layers[name] = ir.Layer(name, function.op, config)
        return self._add_node(name, args, outputs=call.outputs)

    def _argument(
        self, value: Any, tensors: Mapping[_Key, ir.TensorRef], *, name: str
    ) -> Any:
        if self._dialect.is_tensor(value) or self._dialect.is_array(value):
            return self._operand(value, tensors, name=name)
        return value

    def _operand(
        self, value: Any, tensors: Mapping[_Key, ir.TensorRef], *, name: str
    ) -> ir.TensorRef:
        """Returns a tensor's place; a constant gets a node of its own."""
        if self._dialect.is_tensor(value):
            return tensors[_key(value)]
        array = np.asarray(value)
        constant = self._free_name(f"{name}_constant", "")
        self.layers[constant] = ir.Layer(
            constant,
            "Constant",
            weights={"value": array},
            state=frozenset(["value"]),
            trainable=False,
        )
        self.nodes.append(ir.Node(constant, (), (array.shape,)))
        return ir.TensorRef(len(self.nodes) - 1)

    def _add_node(
        self,
        layer: str,
        args: tuple[Any, ...],
        *,
        outputs: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[ir.TensorRef]:
        shapes = tuple(tuple(output.shape) for output in outputs)
        if not self.layers[layer].op.startswith("ops."):  # Those may need a None.
            kwargs = {k: v for k, v in (kwargs or {}).items() if v is not None}
        self.nodes.append(ir.Node(layer, args, shapes, kwargs or {}))
        node = len(self.nodes) - 1
        return [ir.TensorRef(node, port) for port in range(len(shapes))]

    def _free_name(self, name: str, prefix: str) -> str:
        if name not in self.layers:
            return name
        return names.free(f"{prefix}{name}", self.layers)


def _takes_training(layer: Any) -> bool:
    return "training" in inspect.signature(layer.call).parameters
