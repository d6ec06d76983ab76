"""Data that calibrates: without labels, of several inputs, and labels that are none."""

import numpy as np
import pytest
from PIL import Image

from tfslim import data, errors


def photos(folder, count, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(
            folder / f"{index}.png"
        )
    return folder


def values(examples):
    """The first number of each example."""
    rows = examples.inputs(np.arange(len(examples)))
    return [float(np.ravel(row)[0]) for row in rows]


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return f"npz:{tmp_path / 'a.npz'}"


def test_a_flat_folder_of_photos(tmp_path):
    dataset = data.load(f"folder:{photos(tmp_path / 'flat', 20)}")
    assert not dataset.is_labelled and dataset.class_names == ()
    parts = [values(p) for p in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(value for part in parts for value in part) == list(range(20))
    assert min(map(len, parts)) > 0
    assert dataset.train.targets.shape == (len(dataset.train), 0)


def test_flat_folders_of_splits(tmp_path):
    photos(tmp_path / "train", 6)
    photos(tmp_path / "test", 3, first=6)
    dataset = data.load(f"folder:{tmp_path}")
    assert not dataset.is_labelled
    assert sorted(values(dataset.train)) == list(range(6))
    assert sorted(values(dataset.test)) == [6, 7, 8]


def test_a_photo_that_is_corrupt_can_be_left_out(tmp_path):
    folder = photos(tmp_path / "flat", 9)
    (folder / "bad.jpg").write_bytes(b"no image")
    dataset = data.load(f"folder:{folder}", skip_corrupt=True)
    assert "bad.jpg" in dataset.skipped[0]


def test_two_photos_serve_for_all(tmp_path):
    dataset = data.load(f"folder:{photos(tmp_path / 'few', 2)}")
    assert values(dataset.train) == values(dataset.test) == [0, 1]
    assert "2 examples only" in dataset.notes[0]


X = np.arange(40.0).reshape(20, 2)


@pytest.mark.parametrize(
    ("arrays", "train", "test"),
    [
        ({"x": X}, None, None),
        ({"images": X}, None, None),
        ({"x_train": X, "x_test": X[:5]}, X, X[:5]),
        ({"x_test": X}, None, None),
        ({"photos_train": X, "photos_val": X[:5]}, X, X[:5]),
    ],
)
def test_arrays_without_labels(tmp_path, arrays, train, test):
    dataset = data.load(saved(tmp_path, **arrays))
    assert not dataset.is_labelled
    if train is None:
        seen = values(dataset.train) + values(dataset.validation) + values(dataset.test)
        assert sorted(seen) == list(X[:, 0])
    else:
        assert values(dataset.train) == list(train[:, 0])
        assert values(dataset.test) == list(test[:, 0])


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("x", "label")])
def test_labels_beside_one_array(tmp_path, names):
    dataset = data.load(saved(tmp_path, **{names[0]: X, names[1]: np.arange(20) % 2}))
    assert dataset.is_labelled and dataset.class_names == ("0", "1")
    for part in (dataset.train, dataset.test):
        assert list(part.targets) == [v // 2 % 2 for v in values(part)]


def test_several_inputs_by_their_names(tmp_path):
    left, right = X, np.arange(20)
    spec = saved(
        tmp_path,
        left_train=left[:12],
        right_train=right[:12],
        left_test=left[12:],
        right_test=right[12:],
        y_train=np.arange(12) % 3,
        y_test=np.arange(8) % 3,
    )
    dataset = data.load(spec)
    found = dataset.test.inputs([2, 0])
    assert set(found) == {"left", "right"}
    np.testing.assert_array_equal(found["left"], left[[14, 12]])
    np.testing.assert_array_equal(found["right"], [14, 12])
    assert dataset.is_labelled and len(dataset.train) + len(dataset.validation) == 12
    unlabelled = data.load(saved(tmp_path, left=left, right=right))
    pair = unlabelled.train.inputs([0])
    assert pair["left"][0, 0] == 2 * pair["right"][0] and not unlabelled.is_labelled


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"class_names": "cat"}, "class_names is one value, cat"),
        ({"y_train": 1}, "y_train is one value, 1"),
        ({"x_test": 0.5}, "x_test is one value, 0.5"),
        ({"x_train": 3}, "x_train is one value"),
        ({"y_train": np.r_[np.zeros(19, int), 2**33]}, r"y_train\[19\] is 8589934592"),
        (
            {"y_train": np.r_[2**63 + 5, np.zeros(19, np.uint64)]},
            r"y_train\[0\] is 92233",
        ),
        ({"x_test": X[:5]}, "no y_test"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, message):
    given = {"x_train": X, "y_train": np.arange(20) % 2} | arrays
    with pytest.raises(errors.DataError, match=message) as caught:
        data.load(saved(tmp_path, **given))
    assert "\n" not in str(caught.value)


def test_a_yolo_label_that_is_an_id(tmp_path):
    photos(tmp_path / "images", 2)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text("8589934592 0.5 0.5 0.2 0.2\n")
    with pytest.raises(errors.DataError, match=r"0\.txt, line 1 is 8589934592"):
        data.load(f"yolo:{tmp_path}")


def test_parts_of_unequal_length(tmp_path):
    with pytest.raises(errors.DataError, match="'right' has 9 examples"):
        data.load(saved(tmp_path, left=X, right=X[:9]))
