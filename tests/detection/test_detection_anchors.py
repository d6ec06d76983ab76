"""Anchors of a dataset against clusters that were put there."""

import numpy as np
import pytest

from tfslim import errors
from tfslim.detection import YOLOV3_HEADS, YOLOV3_TINY_HEADS, Head, with_classes
from tfslim.detection.anchors import cluster_sizes, heads_for


def _targets(sizes, rng):
    """Boxes of these sizes (shares of the image) at random places, two an image."""
    low = rng.uniform(0, 1 - sizes)
    rows = np.concatenate([low, low + sizes, np.zeros((len(sizes), 1))], axis=1)
    rows = rows[rng.permutation(len(rows))].reshape(-1, 2, 5)
    empty = np.broadcast_to([0, 0, 0, 0, -1], (len(rows), 1, 5))
    return np.concatenate([rows, empty], axis=1).astype(np.float32)


def test_known_clusters_are_found_and_the_large_ones_go_to_the_coarse_head():
    rng = np.random.default_rng(0)
    centres = np.array(
        [(0.05, 0.1), (0.1, 0.05), (0.15, 0.2), (0.2, 0.6), (0.6, 0.3), (0.8, 0.8)]
    )
    sizes = np.repeat(centres, 20, axis=0) * rng.uniform(0.97, 1.03, (120, 2))
    # Wide and low input: 200 pixels wide, 100 high.
    heads = heads_for(
        _targets(sizes, rng),
        with_classes(YOLOV3_TINY_HEADS, 2),
        input_shape=(100, 200, 3),
    )
    assert [(h.stride, h.num_classes) for h in heads] == [(32, 2), (16, 2)]
    found = np.array([a for h in heads for a in h.anchors])
    means = sizes.reshape(6, 20, 2).mean(axis=1) * (200, 100)
    means = means[np.argsort(means.prod(axis=1))]
    np.testing.assert_allclose(found[:3], means[3:], rtol=1e-5)
    np.testing.assert_allclose(found[3:], means[:3], rtol=1e-5)


def test_clusters_fit_better_than_the_anchors_of_another_dataset():
    sizes = np.random.default_rng(1).uniform(10, 60, (300, 2))

    def mean_best_iou(anchors):
        best = []
        for w, h in sizes:
            overlaps = []
            for aw, ah in anchors:
                common = min(w, aw) * min(h, ah)
                overlaps.append(common / (w * h + aw * ah - common))
            best.append(max(overlaps))
        return np.mean(best)

    coco = [a for head in YOLOV3_HEADS for a in head.anchors]
    ours = cluster_sizes(sizes, 9)
    assert mean_best_iou(ours) > mean_best_iou(coco) + 0.1
    # The same anchors whatever the order of the boxes.
    np.testing.assert_allclose(ours, cluster_sizes(sizes[::-1], 9))


def test_too_few_boxes():
    heads = (Head(((1, 1), (2, 2)), 8, num_classes=1),)
    targets = np.array([[[0, 0, 0.5, 0.5, 0]], [[0.5, 0.5, 1, 1, 0]]])
    with pytest.raises(errors.ConfigError, match=r"2 anchors .* got 1"):
        heads_for(targets, heads, input_shape=(64, 64, 3))
