"""Running Keras models for what they compute, whatever their layout and backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tfslim import errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras


def compiled(
    model: Any, look: Callable[[Any], Any] = lambda outputs: outputs
) -> Callable[[Any], Any]:
    """Returns a function from a model's inputs to its outputs, as `predict` has them.

    Called eagerly, convolutions of Keras 3 that are channels_first give wrong results
    on a CPU with TensorFlow 2.21; `predict` compiles them and is right. On another
    backend of Keras 3 than TensorFlow the model is called as it is, and gives arrays.

    Args:
        model: of either Keras.
        look: from the outputs to what is wanted, called right behind the model.
    """

    def call(inputs: Any) -> Any:
        return look(model(inputs, training=False))

    traced = tf.function(call, autograph=False)

    def call_compiled(inputs: Any) -> Any:
        tensors = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        # Else TensorFlow warns of every fifth model, taking all for one function.
        return traced.get_concrete_function(tensors)(tensors)

    def call_elsewhere(inputs: Any) -> Any:
        from keras import ops

        outputs = call(tf.nest.map_structure(np.asarray, inputs))
        return tf.nest.map_structure(ops.convert_to_numpy, outputs)

    if graph_keras.backend_of(model) == "tensorflow":
        return call_compiled
    return call_elsewhere


def forget_kernels() -> None:
    """Frees what TensorFlow keeps of functions that ran once and will not again.

    It keeps the kernel of every function, also when that is gone: half a megabyte for
    each small model that is compared.
    """
    context.context().clear_kernel_cache()


def write(graph: ir.Graph, kind: graph_keras.KerasName) -> Any:
    """Builds a model to look into with TensorFlow, eagerly and under a gradient tape.

    A graph of Keras 3 is built in tf_keras where its own cannot do that: on another
    backend, and with channels_first convolutions (see `compiled`).

    Raises:
        GraphError: Keras 3 is on another backend, and tf_keras lacks a layer.
    """
    if kind == "tf_keras":
        return graph_keras.write(graph, kind)
    on_tensorflow = graph_keras.backend() == "tensorflow"
    if on_tensorflow and not any(map(_is_channels_first, graph.layers.values())):
        return graph_keras.write(graph, kind)
    try:
        return graph_keras.write(graph, "tf_keras")
    except errors.GraphError:
        if not on_tensorflow:
            raise
        return graph_keras.write(graph, kind)


def _is_channels_first(layer: ir.Layer) -> bool:
    return layer.config.get("data_format") == "channels_first"
