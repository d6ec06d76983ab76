"""Detection as a task: metric, agreement, heads of a model, training."""

import dataclasses

import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import data, detection, errors, tasks
from tfslim.data.boxes import pad_boxes
from tfslim.data.tf_data import to_tf_data
from tfslim.detection import Detections, Head
from tfslim.detection.anchors import heads_for
from tfslim.detection.evaluation import agreement, evaluate_detector
from tfslim.detection.task import detection_task, standard_heads
from tfslim.preprocessing import preset
from tfslim.training import training

HEADS = (
    Head(((40, 40), (60, 30)), 32, num_classes=2),
    Head(((10, 20), (20, 10)), 16, num_classes=2),
)
SIZE = 96


def _boxes(rng, images=4, per_image=3):
    """Boxes whose centres lie in different cells of every head."""
    cells = np.stack([rng.permutation(9)[:per_image] for _ in range(images)])
    centre = (np.stack([cells % 3, cells // 3], axis=-1) + rng.uniform(0.3, 0.7)) / 3
    half = rng.uniform(0.05, 0.12, centre.shape)
    labels = rng.integers(0, 2, (*cells.shape, 1))
    rows = np.concatenate([centre - half, centre + half, labels], axis=-1)
    return pad_boxes(list(rows), per_image + 1)


def _perfect_maps(boxes, head_index):
    """Maps that say these boxes and nothing else: the formulas the other way."""
    maps = []
    for number, head in enumerate(HEADS):
        cells = SIZE // head.stride
        raw = np.full((len(boxes), cells, cells, head.num_anchors, 7), -30.0)
        for image, rows in enumerate(boxes if number == head_index else ()):
            for x0, y0, x1, y1, label in rows[rows[:, 4] >= 0]:
                x, y = (x0 + x1) / 2 * cells, (y0 + y1) / 2 * cells
                place = raw[image, int(y), int(x), 1]
                place[:2] = np.log([(x % 1) / (1 - x % 1), (y % 1) / (1 - y % 1)])
                width, height = head.anchors[1]
                place[2] = np.log((x1 - x0) * SIZE / width)
                place[3] = np.log((y1 - y0) * SIZE / height)
                place[4] = place[5 + int(label)] = 30.0
        maps.append(raw.reshape(*raw.shape[:3], -1).astype(np.float32))
    return maps


@pytest.mark.parametrize("head_index", [0, 1])
def test_perfect_maps_have_full_precision(head_index):
    boxes = _boxes(np.random.default_rng(0))
    maps = _perfect_maps(boxes, head_index)
    task = detection_task(HEADS)
    assert task.metric(maps, boxes) == pytest.approx(1.0)

    def predict(x):
        return [array[x] for array in maps]

    batches = [(slice(0, 3), boxes[:3]), (slice(3, 4), boxes[3:])]
    precision = evaluate_detector(predict, batches, heads=HEADS)
    assert precision.map_50 == precision.map_50_95 == pytest.approx(1.0)
    # The classes swapped: nothing is right.
    swapped = boxes.copy()
    swapped[..., 4] = np.where(boxes[..., 4] >= 0, 1 - boxes[..., 4], -1)
    assert (
        evaluate_detector(predict, [(slice(0, 4), swapped)], heads=HEADS).map_50 == 0.0
    )
    # Narrower by 0.6 about the same centre: overlaps of 0.6, so right up to 0.6.
    narrow = boxes.copy()
    middle = (boxes[..., 0] + boxes[..., 2]) / 2
    for corner in (0, 2):
        narrow[..., corner] = middle + 0.6 * (boxes[..., corner] - middle)
    precision = evaluate_detector(predict, [(slice(0, 4), narrow)], heads=HEADS)
    assert precision.map_50 == pytest.approx(1.0)
    assert precision.map_50_95 == pytest.approx(0.25, abs=0.06)


def _found(*rows):
    rows = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def test_agreement_by_hand():
    a = _found((0, 0, 1, 1, 0.9, 0), (0, 0, 0.2, 0.2, 0.5, 1))
    # One box of two is found again: class 0 overlaps by 0.6; class 2 is another one.
    b = _found((0, 0, 1, 0.6, 0.4, 0), (0, 0, 0.2, 0.2, 0.5, 2))
    assert agreement([a], [b]) == agreement([b], [a]) == pytest.approx(0.5)
    assert agreement([a], [a]) == 1.0
    # Two of the same box answer to one: 2 * 1 / (1 + 2).
    twice = _found((0, 0, 1, 1, 0.9, 0), (0, 0, 1, 1, 0.8, 0))
    assert agreement([_found((0, 0, 1, 1, 1, 0))], [twice]) == pytest.approx(2 / 3)
    assert agreement([_found()], [_found()]) == 1.0
    assert agreement([a, a], [a, _found()]) == pytest.approx(2 * 2 / (2 + 2 + 2))


def test_agreement_of_a_task_is_above_a_quarter_only():
    boxes = _boxes(np.random.default_rng(1))
    maps = _perfect_maps(boxes, 1)
    task = detection_task(HEADS)
    assert task.agreement(maps, maps) == 1.0
    doubtful = [np.where(array == 30.0, -1.0, array) for array in maps]
    # sigmoid(-1)^2 = 0.07: found, but not to be shown.
    assert task.metric(doubtful, boxes) == pytest.approx(1.0)
    assert task.agreement(maps, doubtful) == 0.0


@pytest.mark.parametrize(("name", "num_heads"), [("yolov3", 3), ("yolov3_tiny", 2)])
def test_heads_of_a_model(name, num_heads):
    model = tfslim.build_model(
        name, input_shape=(64, 128, 3), num_classes=7, alpha=0.125
    )
    heads = standard_heads(model)
    like = detection.YOLOV3_HEADS if num_heads == 3 else detection.YOLOV3_TINY_HEADS
    assert [head.stride for head in heads] == [head.stride for head in like]
    assert {head.num_classes for head in heads} == {7}
    width, height = like[0].anchors[0]
    assert heads[0].anchors[0] == pytest.approx((width * 128 / 416, height * 64 / 416))
    task = tasks.resolve("detection", model)
    assert len(task.loss) == num_heads and task.has_boxes and task.for_model is None


def test_what_is_no_yolo_is_told_so():
    model = tfslim.build_model("mlp", input_shape=(4,), num_classes=3)
    with pytest.raises(
        errors.ConfigError, match=r"not those of YOLOv3.*detection_task"
    ):
        tasks.resolve("detection", model)
    unbound = tasks.resolve("detection")
    with pytest.raises(errors.ConfigError, match="with the heads of a model"):
        unbound.metric([], np.zeros((1, 1, 5)))


def test_targets_of_detection_are_the_boxes():
    y = object()
    assert tasks.resolve("detection").target(object(), y) is y


@pytest.fixture(scope="module")
def two_images():
    """Two scenes, a network that learnt them by heart, and its task."""
    scenes = data.load("scenes:classes=2,size=96,examples=8,max_objects=2").train
    examples = data.ArrayExamples(scenes.inputs([0, 1]), scenes.targets[:2])
    # Anchors need more than a few boxes.
    many = data.load("scenes:classes=2,size=96,examples=100").train.targets
    heads = detection.with_classes(detection.YOLOV3_TINY_HEADS, 2)
    task = detection_task(heads_for(many, heads, input_shape=(96, 96, 3)))
    tf_keras.utils.set_random_seed(0)
    model = tfslim.build_model(
        "yolov3_tiny", input_shape=(96, 96, 3), num_classes=2, alpha=0.125
    )
    batches = to_tf_data(examples, preset("unit", (96, 96, 3)), task=task, batch_size=2)
    result = tfslim.fit(
        model,
        batches.repeat(40),
        task=task,
        epochs=3,
        learning_rate=1e-2,
    )
    return examples, model, task, result


def test_the_loss_falls_over_all_heads(two_images):
    _, _, _, result = two_images
    for name in ("loss", "head32_loss", "head16_loss"):
        assert result.history[name][-1] < 0.2 * result.history[name][0]
    parts = [result.history[f"head{s}_loss"][-1] for s in (32, 16)]
    assert result.history["loss"][-1] == pytest.approx(sum(parts), rel=1e-4)


def test_what_was_learnt_by_heart_is_found(two_images):
    examples, model, task, _ = two_images
    x = preset("unit", (96, 96, 3)).apply(examples.inputs([0, 1]))
    maps = model.predict(x, verbose=0)
    assert task.metric(maps, examples.targets) == pytest.approx(1.0)
    untrained = tfslim.build_model(
        "yolov3_tiny", input_shape=(96, 96, 3), num_classes=2, alpha=0.25
    )
    assert task.metric(untrained.predict(x, verbose=0), examples.targets) < 0.5


@pytest.mark.slow
def test_fit_completes_the_task_for_arrays_and_bfloat16():
    model = tfslim.build_model(
        "yolov3_tiny", input_shape=(64, 64, 3), num_classes=2, alpha=0.125
    )
    rng = np.random.default_rng(0)
    x = rng.random((6, 64, 64, 3), np.float32)
    y = _boxes(rng, images=6)
    result = tfslim.fit(
        model,
        (x, y),
        validation=(x, y),
        task="detection",
        epochs=2,
        batch_size=3,
        mixed_precision=True,
    )
    assert np.isfinite(result.history["val_loss"]).all()
    assert result.monitor == "val_loss"


def test_methods_measure_all_heads(two_images):
    examples, model, task, _ = two_images
    x = preset("unit", (96, 96, 3)).apply(examples.inputs([0, 1]))
    assert training.evaluate(model, (x, examples.targets), task=task) == pytest.approx(
        1.0
    )


def test_own_loss_options_reach_the_loss():
    squared = detection_task(HEADS, box="squared")
    assert squared.name == "detection" and len(squared.loss) == 2
    with pytest.raises(errors.ConfigError, match="box loss 'l2'"):
        detection_task(HEADS, box="l2")
    assert dataclasses.replace(squared, name="own").metric is squared.metric
