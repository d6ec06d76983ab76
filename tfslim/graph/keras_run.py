"""Running a Keras model as `predict` runs it: compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfslim.graph import keras as graph_keras


def compiled(model: Any) -> Callable[[Any], Any]:
    """Returns a function from a model's inputs to its outputs, in inference.

    Called eagerly, convolutions of Keras 3 that are channels_first give wrong results
    on a CPU with TensorFlow 2.21; `predict` compiles them and is right. On another
    backend of Keras 3 than TensorFlow the model is called as it is.
    """

    def call(inputs: Any) -> Any:
        return model(inputs, training=False)

    if graph_keras.backend_of(model) != "tensorflow":
        return call
    return tf.function(call, autograph=False)
