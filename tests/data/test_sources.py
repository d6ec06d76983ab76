import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from tfslim import data, errors


def _all_inputs(examples):
    return np.stack(list(examples.inputs(np.arange(len(examples)))))


def _write_images(folder, count, *, size=(6, 5), seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        _write_images(tmp_path / name, 10, size=(6 + number, 5), seed=number)
    return tmp_path


def test_data_needs_no_tensorflow():
    code = (
        "import sys, tfslim.data; tfslim.data.load('digits'); "
        "print([m for m in ('tensorflow', 'keras', 'tf_keras') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_digits_are_scikit_learns():
    dataset = data.load("digits", seed=1)
    assert dataset.name == "digits"
    parts = (dataset.train, dataset.validation, dataset.test)
    images = np.concatenate([_all_inputs(part) for part in parts])
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8
    targets = np.concatenate([part.targets for part in parts])
    # 0..16 became 0..255 without loss; every digit is there once with its label.
    restored = np.round(images[..., 0] / 255 * 16)
    raw = datasets.load_digits()
    ours = sorted((x.tobytes(), y) for x, y in zip(restored, targets, strict=True))
    theirs = sorted(
        (x.tobytes(), y) for x, y in zip(raw.images, raw.target, strict=True)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("synthetic:classes=3,size=9,channels=1,examples=60", (9, 9, 1)),
        ("synthetic", (32, 32, 3)),
    ],
)
def test_synthetic_is_seeded_balanced_and_disjoint(spec, shape):
    first, again, other = (data.load(spec, seed=seed) for seed in (0, 0, 1))
    assert _all_inputs(first.train).shape[1:] == shape
    np.testing.assert_array_equal(_all_inputs(first.test), _all_inputs(again.test))
    assert not np.array_equal(_all_inputs(first.test), _all_inputs(other.test))
    counts = np.bincount(first.train.targets)
    assert len(counts) == len(first.class_names) and np.ptp(counts) <= 2


def test_synthetic_classes_are_told_apart_by_the_nearest_mean():
    dataset = data.load("synthetic:classes=4,size=16,examples=200")
    x = _all_inputs(dataset.train).reshape(len(dataset.train), -1).astype(float)
    means = np.stack([x[dataset.train.targets == k].mean(0) for k in range(4)])
    test = _all_inputs(dataset.test).reshape(len(dataset.test), -1)
    nearest = ((test[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == dataset.test.targets).mean() > 0.95


def test_synthetic_sum():
    dataset = data.load("synthetic:sum,examples=50")
    x, y = _all_inputs(dataset.train), dataset.train.targets
    assert dataset.task == "regression" and dataset.class_names == ()
    np.testing.assert_allclose(y, x[:, :1] + x[:, 1:])
    assert x.min() >= 0 and x.max() <= 1 and len(x) == 35


def test_folder_without_splits(photos):
    (photos / "dog" / "notes.txt").write_text("no image")
    dataset = data.load(f"folder:{photos}")
    assert dataset.class_names == ("cat", "dog")
    sizes = [len(p) for p in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [14, 2, 4]
    assert np.bincount(dataset.test.targets).tolist() == [2, 2]
    # The rows of a picture are those that its class was written with.
    for image, label in zip(
        dataset.train.inputs(np.arange(14)), dataset.train.targets, strict=True
    ):
        assert image.shape == (6 + label, 5, 3)


@pytest.mark.parametrize(
    ("held_out", "sizes"),
    [(["val"], [9, 1, 4]), (["validation", "test"], [10, 4, 4]), ([], [7, 1, 2])],
)
def test_folder_with_splits(tmp_path, held_out, sizes):
    for split in ("train", *held_out):
        for name in ("a", "b"):
            _write_images(tmp_path / split / name, 5 if split == "train" else 2)
    dataset = data.load(f"folder:{tmp_path}")
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == sizes
    assert dataset.class_names == ("a", "b")


def test_path_may_hold_variables(photos, monkeypatch):
    monkeypatch.setenv("PHOTOS", str(photos))
    assert len(data.load("folder:$PHOTOS").train) == 14


def test_corrupt_image_is_named_and_skipped_only_if_asked(photos):
    bad = photos / "cat" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    dataset = data.load(f"folder:{photos}")
    with pytest.raises(errors.DataError, match=r"cat/3\.png cannot be read") as caught:
        for part in (dataset.train, dataset.validation, dataset.test):
            part.inputs(np.arange(len(part)))
    assert "\n" not in str(caught.value)
    dataset = data.load(f"folder:{photos}", skip_corrupt=True)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert sum(len(part) for part in parts) == 19
    assert len(dataset.skipped) == 1 and "cat/3.png" in dataset.skipped[0]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 7, [7]),
        ("1", 1, [255]),
        ("I;16", 257 * 9, [9]),
        ("RGBA", (1, 2, 3, 4), [1, 2, 3]),
        ("P", 0, None),
    ],
)
def test_every_kind_of_image_becomes_grey_or_rgb(tmp_path, mode, value, expected):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new(mode, (4, 3), value).save(tmp_path / name / f"{index}.png")
    image = data.load(f"folder:{tmp_path}").train.inputs([0])[0]
    assert image.dtype == np.uint8 and image.shape[:2] == (3, 4)
    if expected is None:
        assert image.shape[2] == 3
    else:
        np.testing.assert_array_equal(image[0, 0], expected)


def test_npz_with_all_splits(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 5, 4)).astype(np.uint8)
        arrays[f"y_{split}"] = np.arange(count).reshape(-1, 1) % 3
    np.savez(tmp_path / "a.npz", **arrays)
    dataset = data.load(f"npz:{tmp_path / 'a.npz'}")
    np.testing.assert_array_equal(
        _all_inputs(dataset.validation)[..., 0], arrays["x_val"]
    )
    np.testing.assert_array_equal(dataset.test.targets, [0, 1, 2, 0])
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.task == "classification" and dataset.notes == ()


def test_npz_regression_one_hot_and_names(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3))
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=x.sum(1))
    dataset = data.load(f"npz:{path}")
    assert dataset.task == "regression" and dataset.train.targets.shape == (14, 1)
    labels = np.arange(20) % 4
    np.savez(path, x_train=x, y_train=np.eye(4)[labels], class_names=list("abcd"))
    dataset = data.load(f"npz:{path}")
    assert dataset.class_names == tuple("abcd")
    for part in (dataset.train, dataset.validation, dataset.test):
        rows = [np.flatnonzero((x == row).all(1)).item() for row in _all_inputs(part)]
        np.testing.assert_array_equal(part.targets, labels[rows])


def test_npz_in_0_to_1_is_noted(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.random.rand(20, 4, 4, 1), y_train=np.arange(20) % 2)  # noqa: NPY002
    (note,) = data.load(f"npz:{path}").notes
    assert "'raw'" in note


class _Spy:
    """Would leave a trace if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_npz_never_unpickles(tmp_path):
    trace = tmp_path / "trace"
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.array([_Spy(trace)]), y_train=np.zeros(1, int))
    with pytest.raises(errors.DataError, match="pickled Python objects"):
        data.load(f"npz:{path}")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(2)}, "needs inputs, x_train .* it has y"),
        ({"x_train": np.zeros((2, 2)), "y_train": np.zeros(3)}, "2 examples have 3"),
        ({"x_train": np.zeros((2, 2)), "y_train": np.array([-1, 0])}, "from 0"),
        ({"x_train": np.array(["a"]), "y_train": np.zeros(1)}, "expected numbers"),
        ({"x_train": np.full((2, 2), np.nan), "y_train": np.zeros(2)}, "not finite"),
        (
            {
                "x_train": np.zeros((20, 2)),
                "y_train": np.arange(20),
                "class_names": "a",
            },
            "names 1 classes",
        ),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": np.zeros(9),
                "x_test": np.zeros(1),
            },
            "no y_test",
        ),
    ],
)
def test_npz_errors_are_one_line(tmp_path, arrays, message):
    if "class_names" in arrays:
        arrays = arrays | {"class_names": np.array(["a"])}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(errors.DataError, match=message) as caught:
        data.load(f"npz:{tmp_path / 'a.npz'}")
    assert "\n" not in str(caught.value)


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 garbage")
    with pytest.raises(errors.DataError, match=r"a\.npz"):
        data.load(f"npz:{path}")
    path.write_bytes(b"hello")
    with pytest.raises(errors.DataError, match=r"a\.npz"):
        data.load(f"npz:{path}")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(errors.DataError, match="single array"):
        data.load(f"npz:{tmp_path / 'b.npy'}")


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("digist", errors.ConfigError, "Did you mean 'digits'"),
        ("digits:8", errors.ConfigError, "takes no argument"),
        ("folder", errors.ConfigError, "needs a path"),
        ("folder:/nowhere", errors.ConfigError, "/nowhere does not exist"),
        ("npz:/nowhere.npz", errors.ConfigError, "does not exist"),
        ("synthetic:clases=3", errors.ConfigError, "Did you mean 'classes'"),
        ("synthetic:size=x", errors.ConfigError, "whole number above 0"),
        ("tfds", errors.ConfigError, "needs a name"),
    ],
)
def test_what_cannot_be_had_is_one_line(spec, kind, message):
    with pytest.raises(kind, match=message) as caught:
        data.load(spec)
    assert "\n" not in str(caught.value)


def test_folder_errors(tmp_path):
    with pytest.raises(errors.DataError, match="no sub-folders"):
        data.load(f"folder:{tmp_path}")
    _write_images(tmp_path / "cat", 3)
    (tmp_path / "dog").mkdir()
    with pytest.raises(errors.DataError, match="dog has no readable images"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(errors.ConfigError, match="is not a folder"):
        data.load(f"folder:{tmp_path / 'cat' / '0.png'}")


def test_folder_with_a_class_unknown_to_training(tmp_path):
    _write_images(tmp_path / "train" / "cat", 3)
    _write_images(tmp_path / "val" / "dgo", 3)
    with pytest.raises(errors.DataError, match="dgo is a class that the training"):
        data.load(f"folder:{tmp_path}")
