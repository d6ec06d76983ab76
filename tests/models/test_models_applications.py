"""Outputs equal those of tf_keras.applications with the same random weights."""

import numpy as np
import pytest
import tf_keras
from random_weights import randomize

import tfslim
from tfslim.models.registry import model_spec

CASES = [
    ("vgg16", (32, 40, 3), {}),
    ("mobilenet_v1", (32, 32, 3), {"alpha": 0.25}),
    ("mobilenet_v1", (45, 35, 3), {"alpha": 0.35}),
    ("mobilenet_v1", (64, 33, 1), {"alpha": 1.0}),
    ("mobilenet_v2", (32, 32, 3), {"alpha": 0.35}),
    ("mobilenet_v2", (45, 35, 1), {"alpha": 1.4}),
    ("mobilenet_v3_small", (32, 32, 3), {}),
    ("mobilenet_v3_small", (45, 35, 3), {"alpha": 0.35}),
    ("mobilenet_v3_small", (32, 32, 1), {"minimalistic": True, "alpha": 1.3}),
    (
        "mobilenet_v3_large",
        (45, 64, 3),
        {"alpha": 0.75, "include_preprocessing": False},
    ),
    ("mobilenet_v3_large", (32, 32, 3), {"minimalistic": True}),
]


def _reference(name, shape, options):
    application = getattr(tf_keras.applications, model_spec(name).applications)
    return application(
        weights=None,
        input_shape=shape,
        classes=7,
        classifier_activation=None,
        **options,
    )


def _weighted_layers(model):
    # Keras 3 allows no "/" in a name, and calls these layers as we do.
    return [
        layer.name.lower().replace("/", "_").replace("batchnorm", "bn")
        for layer in model.layers
        if layer.weights
    ]


# Of each network one form; the others are too slow for every day.
_FIRST = {name: index for index, (name, *_) in reversed([*enumerate(CASES)])}
# Their small sister has the same blocks.
_FIRST["mobilenet_v3_large"] = None


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        pytest.param(*case, marks=[] if _FIRST[case[0]] == i else pytest.mark.slow)
        for i, case in enumerate(CASES)
    ],
)
def test_same_layers_and_same_outputs(name, shape, options):
    reference = _reference(name, shape, options)
    randomize(reference)
    ours = tfslim.build_model(
        name, input_shape=shape, num_classes=7, classifier_activation=None, **options
    )
    assert _weighted_layers(ours) == _weighted_layers(reference)
    ours.set_weights(reference.get_weights())
    x = np.random.default_rng(1).uniform(0, 255, size=(2, *shape)).astype(np.float32)
    if model_spec(name, **options).preprocessing != "raw":
        x = x / 127.5 - 1
    expected = reference(x).numpy()
    # The two images differ, so that a network that ignores its input would not pass.
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max()
    error = np.abs(ours(x).numpy() - expected).max() / np.abs(expected).max()
    assert error < 1e-6
