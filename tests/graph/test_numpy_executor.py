"""The executor that the property tests trust is itself checked against Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras

from tests import numpy_executor
from tests.graph import models
from tfslim.graph import keras as graph_keras


def _more_layers(k):
    x = y = k.Input((9, 8, 4))
    y = k.layers.ZeroPadding2D(((1, 0), (0, 2)))(y)
    y = k.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu6")(y)
    y = k.layers.MaxPooling2D(2, strides=1, padding="same")(y)
    y = k.layers.Conv2D(6, 3, dilation_rate=2, padding="same", groups=3)(y)
    a = k.layers.Conv2DTranspose(5, 3, strides=2, padding="same")(y)
    b = k.layers.Conv2DTranspose(5, 2, strides=3)(y)[:, :10, :10]
    c = k.layers.UpSampling2D(2)(k.layers.DepthwiseConv2D(3, padding="same")(y))
    c = k.layers.Conv2D(5, 1)(c)
    y = k.layers.Average()([a, b, c])
    y = k.layers.AveragePooling2D(3, strides=2, padding="same")(y)
    gate = k.layers.Dense(5, activation="sigmoid")(
        k.layers.GlobalMaxPooling2D(keepdims=True)(y)
    )
    y = k.layers.Maximum()([y * gate, k.layers.Subtract()([y, gate])])
    y = k.layers.Permute((2, 1, 3))(y)
    return k.Model(x, k.layers.Dense(3, activation="softmax")(k.layers.Flatten()(y)))


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize(
    "build",
    [
        lambda: models.layers(tf_keras),
        lambda: models.nested(keras),
        lambda: _more_layers(tf_keras),
        lambda: _more_layers(keras),
    ],
    ids=["layers", "nested", "more_tf_keras", "more_keras"],
)
def test_executor_agrees_with_keras(build):
    model = models.randomize(build())
    graph = graph_keras.read(model)
    inputs = models.random_inputs(model)
    flat = [inputs[n] for n in sorted(inputs)] if isinstance(inputs, dict) else [inputs]
    results = numpy_executor.execute(graph, flat)
    for wanted, got in zip(models.outputs(model, inputs), results, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
