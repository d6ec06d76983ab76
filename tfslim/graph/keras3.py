"""Reads and writes Keras 3 models."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import tree
from keras.src.activations import activations
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.models.functional import Functional

from tfslim.graph import (
    ir,
    keras3_functions,
    keras_config,
    keras_functions,
    keras_reader,
    keras_writer,
)

# All that keras.activations has go by their own names, and these by another.
_SYNONYMS = {"swish": "silu", "hard_swish": "hard_silu"}
# (op, weight here): weight in the graph.
_WEIGHTS = {
    ("DepthwiseConv1D", "kernel"): "depthwise_kernel",
    ("DepthwiseConv2D", "kernel"): "depthwise_kernel",
    # Some versions give it no name.
    ("LayerScale", "weight"): "gamma",
}


class _Keras3(keras_reader.Dialect):
    layers: ClassVar[Any] = keras.layers
    applications: ClassVar[Mapping[str, type]] = {
        "CustomScaleLayer": inception_resnet_v2.CustomScaleLayer,
        "LayerScale": convnext.LayerScale,
    }
    activations: ClassVar[Mapping[str, str]] = _SYNONYMS
    weight_names: ClassVar[Mapping[Any, str]] = _WEIGHTS

    def calls(self, model: Any) -> Iterator[keras_functions.Call]:
        nodes = _functional(model)._nodes_by_depth
        for depth in sorted(nodes, reverse=True):
            for node in nodes[depth]:
                args = tuple(node.arguments.args)
                yield keras_functions.Call(
                    node.operation,
                    args,
                    _given(node.operation, args, kwargs=node.arguments.kwargs),
                    tuple(node.outputs),
                )

    def ends(self, model: Any) -> tuple[Any, Any]:
        model = _functional(model)
        return model._inputs_struct, model._outputs_struct

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, keras.KerasTensor)

    def is_array(self, value: Any) -> bool:
        return isinstance(value, np.ndarray | np.generic) or keras.ops.is_tensor(value)

    def is_functional(self, layer: Any) -> bool:
        return isinstance(_functional(layer), Functional)

    def function(self, call: keras_functions.Call) -> keras_functions.Function | None:
        return keras3_functions.read(call)

    def layer(self, native: Any, name: str, ndim: int) -> ir.Layer:
        if isinstance(native, keras.layers.InputLayer):
            shape = list(native.batch_shape)
            return ir.Layer(
                name, "Input", {"batch_shape": shape, "dtype": native.dtype}
            )
        if isinstance(native, activations.ReLU):
            # relu(x, max_value=6), which the layer is as well, in both Keras.
            names = ("negative_slope", "max_value", "threshold")
            return ir.Layer(name, "ReLU", {key: getattr(native, key) for key in names})
        if not isinstance(native, keras.layers.Layer):
            try:
                config = keras_config.without_fields(native.get_config())
            except NotImplementedError:
                config = {keras_config.OPERATION: native}
            if any(map(callable, config.values())):
                # It holds functions: a loop, a map, a scan.
                config = {keras_config.OPERATION: native}
            return ir.Layer(
                name, f"ops.{type(native).__name__}", config, keras_class=type(native)
            )
        return super().layer(native, name, ndim)

    def is_trained(self, weight: Any, native: Any) -> bool:
        # A frozen layer's variables all say trainable=False; those made without an
        # optimizer in mind are kept in another list. Those of a GRU belong to its cell.
        return any(
            weight is each
            for held in native._flatten_layers()
            for each in held._trainable_variables
        )


def _given(
    operation: Any, args: tuple[Any, ...], *, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the keywords of a call that the user wrote.

    Keras 3 records more: the default of `training` (`False` of Dropout, `True` of
    RandomFlip), which it does not obey in `fit` and `predict`, and the masks that its
    tensors carry anyhow. A `training` equal to the default is taken for the default.
    """
    if not isinstance(operation, keras.layers.Layer):
        return dict(kwargs)
    parameters = inspect.signature(operation.call).parameters
    tensors = [t for t in tree.flatten((args, dict(kwargs))) if t is not None]
    carried = {id(getattr(tensor, "_keras_mask", None)) for tensor in tensors} | {
        id(None)
    }

    def is_recorded(key: str, value: Any) -> bool:
        if key == "training":
            return key in parameters and value is parameters[key].default
        return (key == "mask" or key.removesuffix("_mask") in parameters) and all(
            id(mask) in carried for mask in tree.flatten(value)
        )

    return {key: v for key, v in kwargs.items() if not is_recorded(key, v)}


def _functional(model: Any) -> Any:
    """Returns the functional model inside a sequential one, else the model itself."""
    return model._functional if isinstance(model, keras.Sequential) else model


class _Writer(keras_writer.Builder):
    name = "Keras 3"
    activations: ClassVar[Mapping[Any, str]] = {
        name: name
        for name in dir(keras.activations)
        if not name.startswith("_") and name not in ("get", "serialize", "deserialize")
    }
    base: ClassVar[type] = keras.Operation
    zeros: ClassVar[Any] = keras.initializers.Zeros()

    def free_name(self, name: str) -> str:
        return name.replace("/", "_")  # Keras 3 takes no slashes.

    def input(self, layer: ir.Layer) -> Any:
        return keras.Input(
            batch_shape=tuple(layer.config["batch_shape"]),
            name=self.free_name(layer.name),
            dtype=layer.config["dtype"],
        )

    def function(
        self, op: str, name: str, operands: Sequence[Any], config: Mapping[str, Any]
    ) -> Any:
        return keras3_functions.write(op, name, operands=operands, config=config)

    def model(self, inputs: Any, outputs: Any, name: str) -> Any:
        return keras.Model(inputs, outputs, name=name)


DIALECT = _Keras3()
BUILDER = _Writer(DIALECT)
