"""Tiny networks for TF-MOT's methods, and how they are trained."""

from __future__ import annotations

import numpy as np
import tf_keras


def kinds(k=tf_keras):
    """One kernel of every kind that can be pruned, and one that cannot."""
    k.utils.set_random_seed(0)
    layers = k.layers
    x = inputs = k.Input((6, 6, 8))
    x = layers.Conv2D(12, 3, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)
    x = layers.Conv2DTranspose(6, 3, padding="same", name="transposed")(x)
    x = x * 2.0 + 1.0
    x = layers.Reshape((16, 6), name="reshape")(x)
    x = layers.Conv1D(8, 3, name="conv1d")(x)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return k.Model(inputs, layers.Dense(5, name="dense")(x))


def data(model, count=8):
    """Returns random inputs and targets of a model with one of each."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, *model.input_shape[1:])).astype(np.float32)
    y = random.normal(size=(count, *model.output_shape[1:])).astype(np.float32)
    return x, y


def fit(training, *, learning_rate=0.0, steps=4, graph=False):
    """Trains a wrapped model; at rate 0 the weights stay those of the start.

    A few steps take less time eagerly than the tracing of a graph does.
    """
    x, y = data(training.model, 2 * steps)
    training.model.compile(
        tf_keras.optimizers.SGD(learning_rate), "mse", run_eagerly=not graph
    )
    training.model.fit(x, y, batch_size=2, verbose=0, callbacks=training.callbacks)


def kernels(model):
    """Returns the kernels by layer as arrays, of separable ones the pointwise."""
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            name = getattr(variable, "path", variable.name).removesuffix(":0")
            if name.endswith("kernel"):
                found[layer.name] = np.asarray(variable)
    return found


def by_input(kernel, layer):
    """Returns a kernel as [positions, outputs, inputs]."""
    if not layer.startswith("transposed"):
        kernel = np.swapaxes(kernel, -1, -2)
    return kernel.reshape(-1, *kernel.shape[-2:])
