"""Small models of either Keras that together use what the graph must read."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
import tf_keras


def randomize(model, seed=0):
    """Gives every weight a random value; variances stay positive."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        value = rng.normal(scale=0.3, size=tuple(weight.shape))
        is_variance = "variance" in getattr(weight, "path", weight.name)
        values.append(np.abs(value) + 0.5 if is_variance else value)
    model.set_weights(values)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # It computes with copies of its weights.
    return model


def layers(k):
    """Many layers, and activations that differ between the two Keras."""
    x = y = k.Input((16, 16, 3), name="image")
    y = k.layers.Rescaling(1 / 127.5, offset=-1.0)(y)
    y = k.layers.Conv2D(8, 3, activation="hard_sigmoid")(y)
    y = k.layers.DepthwiseConv2D(3, padding="same", activation="swish")(y)
    y = k.layers.SeparableConv2D(8, 3)(y)
    y = k.layers.LeakyReLU()(y)
    y = k.layers.PReLU(shared_axes=[1, 2])(y)
    y = k.layers.Conv2D(8, 1, groups=4, activation="gelu")(y)
    y = k.layers.LayerNormalization()(y)
    y = k.layers.BatchNormalization(axis=3)(y)
    y = k.layers.ReLU(6.0)(y)
    y = k.layers.Conv2DTranspose(4, 3, strides=2)(y)
    y = k.layers.UpSampling2D()(y)
    y = k.layers.Activation("hard_sigmoid")(y)
    y = k.layers.Dropout(0.3)(y)
    y = k.layers.GlobalAveragePooling2D(keepdims=True)(y)
    y = k.layers.Reshape((-1,))(y)
    y = k.layers.Dense(3, activation="softmax", kernel_regularizer="l2")(y)
    return k.Model(x, y, name="layers")


def nested(k):
    """Nested and shared models, two inputs, a dict of outputs, equal names."""
    a, b = k.Input((8,), name="a"), k.Input((8,), name="b")
    inner = k.Sequential(
        [
            k.Input((8,)),
            k.layers.Dense(8, name="dense"),
            k.layers.BatchNormalization(),
            k.layers.Dropout(0.5),
        ],
        name="inner",
    )
    i = k.Input((8,))
    hidden = k.layers.Dense(4, name="dense")(i)
    two = k.Model(i, [hidden, k.layers.Dense(3, name="last")(hidden)], name="two")
    shared = k.layers.Dense(8, name="shared")
    u, v = shared(inner(a, training=False)), shared(b)
    (p, q), (r, s) = two(u), two(v)
    outputs = {
        "joined": k.layers.Concatenate()([p, r]),
        "added": k.layers.Add()([q, s]),
        "squared": k.layers.Multiply()([u, u]),
    }
    return k.Model({"a": a, "b": b}, outputs, name="nested")


def tf_functions(k=tf_keras):
    """TensorFlow functions on tf_keras tensors."""
    x = k.Input((8, 8, 4))
    y = k.layers.Conv2D(4, 3)(x)
    z = tf.nn.relu6(y * y + 3.0)
    z = tf.pad(z, [[0, 0], [1, 1], [0, 0], [0, 0]])
    z = tf.image.resize(z, (6, 6), method="nearest")
    z = tf.transpose(z, [0, 2, 1, 3])
    z = tf.clip_by_value(z, 0.1, 4.0) * np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    a, b = tf.split(tf.reshape(z, (-1, 6 * 6 * 4)), 2, axis=1)
    mean = tf.reduce_mean(y, [1, 2])[:, :1]
    z = 1.0 - tf.concat([b, a], axis=-1) + mean
    z = tf.squeeze(tf.expand_dims(tf.sigmoid(z), 1), 1)
    z = tf.nn.silu(z) / tf.maximum(tf.math.square(z), 0.5)
    return k.Model(x, k.layers.BatchNormalization()(z, training=False))


def keras_ops(k=keras):
    """The same in keras.ops on Keras 3 tensors."""
    x = k.Input((8, 8, 4))
    y = k.layers.Conv2D(4, 3)(x)
    z = k.ops.relu6(y * y + 3.0)
    z = k.ops.pad(z, [[0, 0], [1, 1], [0, 0], [0, 0]])
    z = k.ops.image.resize(z, (6, 6), interpolation="nearest")
    z = k.ops.transpose(z, [0, 2, 1, 3])
    z = k.ops.clip(z, 0.1, 4.0) * np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    a, b = k.ops.split(k.ops.reshape(z, (-1, 6 * 6 * 4)), 2, axis=1)
    mean = k.ops.mean(y, [1, 2])[:, :1]
    z = 1.0 - k.ops.concatenate([b, a], axis=-1) + mean
    z = k.ops.squeeze(k.ops.expand_dims(k.ops.sigmoid(z), 1), 1)
    z = k.ops.hard_silu(z) / k.ops.maximum(k.ops.square(z), 0.5)
    return k.Model(x, k.layers.BatchNormalization()(z, training=False))


MODELS = {
    "layers_tf_keras": lambda: layers(tf_keras),
    "layers_keras": lambda: layers(keras),
    "nested_tf_keras": lambda: nested(tf_keras),
    "nested_keras": lambda: nested(keras),
    "tf_functions": tf_functions,
    "keras_ops": keras_ops,
}


def random_inputs(model, batch=3, seed=1):
    """Returns one random array per input, nested as the model takes them."""
    rng = np.random.default_rng(seed)

    def draw(tensor):
        return rng.uniform(-1, 1, (batch, *tensor.shape[1:])).astype("float32")

    if isinstance(model.input, dict):
        return {name: draw(tensor) for name, tensor in model.input.items()}
    if isinstance(model.input, list):
        return [draw(tensor) for tensor in model.input]
    return draw(model.input)


def outputs(model, inputs, **kwargs):
    """Returns the outputs as a flat list of arrays."""
    return [np.asarray(t) for t in tf.nest.flatten(model(inputs, **kwargs))]
