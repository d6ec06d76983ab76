"""Models of strangers are opened, pruned by 30%, converted, and run."""

import os
from pathlib import Path

import numpy as np
import pytest

import tfslim
from tfslim import tflite
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget

FILES = [
    "pretrainedResnet.h5",
    "vww_96.h5",
    "ad01.h5",
    "kws_saved_model",
    "keras_model.h5",
    "mini_xception.hdf5",
]


@pytest.mark.parametrize(
    "name",
    [
        # Each of these takes as long as all others.
        pytest.param(
            n,
            marks=[pytest.mark.slow]
            if n in ("keras_model.h5", "mini_xception.hdf5")
            else [],
        )
        for n in FILES
    ],
)
def test_open_prune_convert(name):
    if "TFSLIM_DATA" not in os.environ:
        pytest.skip("TFSLIM_DATA is not set")
    path = Path(os.environ["TFSLIM_DATA"]) / "models" / "keras" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = tfslim.load_model(path)
    smaller, report = tfslim.prune_channels(
        model, budget=budget.Budget(pruning_ratio=0.3, divisor=1)
    )
    before = count.count(graph_keras.read(model))
    after = count.count(graph_keras.read(smaller))
    assert report.error < 1e-4
    assert after.params < 0.75 * before.params
    assert after.macs < 0.75 * before.macs
    assert smaller.output_shape == model.output_shape
    converted = tfslim.convert_model(smaller).tflite
    x = np.random.default_rng(0).uniform(size=(1, *model.input_shape[1:]))
    x = x.astype(np.float32)
    expected = np.asarray(smaller(x, training=False))
    [found] = tflite.run(converted, x).values()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
