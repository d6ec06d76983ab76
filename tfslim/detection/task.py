"""Detection as a task: what trains a YOLO network, and what it is measured by."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfslim import errors, tasks
from tfslim.detection import evaluation, info
from tfslim.detection import heads as heads_lib
from tfslim.detection.heads import Head
from tfslim.detection.metrics import mean_average_precision
from tfslim.detection.nms import Detections, NmsOptions

# The input's side for which Darknet's anchors were made.
_DARKNET_SIDE = 416


def _measures(
    detect: Callable[[Sequence[np.ndarray], NmsOptions | None], list[Detections]],
) -> dict[str, Any]:
    """Returns metric and agreement of outputs in which `detect` finds objects."""

    def metric(outputs: Sequence[np.ndarray], targets: np.ndarray) -> float:
        found = detect(outputs, evaluation.EVERYTHING)
        return mean_average_precision(found, evaluation.truths_of(targets)).map_50

    def agreement(
        reference: Sequence[np.ndarray], other: Sequence[np.ndarray]
    ) -> float:
        return evaluation.agreement(detect(reference, None), detect(other, None))

    return {"metric": metric, "agreement": agreement}


def detection_task(heads: Sequence[Head], **loss_options: Any) -> tasks.Task:
    """Returns the task of finding objects with the given heads.

    Targets are boxes, [n, max_boxes, 5]; the model's outputs are the raw maps of the
    heads, in order. The metric is the mean average precision at an overlap of 0.5;
    agreement is the share of equal detections above a score of 0.25.

    Args:
        heads: what the outputs mean.
        **loss_options: those of `tfslim.detection.loss.YoloLoss`: `box`,
            `box_weight`, `ignore_threshold`.
    """
    # Late: whoever only measures needs no TensorFlow.
    from tfslim.detection.loss import yolo_losses

    heads = tuple(heads)

    def detect(
        maps: Sequence[np.ndarray], options: NmsOptions | None
    ) -> list[Detections]:
        return evaluation.detect_batch(maps, heads, options=options)

    return dataclasses.replace(
        DETECTION,
        loss=yolo_losses(heads, **loss_options),
        for_model=None,
        prepare_export=functools.partial(_prepare_export, heads),
        **_measures(detect),
    )


def _prepare_export(
    heads: tuple[Head, ...], model: Any, prepare: Any, class_names: Sequence[str]
) -> tasks.Exported:
    """Returns the model with boxes and scores as its outputs."""
    # Late: whoever only measures needs no TensorFlow.
    from tfslim.detection.deployment import prepare_deployment

    ready = prepare_deployment(model, heads)
    metadata = {}
    if prepare is not None:
        metadata = info.DetectorInfo(
            preprocessing=prepare,
            heads=heads,
            outputs=ready.outputs,
            resize="stretch",  # As our sources of data with boxes make images fit.
            labels=tuple(class_names),
        ).to_metadata()
    return tasks.Exported(
        model=ready.model,
        task=dataclasses.replace(
            DETECTION, for_model=None, **_measures(evaluation.choose_batch)
        ),
        layers=ready.layers,
        metadata=metadata,
        notes=ready.notes,
    )


def standard_heads(model: Any) -> tuple[Head, ...]:
    """Returns what the outputs of a YOLOv3 or YOLOv3-tiny mean, if they are Darknet's.

    The anchors are scaled from Darknet's 416 pixels to the model's input; strides and
    the number of classes follow from the shapes.

    Args:
        model: a Keras model of one image input and two or three maps, coarse first.

    Raises:
        ConfigError: the outputs are not those of three anchors at two or three scales.
    """
    sides = [tuple(tensor.shape[1:]) for tensor in [*model.inputs, *model.outputs]]
    if all(len(side) == 3 and None not in side for side in sides):
        (height, width, _), *maps = sides
        found = heads_lib.by_shapes(maps, (height, width))
        if found and found == tuple(sorted(found, key=lambda head: -head.stride)):
            scale = np.array([width, height]) / _DARKNET_SIDE
            return tuple(
                dataclasses.replace(h, anchors=(np.array(h.anchors) * scale).tolist())
                for h in found
            )
    raise errors.ConfigError(
        f"'{model.name}' has the input and outputs {sides}, which are not those of "
        "YOLOv3 (strides 32, 16, 8) or YOLOv3-tiny (32, 16) with three anchors. Say "
        "what they mean: task=tfslim.detection.task.detection_task(heads)."
    )


def _for_model(task: tasks.Task, model: Any) -> tasks.Task:
    return detection_task(standard_heads(model))


def _no_heads(*arguments: Any) -> float:
    raise errors.ConfigError(
        "The task 'detection' is measured with the heads of a model: pass "
        "detection_task(heads), or complete it with tasks.resolve('detection', model)."
    )


def _boxes(x: Any, y: Any) -> Any:
    return y


# Of no model yet: `for_model` completes it.
DETECTION = tasks.Task(
    name="detection",
    loss=None,
    target=_boxes,
    metric_name="mAP@0.5",
    metric=_no_heads,
    higher_is_better=True,
    agreement_name="equal detections",
    agreement=_no_heads,
    all_outputs=True,
    has_boxes=True,
    refused_steps={
        "quantize": "it does not know of boxes: the heads of a detector are decoded in "
        "float. The recipe 'int8' keeps the heads apart"
    },
    for_model=_for_model,
)
