"""YOLOv3's loss against one written with loops over single numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfslim import errors
from tfslim.detection import Head
from tfslim.detection.loss import BOX_LOSSES, YoloLoss, yolo_losses

HEADS = (
    Head(((20, 16), (40, 60)), 16, num_classes=3),
    Head(((4, 6), (10, 8), (12, 12)), 8, num_classes=3),
)
# Not square, so that rows and columns cannot be mixed up.
HEIGHT, WIDTH = 32, 64
RNG = np.random.default_rng(0)


def _boxes(rng, images, per_image):
    """Random boxes, and empty rows at the end of some images."""
    low = rng.uniform(0, 0.7, (images, per_image, 2))
    high = np.minimum(low + rng.uniform(0.05, 0.9, low.shape), 1.0)
    labels = rng.integers(0, 3, (images, per_image, 1))
    boxes = np.concatenate([low, high, labels], axis=-1).astype(np.float32)
    for image in range(images):
        boxes[image, per_image - image :] = (0, 0, 0, 0, -1)
    return boxes


def _maps(rng, images, scale=1.0):
    return [
        rng.normal(
            0,
            scale,
            (images, HEIGHT // h.stride, WIDTH // h.stride, h.num_channels),
        ).astype(np.float32)
        for h in HEADS
    ]


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def _bce(logit, label):
    p = _sigmoid(logit)
    return -math.log(p) if label else -math.log(1 - p)


def _iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common), sum(areas) - common


def _box_cost(kind, a, b, numbers, cell, anchor, stride):
    """`a` is the predicted box, `b` the true one, corners in pixels."""
    width, height = b[2] - b[0], b[3] - b[1]
    if kind == "squared":
        x = (b[0] + b[2]) / 2 / stride - cell[0]
        y = (b[1] + b[3]) / 2 / stride - cell[1]
        error = (_sigmoid(numbers[0]) - x) ** 2 + (_sigmoid(numbers[1]) - y) ** 2
        error += (numbers[2] - math.log(width / anchor[0])) ** 2
        error += (numbers[3] - math.log(height / anchor[1])) ** 2
        return error * (2 - width * height / (WIDTH * HEIGHT))
    iou, union = _iou(a, b)
    hull_w = max(a[2], b[2]) - min(a[0], b[0])
    hull_h = max(a[3], b[3]) - min(a[1], b[1])
    if kind == "giou":
        return 1 - iou + 1 - union / (hull_w * hull_h)
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    angle_a = math.atan((a[2] - a[0]) / (a[3] - a[1]))
    v = 4 / math.pi**2 * (math.atan(width / height) - angle_a) ** 2
    alpha = v / (1 - iou + v)
    return 1 - iou + (dx * dx + dy * dy) / (hull_w**2 + hull_h**2) + alpha * v


def _slow_loss(boxes, raw, index, *, kind, weight, threshold):
    """The loss of one image and head, one number at a time."""
    head = HEADS[index]
    anchors = [(k, a) for k, h in enumerate(HEADS) for a in h.anchors]
    rows, columns, _ = raw.shape
    numbers = raw.reshape(rows, columns, head.num_anchors, 8).astype(float)

    def predicted(row, column, k):
        tx, ty, tw, th = numbers[row, column, k, :4]
        x = (_sigmoid(tx) + column) * head.stride
        y = (_sigmoid(ty) + row) * head.stride
        w, h = math.exp(tw) * head.anchors[k][0], math.exp(th) * head.anchors[k][1]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    total, answering, truths = 0.0, set(), []
    for x0, y0, x1, y1, label in boxes:
        if label < 0:
            continue
        box = x0 * WIDTH, y0 * HEIGHT, x1 * WIDTH, y1 * HEIGHT
        truths.append(box)
        w, h = box[2] - box[0], box[3] - box[1]
        overlaps = [_iou((0, 0, w, h), (0, 0, *a))[0] for _, a in anchors]
        best = int(np.argmax(overlaps))
        if anchors[best][0] != index:
            continue
        k = best - sum(other.num_anchors for other in HEADS[:index])
        column = int((box[0] + box[2]) / 2 // head.stride)
        row = int((box[1] + box[3]) / 2 // head.stride)
        answering.add((row, column, k))
        found = numbers[row, column, k]
        total += weight * _box_cost(
            kind,
            predicted(row, column, k),
            box,
            found,
            (column, row),
            head.anchors[k],
            head.stride,
        )
        total += sum(_bce(found[5 + c], c == int(label)) for c in range(3))
    for row in range(rows):
        for column in range(columns):
            for k in range(head.num_anchors):
                logit = numbers[row, column, k, 4]
                if (row, column, k) in answering:
                    total += _bce(logit, True)
                    continue
                overlaps = [_iou(predicted(row, column, k), t)[0] for t in truths]
                if max(overlaps, default=0.0) <= threshold:
                    total += _bce(logit, False)
    return total


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("index", [0, 1])
def test_equals_the_slow_loop(kind, index):
    boxes = _boxes(RNG, images=6, per_image=6)
    raw = _maps(RNG, images=6)[index]
    # A low threshold, so that many cells are ignored.
    loss = YoloLoss(HEADS, index, box=kind, box_weight=2.5, ignore_threshold=0.2)
    ours = loss.call(tf.constant(boxes), tf.constant(raw)).numpy()
    slow = [
        _slow_loss(b, r, index, kind=kind, weight=2.5, threshold=0.2)
        for b, r in zip(boxes, raw, strict=True)
    ]
    np.testing.assert_allclose(ours, slow, rtol=1e-4)
    # It is Keras's loss: the mean over the batch.
    assert float(loss(boxes, raw)) == pytest.approx(np.mean(slow), rel=1e-4)


def test_one_cell_by_hand():
    head = (Head(((16, 16),), 16, num_classes=2),)
    # A box of 16x8 pixels in the middle of an image of 16x16; all numbers 0: the
    # predicted box is the whole image.
    boxes = np.array([[[0, 0.25, 1, 0.75, 1]]], np.float32)
    raw = np.zeros((1, 1, 1, 7), np.float32)
    cross_entropies = 3 * math.log(2)  # Objectness and two classes, each at 0.5.
    # Offsets are right; ln(8 / 16) is the error of the height; area is half.
    squared = math.log(2) ** 2 * 1.5
    # IoU is 1/2, the hull is the predicted box.
    giou = 1 - 0.5 + 0.5 * 0
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    ciou = 1 - 0.5 + v * v / (0.5 + v)
    for kind, expected in (("squared", squared), ("giou", giou), ("ciou", ciou)):
        loss = YoloLoss(head, 0, box=kind, box_weight=1.0)
        assert float(loss(boxes, raw)) == pytest.approx(
            expected + cross_entropies, rel=1e-5
        )


def test_a_good_prediction_that_does_not_answer_is_ignored():
    # Two equal anchors: the first answers, the second predicts the same box.
    head = (Head(((16, 16), (16, 16)), 16, num_classes=1),)
    boxes = np.array([[[0, 0, 1, 1, 0]]], np.float32)
    raw = tf.Variable(np.zeros((1, 1, 1, 12), np.float32))
    for threshold, slope in ((0.7, 0.0), (1.0, 0.5)):
        with tf.GradientTape() as tape:
            value = YoloLoss(head, 0, ignore_threshold=threshold)(boxes, raw)
        gradient = tape.gradient(value, raw).numpy().reshape(2, 6)
        assert gradient[0, 4] == pytest.approx(-0.5)  # sigmoid(0) - 1
        assert gradient[1, 4] == pytest.approx(slope)
        assert not gradient[1, [0, 1, 2, 3, 5]].any()


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_gradients_are_finite_wherever_training_may_go(kind):
    boxes = _boxes(RNG, images=4, per_image=4)
    boxes[0, 0] = (0.5, 0.5, 0.5, 0.5, 1)  # No area.
    boxes[0, 1] = (0, 0, 1, 1, 2)
    boxes[1] = (0, 0, 0, 0, -1)  # Nothing in the image.
    for raw in (
        _maps(RNG, 4, scale=100.0),
        [np.zeros_like(m) for m in _maps(RNG, 4)],
    ):
        variables = [tf.Variable(m) for m in raw]
        with tf.GradientTape() as tape:
            losses = yolo_losses(HEADS, box=kind)
            value = sum(
                loss(boxes, v) for loss, v in zip(losses, variables, strict=True)
            )
        assert np.isfinite(float(value))
        for gradient in tape.gradient(value, variables):
            assert np.isfinite(gradient.numpy()).all()


def test_every_box_is_answered_by_one_head():
    """Perfect boxes cost something in one head only: its class and objectness."""
    boxes = _boxes(RNG, images=1, per_image=1)
    raw = [np.full_like(m, -20.0) for m in _maps(RNG, 1)]
    for m in raw:
        m.reshape(*m.shape[:3], -1, 8)[..., :4] = 0
    costs = [
        float(loss(boxes, m))
        for loss, m in zip(yolo_losses(HEADS, box_weight=0.0), raw, strict=True)
    ]
    # 20 for the objectness and 20 for the class, both taken to be absent.
    assert sorted(costs) == pytest.approx([0, 40], abs=1e-4)


def test_centre_on_the_far_border_falls_in_the_last_cell():
    boxes = np.array([[[1 - 1e-7, 1 - 1e-7, 1, 1, 0]]], np.float32)
    raw = _maps(RNG, 1)
    values = [
        float(loss(boxes, m)) for loss, m in zip(yolo_losses(HEADS), raw, strict=True)
    ]
    assert np.isfinite(values).all()


def test_unknown_box_loss_is_named():
    with pytest.raises(errors.ConfigError, match="Did you mean 'ciou'"):
        YoloLoss(HEADS, 0, box="cious")
