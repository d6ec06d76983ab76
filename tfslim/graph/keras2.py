"""Reads and writes tf_keras (Keras 2) models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.applications import convnext, inception_resnet_v2
from tf_keras.src.engine import functional, keras_tensor
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from tfslim import errors, ops
from tfslim.graph import (
    ir,
    keras2_functions,
    keras_functions,
    keras_reader,
    keras_writer,
)

# Activations by other names than Keras 3's; hard_sigmoid is another function there.
_ACTIVATIONS = {"swish": "silu", "hard_sigmoid": "hard_sigmoid_legacy"}
_NATIVE_ACTIVATIONS = {
    **{
        name: name
        for name in (
            "elu exponential gelu linear mish relu relu6 selu sigmoid softmax softplus "
            "softsign tanh"
        ).split()
    },
    "silu": "swish",
    "hard_sigmoid_legacy": "hard_sigmoid",
}
# (class, option here): option in Keras 3.
_OPTIONS = {("LeakyReLU", "alpha"): "negative_slope"}


class _Keras2(keras_reader.Dialect):
    layers: ClassVar[Any] = tf_keras.layers
    applications: ClassVar[Mapping[str, type]] = {
        "CustomScaleLayer": inception_resnet_v2.CustomScaleLayer,
        "LayerScale": convnext.LayerScale,
    }
    activations: ClassVar[Mapping[str, str]] = _ACTIVATIONS
    options: ClassVar[Mapping[Any, str]] = _OPTIONS

    def calls(self, model: Any) -> Iterator[keras_functions.Call]:
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                yield keras_functions.Call(
                    node.layer,
                    tuple(node.call_args or ()) if not node.is_input else (),
                    dict(node.call_kwargs or {}),
                    tuple(tf.nest.flatten(node.outputs)),
                )

    def ends(self, model: Any) -> tuple[Any, Any]:
        return model._nested_inputs, model._nested_outputs

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, keras_tensor.KerasTensor)

    def is_array(self, value: Any) -> bool:
        return isinstance(value, np.ndarray | np.generic | tf.Tensor | tf.Variable)

    def is_functional(self, layer: Any) -> bool:
        return isinstance(layer, functional.Functional) and hasattr(
            layer, "_nodes_by_depth"
        )

    def function(self, call: keras_functions.Call) -> keras_functions.Function | None:
        return keras2_functions.read(call)

    def layer(self, native: Any, name: str, ndim: int) -> ir.Layer:
        if isinstance(native, tf_keras.layers.InputLayer):
            shape = [None if s is None else int(s) for s in native._batch_input_shape]
            return ir.Layer(
                name, "Input", {"batch_shape": shape, "dtype": native.dtype}
            )
        if isinstance(native, TFOpLambda):
            if native.weights:
                raise errors.GraphError(
                    f"'{name}' applies {native.symbol} to a variable that belongs to "
                    "no layer. Put the variable into a layer's add_weight."
                )
            return ir.Layer(
                name,
                f"tf.{native.symbol}",
                {"function": native.symbol},
                keras_class=type(native),
            )
        return super().layer(native, name, ndim)

    def is_trained(self, weight: Any, native: Any) -> bool:
        return bool(weight.trainable)


def _is_plain(args: Any) -> bool:
    """Tells whether tensors are floats without a mask, which a layer may pass on."""
    return all(
        getattr(t, "_keras_mask", None) is None and tf.as_dtype(t.dtype).is_floating
        for t in tf.nest.flatten(args)
        if hasattr(t, "dtype")
    )


class _Writer(keras_writer.Builder):
    name = "tf_keras"
    activations: ClassVar[Mapping[Any, str]] = _NATIVE_ACTIVATIONS
    base: ClassVar[type] = tf_keras.layers.Layer
    zeros: ClassVar[Any] = tf_keras.initializers.Zeros()

    def call(
        self, native: Any, layer: ir.Layer, node: ir.Node, args: Any, kwargs: Any
    ) -> Any:
        is_shaped = layer.op in ops.keras("shaped")
        if not is_shaped or kwargs or len(args) != 1 or not _is_plain(args):
            return native(*args, **kwargs)
        if getattr(native, "activity_regularizer", None) is not None:
            return native(*args)

        def known(inputs: Any, rest: Any, options: Any, masks: Any) -> Any:
            with tf_keras.backend.name_scope(native._name_scope()):
                native._maybe_build(inputs)
            native._set_save_spec(inputs, rest, options)
            spec = tf.TensorSpec(node.shapes[0], native.compute_dtype)
            return keras_tensor.KerasTensor(spec)

        # tf_keras would trace the layer in a graph of its own for the shape that the
        # graph already has: two thirds of the time of a rebuild.
        native._infer_output_signature = known
        try:
            return native(*args)
        finally:
            del native._infer_output_signature

    def input(self, layer: ir.Layer) -> Any:
        batch, *shape = layer.config["batch_shape"]
        return tf_keras.Input(
            shape, batch, name=layer.name, dtype=layer.config["dtype"]
        )

    def function(
        self, op: str, name: str, operands: Sequence[Any], config: Mapping[str, Any]
    ) -> Any:
        return keras2_functions.write(op, name, operands=operands, config=config)

    def model(self, inputs: Any, outputs: Any, name: str) -> Any:
        return tf_keras.Model(inputs, outputs, name=name)


DIALECT = _Keras2()
BUILDER = _Writer(DIALECT)
