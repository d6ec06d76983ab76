import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfslim import data, errors
from tfslim.preprocessing import preset

REAL = os.environ.get("TFSLIM_DATA")
pytestmark = pytest.mark.skipif(not REAL, reason="TFSLIM_DATA is not set")


def test_cifar10_npz():
    dataset = data.load("npz:$TFSLIM_DATA/cifar10/cifar10_12k.npz")
    sizes = [len(p) for p in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [10800, 1200, 2500]
    assert dataset.class_names[:2] == ("airplane", "automobile")
    # The first test image of CIFAR-10 is a cat, the second a ship.
    assert [dataset.class_names[k] for k in dataset.test.targets[:2]] == ["cat", "ship"]
    x, _ = next(data.batches(dataset.test, preset("torch", (32, 32, 3)), batch_size=8))
    assert x.shape == (8, 32, 32, 3) and -3 < x.min() < x.max() < 3


def test_flowers_folder():
    dataset = data.load("folder:$TFSLIM_DATA/flowers")
    assert len(dataset.train) + len(dataset.validation) == 2934
    assert len(dataset.test) == 736 and len(dataset.class_names) == 5
    x, y = next(
        data.batches(dataset.test, preset("symmetric", (96, 96, 3)), batch_size=4)
    )
    assert x.shape == (4, 96, 96, 3) and x.min() >= -1 and x.max() <= 1
    assert y.tolist() == [0] * 4


def test_tfds_without_network_ends_in_seconds(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    # A proxy that refuses every connection stands for a machine without a network.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(errors.DataError, match="no connection to it") as caught:
        data.load("tfds:mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(errors.ConfigError, match="Did you mean 'mnist'"):
        data.load("tfds:mnits", data_dir=tmp_path)


@pytest.mark.slow
def test_mnist_builds_from_its_archives(tmp_path, capfd):
    pytest.importorskip("tensorflow_datasets")
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for archive in (Path(REAL) / "mnist").glob("*.gz"):
        shutil.copy(archive, manual)
    for _ in range(2):  # Built, then read from what was built.
        dataset = data.load("tfds:mnist", data_dir=tmp_path)
        sizes = [len(p) for p in (dataset.train, dataset.validation, dataset.test)]
        assert sizes == [54000, 6000, 10000]
    assert capfd.readouterr().out == ""
    with gzip.open(manual / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    ours = np.stack(list(dataset.test.inputs(np.arange(10000))))[..., 0]
    # TensorFlow Datasets shuffles while it builds.
    assert sorted(x.tobytes() for x in ours) == sorted(x.tobytes() for x in raw)
