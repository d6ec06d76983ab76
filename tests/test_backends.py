"""Keras 3 on JAX and torch: all works as with TensorFlow, or says what to set.

Each job runs in a process of its own, as Keras chooses its backend once. `pip install
jax`, or torch, and `make test-all` runs them.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

BACKENDS = ("jax", "torch")
_HEAD = """
import keras, numpy as np, pathlib, tempfile, tfslim
from tfslim import tasks
assert keras.backend.backend() == "<name>"
random = np.random.default_rng(0)
x = random.normal(size=(32, 8, 8, 3)).astype("float32")
y = random.integers(0, 3, 32)
batches = [(x[:16], y[:16]), (x[16:], y[16:])]
options = tfslim.FitOptions(epochs=1)
loss = "sparse_categorical_crossentropy"

def build():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    z = keras.layers.Conv2D(32, 3, use_bias=False)(image)
    z = keras.layers.ReLU()(keras.layers.BatchNormalization()(z))
    z = keras.layers.Conv2D(16, 3, activation="relu")(z)
    z = keras.layers.GlobalAveragePooling2D()(z)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(z))

def refused(function):
    try:
        function()
    except tfslim.TfslimError as error:
        assert "KERAS_BACKEND=tensorflow" in str(error), error
        assert "\\n" not in str(error)
        return
    raise AssertionError("was not refused")

model = build()
"""
JOBS = {
    "prune": """
        for criterion in ("l1_norm", "taylor", "fisher", "hessian_diag", "apoz"):
            smaller, report = tfslim.prune_channels(
                model, pruning_ratio=0.5, criterion=criterion, data=batches, loss=loss
            )
            assert report.error < 1e-4
            assert smaller.predict(x, verbose=0).shape == (32, 3)
            assert smaller.count_params() < model.count_params()
        fitted, _ = tfslim.reconstruct_kernels(
            model, smaller, keep=report.keep, data=[x]
        )
        assert fitted.count_params() == smaller.count_params()
    """,
    "functions": """
        image = keras.Input((8, 8, 3))
        z = keras.layers.Conv2D(8, 3)(image)
        z = keras.layers.Flatten()(keras.ops.where(z > 0, z, 0.1)[..., None])
        other = keras.Model(image, keras.layers.Dense(2)(z))
        smaller, report = tfslim.prune_channels(
            other, budget=tfslim.Budget(pruning_ratio=0.5, divisor=1)
        )
        assert smaller.count_params() < 0.6 * other.count_params()
        refused(lambda: tfslim.convert_model(other))
    """,
    "convert": """
        from tfslim import tflite
        done = tfslim.convert_model(model)
        [found] = tflite.Runner(done.tflite)(x[:1]).values()
        np.testing.assert_allclose(found, model.predict(x[:1], verbose=0), atol=1e-5)
    """,
    "train": """
        before = model.get_weights()[0]
        fitted = tfslim.fit(model, (x, y), task="classification", options=options)
        assert type(fitted.model).__module__.startswith("keras.")
        assert not np.array_equal(fitted.model.get_weights()[0], before)
        student, _ = tfslim.distill(build(), model, data=(x, y), options=options)
        slim, _ = tfslim.slim_network(
            build(), (x, y), pruning_ratio=0.5, options=options
        )
        assert slim.count_params() < model.count_params()
    """,
    "callbacks": """
        refused(lambda: model.compile(tfslim.optimizers.ProxSGD(model, 0.1), loss))
        model.compile("sgd", loss)
        slimming = tfslim.callbacks.NetworkSlimming(strength=1e-3)
        refused(lambda: model.fit(x, y, verbose=0, callbacks=[slimming]))
    """,
    "export": """
        with tempfile.TemporaryDirectory() as folder:
            result = tfslim.export_model(
                model, out_dir=folder, train_data=(x, y), eval_data=(x, y),
                config={"training": {"epochs": 1}},
            )
        assert not result["failed"]
        assert all(row["parity"]["sqnr_db"] > 15 for row in result["variants"])
    """,
    "words": """
        words = keras.Input((1,), dtype="string")
        z = keras.layers.StringLookup(vocabulary=["a"])(words)
        z = keras.layers.Flatten()(keras.layers.Embedding(3, 4)(z))
        done = tfslim.convert_model(keras.Model(words, keras.layers.Dense(2)(z)))
        assert done.tables.apply(np.array([["a"], ["z"]])).tolist() == [[1], [0]]
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", JOBS)
def test_job_on_a_backend(name, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = _HEAD.replace("<name>", backend)
    code += textwrap.dedent(JOBS[name])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
