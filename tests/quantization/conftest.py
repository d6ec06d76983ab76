"""Small networks, converted once a session."""

import pytest
from small_models import convert


@pytest.fixture(scope="session")
def residual_keras():
    """Stride 2 'same', depthwise, residual add, mean, dense: all with biases."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(7)

    def bias(seed):
        return tf_keras.initializers.RandomUniform(-0.3, 0.3, seed=seed)

    x = inputs = tf_keras.Input((12, 12, 3), batch_size=1, name="image")
    x = layers.Conv2D(
        8, 3, 2, "same", activation="relu6", name="stem", bias_initializer=bias(1)
    )(x)
    y = layers.DepthwiseConv2D(
        3,
        1,
        "same",
        activation="relu",
        name="depthwise",
        bias_initializer=bias(2),
    )(x)
    y = layers.Conv2D(8, 1, name="project", bias_initializer=bias(3))(y)
    x = layers.Add(name="add")([x, y])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    outputs = layers.Dense(5, name="logits", bias_initializer=bias(4))(x)
    return tf_keras.Model(inputs, outputs)


@pytest.fixture(scope="session")
def residual(residual_keras):
    return convert(residual_keras)


@pytest.fixture(scope="session")
def mobile():
    """HARD_SWISH, squeeze-excite, softmax and weights that weigh something."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(3)

    def hard_swish(x):
        gate = layers.ReLU(6.0)(layers.Rescaling(1.0, 3.0)(x))
        return layers.Multiply()([x, layers.Rescaling(1 / 6)(gate)])

    x = inputs = tf_keras.Input((16, 16, 3), batch_size=1)
    x = hard_swish(layers.Conv2D(16, 3, 2, "same")(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = hard_swish(layers.Conv2D(64, 1)(layers.Multiply()([x, gate])))
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    outputs = layers.Dense(10, activation="softmax")(x)
    return convert(tf_keras.Model(inputs, outputs))
