"""Suppression against brute force: every pair of boxes, in plain Python."""

import math

import numpy as np
import pytest

from tfslim import errors
from tfslim.detection import NmsOptions, nms


def _scene(seed, n=120, classes=3):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 1, (n, 2))
    half = rng.uniform(0.02, 0.25, (n, 2))
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    return boxes, rng.uniform(size=(n, classes)).astype(np.float32) ** 2


def _overlap(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return w * h / (sum(areas) - w * h)


def _brute_force(boxes, scores, options):
    """Of all that are left, take the best, lower or drop the rest; per class."""
    found = []
    for label in range(scores.shape[1]):
        left = [
            [float(scores[i, label]), i]
            for i in range(len(boxes))
            if scores[i, label] > options.score_threshold
        ]
        while left:
            best = max(left, key=lambda entry: entry[0])
            left.remove(best)
            found.append((best[0], label, best[1]))
            for entry in left:
                overlap = _overlap(boxes[best[1]], boxes[entry[1]])
                if options.method == "gaussian":
                    entry[0] *= math.exp(-(overlap**2) / options.sigma)
                elif overlap > options.iou_threshold:
                    entry[0] *= 0.0 if options.method == "hard" else 1 - overlap
            left = [entry for entry in left if entry[0] > options.score_threshold]
    return sorted(found, reverse=True)[: options.max_detections]


@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
@pytest.mark.parametrize("seed", range(5))
def test_nms_is_brute_force(method, seed):
    boxes, scores = _scene(seed)
    options = NmsOptions(method=method, score_threshold=0.2, max_detections=60)
    found = nms(boxes, scores, options)
    wanted = _brute_force(boxes, scores, options)
    assert 10 < len(found) == len(wanted) < 180
    np.testing.assert_allclose(found.scores, [w[0] for w in wanted], rtol=1e-5)
    np.testing.assert_array_equal(found.classes, [w[1] for w in wanted])
    np.testing.assert_array_equal(found.boxes, boxes[[w[2] for w in wanted]])


def test_by_hand():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 0.4, 1]], np.float32)
    scores = np.array([[0.5, 0.6], [0.8, 0.1], [0.3, 0.0]], np.float32)
    found = nms(boxes, scores)
    # Class 0: box 1 suppresses box 0 (overlap 0.9), not box 2 (0.37); class 1: box 0.
    np.testing.assert_allclose(found.scores, [0.8, 0.6, 0.3])
    np.testing.assert_array_equal(found.classes, [0, 1, 0])
    np.testing.assert_array_equal(found.boxes, boxes[[1, 0, 2]])


def test_equal_scores_keep_their_order_and_the_limits_hold():
    boxes = np.array([[i, 0, i + 1, 1] for i in range(9)], np.float32)
    scores = np.full((9, 1), 0.5, np.float32)
    found = nms(boxes, scores, NmsOptions(max_detections=4))
    np.testing.assert_array_equal(found.boxes, boxes[:4])
    found = nms(boxes, scores, NmsOptions(max_candidates=2))
    np.testing.assert_array_equal(found.boxes, boxes[:2])


def test_nothing_is_found_in_nothing():
    for boxes, scores in (
        (np.zeros((0, 4)), np.zeros((0, 3))),
        (np.zeros((5, 4)), np.zeros((5, 3))),
        (np.full((5, 4), np.nan), np.full((5, 3), np.nan)),
    ):
        found = nms(boxes, scores)
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gausian"}, "Did you mean 'gaussian'"),
        ({"score_threshold": 1.0}, "got 1.0"),
        ({"iou_threshold": 0.0}, r"iou_threshold must be in \(0, 1\], got 0.0"),
        ({"sigma": 0.0}, "above 0"),
        ({"max_detections": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_one_clear_line(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        NmsOptions(**options)
