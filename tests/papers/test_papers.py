"""The parts of the papers' scripts, and each script at its smallest (slow)."""

import json
import os

import numpy as np
import pytest
import tf_keras

import tfslim
from benchmarks import record
from benchmarks.papers import (
    paper_000_resnet18,
    paper_001_alexnet_int8,
    paper_003_vgg16_mnist,
    paper_004_mobilenets,
    runs,
)

needs_data = pytest.mark.skipif(
    not os.environ.get("TFSLIM_DATA"), reason="needs TFSLIM_DATA (docs/data.md)"
)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def _read(results, name):
    content = json.loads((results / f"{name}.json").read_text())
    assert content["name"] == name
    return content["rows"]


def test_rows_outlive_a_kill(results):
    calls = []

    def make():
        calls.append(1)
        return {"accuracy": 0.5}

    first = runs.Rows("papers/one", epochs=3, sizes=(1, 2))
    assert first.make(make, seed=0)["accuracy"] == 0.5
    # The same conditions: the row is there. A tuple is a list in JSON.
    again = runs.Rows("papers/one", epochs=3, sizes=(1, 2))
    assert again.make(make, seed=0)["seconds"] >= 0
    again.make(make, seed=1)
    assert len(calls) == 2
    assert [row["seed"] for row in _read(results, "papers/one")] == [0, 1]
    # Other conditions: begun anew.
    runs.Rows("papers/one", epochs=4, sizes=(1, 2)).make(make, seed=1)
    assert [row["seed"] for row in _read(results, "papers/one")] == [1]


def test_a_script_without_data_says_so(monkeypatch):
    monkeypatch.delenv("TFSLIM_DATA", raising=False)
    with pytest.raises(SystemExit, match="Set TFSLIM_DATA"):
        runs.data_folder()


@needs_data
def test_mnist_is_mnist():
    data = runs.mnist()
    labels = np.concatenate([data["train"][1], data["validation"][1]])
    # http://yann.lecun.com/exdb/mnist: 60,000 + 10,000, of the digit 1 the most.
    assert np.bincount(labels).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    assert np.bincount(data["test"][1])[1] == 1135
    assert data["test"][0].shape == (10_000, 32, 32, 1)
    assert (data["test"][0].min(), data["test"][0].max()) == (0.0, 1.0)


def test_images_are_moved_whatever_their_class():
    x = np.zeros((64, 32, 32, 1), np.float32)
    x[:, 16, 16] = np.arange(1, 65).reshape(64, 1)
    data = (x, np.zeros(64, np.int64))
    batch, labels = next(iter(paper_003_vgg16_mnist._stream(data, 0)))
    batch = batch.numpy()
    assert sorted(batch.sum((1, 2, 3))) == list(range(1, 65))
    _, rows, columns, _ = np.nonzero(batch)
    moves = {*zip(rows - 16, columns - 16, strict=True)}
    assert len(moves) > 10
    assert {abs(int(step)) for move in moves for step in move} == {0, 1, 2}
    assert labels.shape == (64,)


def test_a_file_is_as_good_as_its_model():
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 8)).astype(np.float32)
    inputs = tf_keras.Input((8,))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(inputs))
    labels = (x @ model.get_weights()[0]).argmax(1)
    labels[:10] = (labels[:10] + 1) % 3
    content = tfslim.convert_model(model).tflite
    assert runs.accuracy(model, (x, labels)) == 0.8
    assert runs.file_accuracy(content, (x, labels)) == 0.8
    assert runs.size(model) == {"params": 27, "macs": 24}
    assert set(runs.times({"a": content, "b": content}, rounds=1)) == {"a", "b"}


def _few(data, number):
    return {name: (x[:number], y[:number]) for name, (x, y) in data.items()}


@needs_data
@pytest.mark.slow
def test_resnet18_is_slimmed(results, tmp_path, monkeypatch):
    data = _few(paper_000_resnet18.cifar(), 128)
    monkeypatch.setattr(paper_000_resnet18, "cifar", lambda: data)
    scale = paper_000_resnet18.Scale(
        alpha=0.25, base_epochs=1, sparse_epochs=1, fine_tune_epochs=1
    )
    paper_000_resnet18.run(scale, [0], tmp_path)
    [row] = _read(results, "papers/paper_000_resnet18")
    assert row["macs_ratio"] >= 10.35 and row["params_ratio"] >= 9.46
    assert row["slim_int8_bytes"] < row["slim_float_bytes"] < row["whole_float_bytes"]


@needs_data
@pytest.mark.slow
def test_alexnet_is_quantized(results, tmp_path, monkeypatch):
    data = _few(runs.mnist(), 300)
    monkeypatch.setattr(runs, "mnist", lambda: data)
    scale = paper_001_alexnet_int8.Scale(pixels=64, images=64, epochs=1, test_images=20)
    paper_001_alexnet_int8.run(scale, [0], tmp_path)
    small, large, trained = _read(results, "papers/paper_001_alexnet")
    assert (small["pixels"], large["pixels"]) == (64, 224)
    assert trained["same_file_from_ranges"]
    assert trained["kl_bytes"] < trained["float_bytes"] / 3


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("method", paper_003_vgg16_mnist.METHODS)
def test_vgg16_goes_down_to_a_twentieth(results, tmp_path, monkeypatch, method):
    data = _few(runs.mnist(), 200)
    monkeypatch.setattr(runs, "mnist", lambda: data)
    scale = paper_003_vgg16_mnist.Scale(
        alpha=0.125, images=64, base_epochs=1, sparse_epochs=1, fine_tune_epochs=1
    )
    paper_003_vgg16_mnist.run(
        "paper_003", scale, seeds=[0], work_dir=tmp_path, methods=[method]
    )
    original, row = _read(results, "papers/paper_003")
    assert (original["method"], row["method"]) == ("original", method)
    assert 0.03 < row["params"] / original["params"] <= 0.05


@needs_data
@pytest.mark.slow
def test_mobilenets_are_compared(results, monkeypatch):
    data = _few(runs.flowers(32), 40)
    monkeypatch.setattr(runs, "flowers", lambda pixels: data)
    monkeypatch.setattr(paper_004_mobilenets, "BLOCKS", ((14, 16, 32),))
    scale = paper_004_mobilenets.Scale(alpha=0.25, pixels=32, epochs=1)
    paper_004_mobilenets.run(scale, [0], ["mobilenet_v3_small"])
    block, plain, small = _read(results, "papers/paper_004")
    # By hand: 9 x 16 + 16 x 32 of 9 x 16 x 32.
    assert block["macs_ratio"] == block["theory"] == round(656 / 4608, 4)
    assert plain["macs"] > small["macs"]
    assert 0 <= small["accuracy_int8"] <= 1
