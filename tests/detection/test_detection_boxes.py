"""Boxes against Darknet's formulas written out, one number after the other."""

import math

import numpy as np
import pytest

from tfslim import errors
from tfslim.detection import Head, Letterbox, decode, decode_likely
from tfslim.detection.boxes import iou

HEADS = (Head(((10, 14), (23, 27)), 32, 3), Head(((4, 5), (6, 7), (8, 3)), 16, 3))
SHAPES = ((2, 3), (4, 6))


def _maps(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(0, 2, (batch, *shape, head.num_channels)).astype(np.float32)
        for shape, head in zip(SHAPES, HEADS, strict=True)
    ]


def _logistic(x):
    return 1.0 / (1.0 + math.exp(-float(x)))


def _darknet(maps, heads, image):
    """yolo_layer.c: get_yolo_box and get_yolo_detections, in loops."""
    boxes, scores = [], []
    for x, head in zip(maps, heads, strict=True):
        height, width, _ = x[image].shape
        net_w, net_h = width * head.stride, height * head.stride
        for row in range(height):
            for column in range(width):
                for n, (anchor_w, anchor_h) in enumerate(head.anchors):
                    start = n * (5 + head.num_classes)
                    entry = x[image, row, column, start : start + 5 + head.num_classes]
                    centre_x = (column + _logistic(entry[0])) / width
                    centre_y = (row + _logistic(entry[1])) / height
                    w = math.exp(entry[2]) * anchor_w / net_w
                    h = math.exp(entry[3]) * anchor_h / net_h
                    low = centre_x - w / 2, centre_y - h / 2
                    boxes.append([*low, centre_x + w / 2, centre_y + h / 2])
                    seen = _logistic(entry[4])
                    scores.append([seen * _logistic(c) for c in entry[5:]])
    return np.array(boxes), np.array(scores)


def test_decoding_is_darknets():
    maps = _maps()
    boxes, scores = decode(maps, HEADS)
    assert boxes.shape == (2, 2 * 3 * 2 + 4 * 6 * 3, 4)
    assert scores.shape == (2, 84, 3)
    for image in range(2):
        wanted, certain = _darknet(maps, HEADS, image)
        np.testing.assert_allclose(boxes[image], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores[image], certain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_likely_boxes_are_those_of_all(threshold):
    maps = _maps(batch=1, seed=5)
    boxes, scores = decode(maps, HEADS)
    some, some_scores = decode_likely(maps, HEADS, threshold=threshold)
    seen = np.concatenate(
        [
            x.reshape(-1, 5 + head.num_classes)[:, 4]
            for x, head in zip(maps, HEADS, strict=True)
        ]
    )
    mine = 1 / (1 + np.exp(-seen)) > threshold
    assert 0 < mine.sum() <= 84
    np.testing.assert_array_equal(some, boxes[0][mine])
    np.testing.assert_array_equal(some_scores, scores[0][mine])
    assert not (scores[0][~mine] > threshold).any()


def test_wild_numbers_are_no_warnings_and_no_objects():
    maps = [np.full_like(x, value) for x in _maps(1)[:1] for value in (1e4, np.nan)]
    boxes, scores = decode(maps[:1], HEADS[:1])
    assert np.isinf(boxes).any()
    np.testing.assert_array_equal(scores, 1.0)
    assert len(decode_likely(maps[1:], HEADS[:1], threshold=0.1)[0]) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda maps: maps[:1],
        lambda maps: maps[::-1],
        lambda maps: [maps[0], maps[1][..., :-1]],
        lambda maps: [maps[0], maps[1][:, :-1]],
        lambda maps: [maps[0], maps[1][0]],
    ],
)
def test_maps_of_other_heads_are_refused(change):
    with pytest.raises(errors.ConfigError, match="of one image for the heads"):
        decode(change(_maps()), HEADS)


def test_one_image_at_a_time_where_cells_are_chosen():
    with pytest.raises(errors.ConfigError, match="maps of one image, got 2"):
        decode_likely(_maps(2), HEADS, threshold=0.5)


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0], [5, 5, 4, 4]], float)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [9, 9, 9, 9]], float)
    # Common 1 of 4 + 4 - 1; equal; apart. Empty and turned boxes overlap nothing.
    np.testing.assert_allclose(iou(a, b), [[1 / 7, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert iou(a[:0], b).shape == (0, 3)


def _correct_yolo_boxes(box, w, h, netw, neth):
    """Darknet's function of that name, of centre and size as shares, as it stands."""
    x, y, bw, bh = box
    if netw / w < neth / h:
        new_w, new_h = netw, (h * netw) // w
    else:
        new_h, new_w = neth, (w * neth) // h
    x = (x - (netw - new_w) / 2.0 / netw) / (new_w / netw)
    y = (y - (neth - new_h) / 2.0 / neth) / (new_h / neth)
    return x, y, bw * netw / new_w, bh * neth / new_h


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((432, 768), (416, 416)),
        ((768, 432), (416, 416)),
        ((100, 100), (64, 96)),
        ((70, 1000), (32, 32)),
        ((416, 416), (416, 416)),
    ],
)
def test_letterbox_there_and_back(image, size):
    fit = Letterbox(image, size)
    boxes = np.random.default_rng(0).uniform(size=(20, 4)).astype(np.float32)
    back = fit.to_image(fit.to_input(boxes))
    np.testing.assert_allclose(back, boxes, atol=2e-5)
    # A whole image is where its pixels are laid.
    top, left = fit.offset
    height, width = fit.scaled
    assert max(height / size[0], width / size[1]) == 1
    corners = fit.to_input(np.array([0.0, 0, 1, 1]))
    pixels = corners * [size[1], size[0], size[1], size[0]]
    np.testing.assert_allclose(pixels, [left, top, left + width, top + height], 1e-5)
    laid = fit.lay(np.ones((height, width, 3), np.uint8), 0)
    rows, columns = np.nonzero(laid[..., 0])
    assert (rows.min(), columns.min()) == (top, left)
    assert (rows.max() + 1, columns.max() + 1) == (top + height, left + width)
    for x, y, w, h in np.random.default_rng(1).uniform(0.2, 0.5, (5, 4)):
        found = fit.to_image(np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
        a, b, c, d = _correct_yolo_boxes((x, y, w, h), *image[::-1], *size[::-1])
        # Darknet takes half of an odd border, where the pixels are laid by whole ones.
        limit = 0.5 / min(height, width) + 1e-5
        wanted = [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
        np.testing.assert_allclose(found, wanted, atol=limit)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(errors.DataError, match="cannot be laid"):
        Letterbox((0, 5), (32, 32))
