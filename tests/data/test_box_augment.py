"""Boxes after an augmentation against the pixels that they were drawn around."""

import dataclasses

import numpy as np
import pytest

from tfslim import data, errors, tasks
from tfslim.data import augment, box_augment
from tfslim.data.boxes import pad_boxes
from tfslim.data.tf_data import to_tf_data
from tfslim.preprocessing import preset

TASK = dataclasses.replace(tasks.TASKS.get("regression"), has_boxes=True)
# Pixels (x_min, y_min, x_max, y_max) of bright rectangles, one a colour channel.
RECTANGLES = ((10, 20, 40, 30), (50, 5, 70, 55), (5, 40, 15, 58))
WIDTH, HEIGHT = 80, 60


def _scene():
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for channel, (x0, y0, x1, y1) in enumerate(RECTANGLES):
        image[y0:y1, x0:x1, channel] = 1.0
    rows = np.array([(*r, k) for k, r in enumerate(RECTANGLES)], np.float32)
    rows[:, :4] /= (WIDTH, HEIGHT, WIDTH, HEIGHT)
    return image, pad_boxes([rows], 5)[0]


@pytest.mark.parametrize("name", ["flip", "zoom"])
def test_boxes_follow_the_pixels(name):
    image, boxes = _scene()
    step = box_augment.BOX_AUGMENTATIONS[name]
    seen, dropped = set(), 0
    for seed in range(60):
        moved, found = step(image, boxes, np.random.default_rng(seed))
        assert moved.shape == image.shape and moved.dtype == np.float32
        assert found.shape == boxes.shape and (found[3:, 4] == -1).all()
        seen.add(found.tobytes())
        for channel in range(3):
            bright = moved[..., channel] > 0.5
            if found[channel, 4] < 0:
                dropped += 1
                assert not found[channel, :4].any()
                continue
            assert found[channel, 4] == channel
            rows, columns = np.nonzero(bright)
            extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            corners = found[channel, :4] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
            np.testing.assert_allclose(corners, extent, atol=1.0)
    assert len(seen) == (2 if name == "flip" else 60)
    # Some windows cut the narrow rectangle off.
    assert (dropped > 0) == (name == "zoom")


def test_dropped_boxes_are_hardly_visible():
    image, boxes = _scene()
    for seed in range(60):
        moved, found = box_augment.zoom(image, boxes, np.random.default_rng(seed))
        # The third rectangle's pixels against those at this zoom without a border.
        zoom_by = [
            (b[2] - b[0]) * WIDTH / (r[2] - r[0])
            for b, r in zip(found, RECTANGLES, strict=False)
            if 0 < b[0] and b[2] < 1 and b[4] >= 0
        ]
        if found[2, 4] < 0 and zoom_by:
            whole = 10 * 18 * zoom_by[0] ** 2
            assert (moved[..., 2] > 0.5).sum() < 0.45 * whole


def test_colour_keeps_boxes_and_grey_and_fits_any_preprocessing():
    image, boxes = _scene()
    rng = np.random.default_rng
    changed, same = box_augment.BOX_AUGMENTATIONS["colour"](image, boxes, rng(0))
    np.testing.assert_array_equal(same, boxes)
    assert not np.allclose(changed, image)
    # Scaled and moved before or after is the same.
    np.testing.assert_allclose(
        augment.colour(image * 255 - 100, rng(0)), changed * 255 - 100, atol=0.1
    )
    grey = augment.colour(np.full((4, 4, 3), 7.0, np.float32), rng(1))
    np.testing.assert_allclose(grey, 7.0)


def test_tf_data_moves_boxes_with_images():
    image, boxes = _scene()
    examples = data.ArrayExamples(np.stack([image * 255] * 6), np.stack([boxes] * 6))
    pre = preset("unit", image.shape)

    def read(**options):
        dataset = to_tf_data(examples, pre, task=TASK, batch_size=3, **options)
        return [(x.numpy(), y.numpy()) for x, y in dataset]

    x, y = read(augment=["flip"], seed=3)[0]
    assert y.shape == (3, 5, 5) and y.dtype == np.float32
    is_flipped = [np.allclose(a[:, ::-1], image) for a in x]
    assert set(is_flipped) == {True, False}
    for flipped, rows in zip(is_flipped, y, strict=True):
        left = 1 - 40 / WIDTH if flipped else 10 / WIDTH
        assert rows[0, 0] == pytest.approx(left)
    again = read(augment=["flip"], seed=3)[0]
    np.testing.assert_array_equal(again[1], y)
    # The dataset itself is as before.
    np.testing.assert_array_equal(examples.targets[0], boxes)


def test_names_depend_on_the_targets():
    examples = data.ArrayExamples(np.zeros((2, 8, 8, 3)), np.zeros((2, 1, 5)))
    pre = preset("unit", (8, 8, 3))
    with pytest.raises(errors.ConfigError, match="augmentation 'shift'"):
        to_tf_data(examples, pre, task=TASK, augment=["shift"])
    with pytest.raises(errors.ConfigError, match="augmentation 'zoom'"):
        to_tf_data(examples, pre, task="regression", augment=["zoom"])
