"""What criteria see of data: gradients of the loss for every weight."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras


def inputs_of(batch: Any) -> Any:
    """Returns the inputs of a batch that may have targets: `(inputs, targets)`."""
    return batch[0] if isinstance(batch, tuple) else batch


def gradients(
    graph: ir.Graph, kind: graph_keras.KerasName, batches: Sequence[Any], loss: Any
) -> dict[str, dict[str, ir.Array]]:
    """Returns the mean gradient of the loss for every trained weight.

    Args:
        graph: the model's graph.
        kind: the Keras to run it in.
        batches: `(inputs, targets)` pairs.
        loss: a Keras loss, or its name.

    Returns:
        Layer -> weight -> float64 array of the weight's shape: the mean over batches,
        with batch normalization in inference mode.

    Raises:
        ConfigError: a batch has no targets.
    """
    # Trained weights alone have gradients; what the user froze counts as well.
    model = graph_keras.write(_unfrozen(graph), kind)
    function = importlib.import_module(kind).losses.get(loss)
    names, variables = [], []
    for layer, named in graph_keras.variables(graph, model).items():
        for weight, variable in named.items():
            if weight not in graph.layers[layer].state:
                names.append((layer, weight))
                variables.append(_tensor(variable))
    sums = [np.zeros(tuple(variable.shape)) for variable in variables]
    for batch in batches:
        if not isinstance(batch, tuple) or len(batch) < 2:
            raise errors.ConfigError(
                "Gradients need targets: data must give (inputs, targets) pairs."
            )
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(function(batch[1], model(batch[0], training=False)))
        found = tape.gradient(
            value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        for total, gradient in zip(sums, found, strict=True):
            total += np.asarray(gradient)
    result: dict[str, dict[str, ir.Array]] = {}
    for (layer, weight), total in zip(names, sums, strict=True):
        result.setdefault(layer, {})[weight] = total / len(batches)
    return result


def _tensor(variable: Any) -> Any:
    """Returns the TensorFlow variable, which Keras 3 keeps inside its own."""
    return variable if callable(variable.value) else variable.value


def _unfrozen(graph: ir.Graph) -> ir.Graph:
    return graph.with_layers(
        {
            name: dataclasses.replace(layer, trainable=True)
            for name, layer in graph.layers.items()
            if layer.weights and layer.op != "Constant"
        }
    )
