"""Anchors for a dataset: the shapes that its boxes cluster around."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfslim import checks, errors
from tfslim.detection.heads import Head

_MAX_ROUNDS = 300


@checks.by_name
def heads_for(
    targets: np.ndarray, like: Sequence[Head], *, input_shape: Sequence[int]
) -> tuple[Head, ...]:
    """Returns heads whose anchors fit the boxes of a dataset.

    The boxes' sizes are clustered by k-means with the distance 1 - IoU of boxes at
    one place. The largest clusters go to the coarsest head.

    Source: Redmon and Farhadi, "YOLO9000", CVPR 2017,
    https://arxiv.org/abs/1612.08242, section 2, "Dimension Clusters".

    Args:
        targets: boxes of the training images, [n, max_boxes, 5], corners in 0..1 and
            class, below 0 where there is no object (`Dataset.train.targets`).
        like: heads that give strides, numbers of anchors and of classes.
        input_shape: (height, width, channels) of the network's input.

    Raises:
        ConfigError: there are fewer boxes of different size than anchors.
    """
    rows = np.asarray(targets, np.float64).reshape(-1, 5)
    rows = rows[rows[:, 4] >= 0]
    pixels = np.array([input_shape[1], input_shape[0]])
    sizes = (rows[:, 2:4] - rows[:, :2]) * pixels
    number = sum(head.num_anchors for head in like)
    anchors = cluster_sizes(sizes, number).tolist()
    heads = []
    for head in sorted(like, key=lambda head: head.stride):
        own, anchors = anchors[: head.num_anchors], anchors[head.num_anchors :]
        heads.append(dataclasses.replace(head, anchors=own))
    return tuple(sorted(heads, key=lambda head: -head.stride))


def cluster_sizes(sizes: np.ndarray, number: int) -> np.ndarray:
    """Clusters sizes of boxes by intersection over union.

    Args:
        sizes: float array [n, 2], widths and heights above 0.
        number: of clusters.

    Returns:
        float array [number, 2], the mean size of each cluster, by growing area.

    Raises:
        ConfigError: there are fewer different sizes than clusters.
    """
    distinct = np.unique(sizes, axis=0)
    if len(distinct) < number:
        raise errors.ConfigError(
            f"{number} anchors need as many boxes of different size, got "
            f"{len(distinct)}. Take the anchors of YOLOV3_HEADS instead."
        )
    # Start at evenly spaced quantiles of the area: no chance is involved.
    order = np.argsort(distinct.prod(axis=1), kind="stable")
    spaced = np.linspace(0, len(distinct) - 1, 2 * number + 1)[1::2]
    centres = distinct[order[np.round(spaced).astype(int)]]
    chosen = np.full(len(sizes), -1)
    for _ in range(_MAX_ROUNDS):
        nearest = _shape_iou(sizes, centres).argmax(axis=1)
        if (nearest == chosen).all():
            break
        chosen = nearest
        centres = np.array(
            [
                sizes[chosen == k].mean(axis=0) if (chosen == k).any() else centres[k]
                for k in range(number)
            ]
        )
    found: np.ndarray = centres[np.argsort(centres.prod(axis=1), kind="stable")]
    return found


def _shape_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Returns the IoU [n, k] of boxes and anchors that share a corner."""
    common = np.minimum(sizes[:, None], anchors).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1) - common
    overlap: np.ndarray = common / union
    return overlap
