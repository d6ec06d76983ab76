"""Made-up scenes: their boxes against the pixels, and their backgrounds."""

import numpy as np
import pytest
from PIL import Image

from tfslim import data, errors
from tfslim.data import shapes


@pytest.mark.parametrize("label", range(len(shapes.KINDS)))
def test_boxes_are_the_extent_of_the_pixels(label):
    rng = np.random.default_rng(label)
    for side in (0.1, 0.3, 0.6, 0.95):
        shape = shapes.random_shape(label, side, rng=rng)
        canvas = np.full((120, 120, 3), 128.0, np.float32)
        shapes.paint(canvas, shape, rng=rng)
        rows, columns = np.nonzero(np.abs(canvas - 128).max(axis=2) > 20)
        extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose(np.array(shape.box) * 120, extent, atol=1.6)
        x_min, y_min, x_max, y_max = shape.box
        assert max(x_max - x_min, y_max - y_min) == pytest.approx(side)
        assert min(shape.box) >= 0 and max(shape.box) <= 1


def test_kinds_differ_by_how_much_of_their_box_they_fill():
    filled = {}
    for name, outline in shapes.KINDS.items():
        x, y = outline.T
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        filled[name] = area / np.ptp(outline, axis=0).prod()
    # Closed forms; the square stands on a corner, the triangle on its side.
    assert filled["circle"] == pytest.approx(np.pi / 4, rel=0.01)
    assert filled["square"] == pytest.approx(0.5)
    assert filled["triangle"] == pytest.approx(0.5)
    assert filled["cross"] == pytest.approx(0.51)  # (2 * 0.6 * 2 - 0.36) / 4
    assert filled["star"] < 0.4


def test_scenes_are_seeded_whatever_the_order_of_reading():
    spec = "scenes:classes=3,size=48,examples=20,max_objects=4"
    one, same, other = (data.load(spec, seed=seed) for seed in (0, 0, 1))
    assert one.task == "detection"
    assert one.class_names == ("circle", "square", "triangle")
    assert [len(p) for p in (one.train, one.validation, one.test)] == [14, 2, 4]
    images = one.train.inputs([3, 0])
    assert images.shape == (2, 48, 48, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[::-1], same.train.inputs([0, 3]))
    np.testing.assert_array_equal(one.test.targets, same.test.targets)
    assert not np.array_equal(one.train.targets, other.train.targets)
    assert not np.array_equal(one.train.targets[:2], one.validation.targets)


def test_objects_are_many_whole_and_hardly_covered():
    targets = data.load("scenes:classes=5,size=32,examples=300").train.targets
    assert targets.shape[1:] == (5, 5)
    numbers = (targets[..., 4] >= 0).sum(axis=1)
    assert numbers.min() == 1 and set(numbers) == {1, 2, 3, 4, 5}
    assert set(targets[..., 4].ravel()) == {-1, 0, 1, 2, 3, 4}
    for rows in targets:
        boxes = rows[rows[:, 4] >= 0, :4]
        assert boxes.min() >= 0 and boxes.max() <= 1
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        low = np.maximum(boxes[:, None, :2], boxes[:, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
        common = np.maximum(high - low, 0).prod(axis=2)
        share = common / np.minimum(areas[:, None], areas)
        assert (share[~np.eye(len(boxes), dtype=bool)] <= 0.2 + 1e-5).all()


def test_photographs_are_backgrounds_of_one_split_only(tmp_path):
    colours = np.random.default_rng(0).permutation(np.arange(10, 250, 12))
    for index, grey in enumerate(colours):
        folder = tmp_path / str(index % 2)
        folder.mkdir(exist_ok=True)
        mode, value = ("L", int(grey)) if index % 3 else ("RGB", (int(grey),) * 3)
        Image.new(mode, (60 + index, 50), value).save(folder / f"{index}.png")
    dataset = data.load(f"scenes:size=32,examples=90,max_objects=2,photos={tmp_path}")
    seen = []
    for part in (dataset.train, dataset.validation, dataset.test):
        images = part.inputs(np.arange(len(part)))
        # The border is seldom covered: its median is the background.
        border = np.concatenate([images[:, 0], images[:, -1]], axis=1)
        seen.append({int(v) for v in np.median(border, axis=(1, 2))})
    assert all(part <= set(colours.tolist()) for part in seen)
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert len(seen[0]) >= 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("clases=3", "Did you mean 'classes'"),
        ("size=x", "whole number above 0, got 'x'"),
        ("classes=9", r"1 to 5 \(circle, square.*got 9"),
        ("size=16", "32 pixels or more"),
        ("photos=/nowhere", "/nowhere does not exist"),
        ("examples=2", "too few"),
    ],
)
def test_what_cannot_be_made_is_one_line(options, message):
    with pytest.raises(errors.TfslimError, match=message) as caught:
        data.load(f"scenes:{options}")
    assert "\n" not in str(caught.value)


def test_too_few_photographs(tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    with pytest.raises(errors.DataError, match="1 photographs; scenes need 3"):
        data.load(f"scenes:photos={tmp_path}")
