"""The loss of YOLOv3, one per head, for tf_keras.

Targets are the boxes of the images (see `tfslim.data.boxes`), the same for every head:
which head, cell and anchor answers for a box is found while the loss is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfslim import registry
from tfslim.detection.heads import Head

# exp(8) is 3000 anchors wide: beyond it a wild start would overflow.
_MAX_EXPONENT = 8.0
_TINY = 1e-7
BOX_LOSSES = ("ciou", "giou", "squared")


class YoloLoss(tf_keras.losses.Loss):
    """What one head of a YOLO network costs, a number per image.

    Of every box, the anchor nearest in shape among those of all heads answers, in the
    cell where the box's centre lies (the first of equals). There the loss is that of
    the box, plus binary cross-entropies of its objectness against 1 and of each class,
    so that boxes of one cell and anchor all count. Elsewhere it is that of the
    objectness against 0, unless the predicted box overlaps some true box by more than
    `ignore_threshold` (intersection over union). Everything is summed over the map.

    Sources: Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018,
    https://arxiv.org/abs/1804.02767 ("squared": its sum of squares, times 2 - area as
    in Darknet); Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019,
    https://arxiv.org/abs/1902.09630 ("giou"); Zheng et al., "Distance-IoU Loss", AAAI
    2020, https://arxiv.org/abs/1911.08287 ("ciou").
    """

    def __init__(
        self,
        heads: Sequence[Head],
        index: int,
        *,
        box: str = "ciou",
        box_weight: float = 5.0,
        ignore_threshold: float = 0.7,
        name: str | None = None,
    ):
        """Prepares the loss of `heads[index]`.

        Args:
            heads: all heads of the network.
            index: which of them this loss is for.
            box: one of `BOX_LOSSES`.
            box_weight: factor of the boxes' part.
            ignore_threshold: in 0..1; 0.5 in the paper, 0.7 in Darknet's yolov3.cfg.
            name: of the loss, for Keras.

        Raises:
            ConfigError: there is no such `box`.
        """
        super().__init__(name=name or f"yolo_stride{heads[index].stride}")
        if box not in BOX_LOSSES:
            raise registry.unknown_name("box loss", box, known=BOX_LOSSES)
        self._head = heads[index]
        self._first_anchor = sum(head.num_anchors for head in heads[:index])
        self._all_anchors = np.array([a for h in heads for a in h.anchors], np.float32)
        self._box = box
        self._box_weight = box_weight
        self._ignore_threshold = ignore_threshold

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each image, float32 [batch].

        Args:
            y_true: [batch, max_boxes, 5]: corners in 0..1 and class; below 0 no object.
            y_pred: [batch, rows, columns, num_anchors * (5 + num_classes)], raw.
        """
        head = self._head
        shape = tf.shape(y_pred)
        raw = tf.reshape(
            tf.cast(y_pred, tf.float32),
            [shape[0], shape[1], shape[2], head.num_anchors, 5 + head.num_classes],
        )
        grid = tf.cast([shape[2], shape[1]], tf.float32)
        size = grid * float(head.stride)
        corners = tf.cast(y_true[..., :4], tf.float32) * tf.tile(size, [2])
        labels = tf.cast(y_true[..., 4], tf.int32)

        place, is_mine = self._assign(corners, labels, grid)
        answer = tf.gather_nd(raw, place)
        cell = tf.cast(place[..., 2:0:-1], tf.float32)
        anchors = tf.gather(tf.constant(head.anchors, tf.float32), place[..., 3])
        if self._box == "squared":
            of_box = _squared(
                answer,
                corners,
                cell=cell,
                anchors=anchors,
                stride=head.stride,
                size=size,
            )
        else:
            predicted = _decode(answer, cell, anchors=anchors, stride=head.stride)
            of_box = _overlap_loss(predicted, corners, complete=self._box == "ciou")
        of_class = tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(
                labels=tf.one_hot(labels, head.num_classes), logits=answer[..., 5:]
            ),
            axis=-1,
        )
        of_objects = tf.where(is_mine, self._box_weight * of_box + of_class, 0.0)
        of_map = self._objectness(raw, corners, labels >= 0, place, is_mine)
        return tf.reduce_sum(of_objects, axis=1) + of_map

    def _assign(
        self, corners: tf.Tensor, labels: tf.Tensor, grid: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds who answers for each box.

        Returns:
            int32 [batch, max_boxes, 4], image, row, column and anchor; and whether it
            is this head's, bool [batch, max_boxes].
        """
        anchor = self._nearest_anchor(corners[..., 2:] - corners[..., :2])
        anchor -= self._first_anchor
        is_mine = (labels >= 0) & (anchor >= 0) & (anchor < self._head.num_anchors)
        centre = (corners[..., :2] + corners[..., 2:]) / 2
        cell = tf.clip_by_value(tf.floor(centre / self._head.stride), 0.0, grid - 1)
        column, row = tf.unstack(tf.cast(cell, tf.int32), axis=-1)
        batch, max_boxes = tf.unstack(tf.shape(labels))
        image = tf.repeat(tf.range(batch)[:, None], max_boxes, axis=1)
        anchor = tf.where(is_mine, anchor, 0)
        return tf.stack([image, row, column, anchor], axis=-1), is_mine

    def _nearest_anchor(self, extent: tf.Tensor) -> tf.Tensor:
        """Returns which anchor of all heads has the shape nearest to each box's."""
        common = tf.reduce_prod(
            tf.minimum(extent[..., None, :], self._all_anchors), axis=-1
        )
        areas = tf.reduce_prod(extent, axis=-1, keepdims=True)
        union = areas + self._all_anchors.prod(axis=-1) - common
        return tf.argmax(common / union, axis=-1, output_type=tf.int32)

    def _objectness(
        self,
        raw: tf.Tensor,
        corners: tf.Tensor,
        is_object: tf.Tensor,
        place: tf.Tensor,
        is_mine: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the objectness part of each image, [batch]."""
        shape = tf.shape(raw)
        columns, rows = tf.meshgrid(tf.range(shape[2]), tf.range(shape[1]))
        cell = tf.cast(tf.stack([columns, rows], axis=-1), tf.float32)[:, :, None]
        predicted = _decode(
            raw, cell, anchors=self._head.anchors, stride=self._head.stride
        )
        overlap = _iou(predicted[..., None, :], corners[:, None, None, None])
        best = tf.reduce_max(
            tf.where(is_object[:, None, None, None], overlap, 0.0), axis=-1
        )
        has_object = tf.tensor_scatter_nd_max(
            tf.zeros(shape[:4]), place, tf.cast(is_mine, tf.float32)
        )
        counts = tf.maximum(
            has_object, tf.cast(best <= self._ignore_threshold, tf.float32)
        )
        cost = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=has_object, logits=raw[..., 4]
        )
        return tf.reduce_sum(tf.stop_gradient(counts) * cost, axis=[1, 2, 3])


def yolo_losses(heads: Sequence[Head], **options: object) -> list[YoloLoss]:
    """Returns the loss of each head, in order, with the options of `YoloLoss`."""
    return [YoloLoss(heads, index, **options) for index in range(len(heads))]  # type: ignore[arg-type]


def _decode(
    raw: tf.Tensor, cell: tf.Tensor, *, anchors: object, stride: int
) -> tf.Tensor:
    """Returns the corners in pixels of the boxes that a head's numbers mean."""
    centre = (tf.sigmoid(raw[..., :2]) + cell) * stride
    extent = tf.exp(tf.minimum(raw[..., 2:4], _MAX_EXPONENT)) * anchors
    return tf.concat([centre - extent / 2, centre + extent / 2], axis=-1)


def _squared(
    raw: tf.Tensor,
    corners: tf.Tensor,
    *,
    cell: tf.Tensor,
    anchors: tf.Tensor,
    stride: int,
    size: tf.Tensor,
) -> tf.Tensor:
    """Returns the squared errors of each box; small boxes count up to double."""
    centre = (corners[..., :2] + corners[..., 2:]) / 2
    extent = corners[..., 2:] - corners[..., :2]
    offset = tf.sigmoid(raw[..., :2]) - (centre / stride - cell)
    scale = raw[..., 2:4] - tf.math.log(tf.maximum(extent, _TINY) / anchors)
    weight = 2.0 - tf.reduce_prod(extent / size, axis=-1)
    return weight * tf.reduce_sum(offset**2 + scale**2, axis=-1)


def _intersection(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the areas of intersection and union of boxes given by corners."""
    low = tf.maximum(a[..., :2], b[..., :2])
    high = tf.minimum(a[..., 2:], b[..., 2:])
    common = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    areas = [tf.reduce_prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b)]
    return common, areas[0] + areas[1] - common


def _iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    common, union = _intersection(a, b)
    return common / tf.maximum(union, _TINY)


def _overlap_loss(a: tf.Tensor, b: tf.Tensor, *, complete: bool) -> tf.Tensor:
    """Returns 1 - CIoU (or 1 - GIoU) of boxes `a` predicted and `b` true."""
    common, union = _intersection(a, b)
    iou = common / tf.maximum(union, _TINY)
    outer = tf.maximum(a[..., 2:], b[..., 2:]) - tf.minimum(a[..., :2], b[..., :2])
    if not complete:
        hull = tf.reduce_prod(outer, axis=-1)
        return 1.0 - iou + (hull - union) / tf.maximum(hull, _TINY)
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = tf.reduce_sum(apart**2, axis=-1) / tf.maximum(
        tf.reduce_sum(outer**2, axis=-1), _TINY
    )
    slopes = [
        tf.atan2(
            box[..., 2] - box[..., 0], tf.maximum(box[..., 3] - box[..., 1], _TINY)
        )
        for box in (a, b)
    ]
    aspect = (2.0 / np.pi * (slopes[0] - slopes[1])) ** 2
    weight = tf.stop_gradient(aspect / (1.0 - iou + aspect + _TINY))
    return 1.0 - iou + distance + weight * aspect
