"""A YOLO file in the form that MediaPipe's ObjectDetector opens.

It suppresses overlapping boxes itself and wants centres and sizes: an op behind the
boxes turns their corners into these, and the block DETECTOR_METADATA says that there
is nothing else to decode.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.apps.about import write_standard
from tfslim.apps.surgery import add_constant, add_operator, add_tensor
from tfslim.tflite import flatbuffer, metadata, standard_metadata, tables

_BLOCK, _IDENTIFIER = "DETECTOR_METADATA", b"V001"
_SCHEMA = tables.Schema(
    {
        "Options": "parser anchors decoding",
        "Anchors": "fixed",
        "Fixed": "anchors",
        "Anchor": "x_center y_center width height",
        "Decoding": "num_classes num_boxes num_coords keypoint_offset num_keypoints "
        "num_values x_scale y_scale w_scale h_scale exponential sigmoid",
    }
)
# (x1, y1, x2, y2) -> (y centre, x centre, height, width), one row each.
_CENTRES = np.array(
    [[0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0], [0, -1, 0, 1], [-1, 0, 1, 0]], np.float32
)
# By these names MediaPipe tells the outputs apart.
_NAMES = {"decode_boxes": "location", "decode_scores": "score"}


def for_object_detector(content: bytes) -> bytes:
    """Returns a copy of a detector's file for MediaPipe's ObjectDetector.

    tfslim's own detector does not read it: its boxes are other ones.

    Args:
        content: a file with outputs boxes [1, n, 4] and scores [1, n, classes], as
            exports of YOLO have them, and its metadata.

    Raises:
        ConfigError: it is no such file.
    """
    model = tflite.read(content)
    entry = metadata.get_json(model) or {}
    own = entry.get("detection") or {}
    numbers = model.output_names
    if own.get("outputs") != "decoded" or set(numbers) != set(_NAMES):
        raise errors.ConfigError(
            f"ObjectDetector takes boxes and scores; the file's outputs are "
            f"{', '.join(numbers)}. Export the detector anew."
        )
    boxes, scores = (model.tensors[numbers[name]] for name in _NAMES)
    flat = flatbuffer.unpack(content)
    _put_behind(flat, boxes.index)
    kept = {key: value for key, value in entry.items() if key != "detection"}
    metadata.insert(flat, {metadata.NAME: metadata.encode(kept)})
    packed = flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))
    about = standard_metadata.get(write_standard(packed))
    if about is None or not about.mean:
        raise errors.ConfigError(
            "The file does not say how pixels become its input; write its metadata "
            "with convert_model(metadata=)."
        )
    block = _block(boxes.shape[1], scores.shape[2])
    order = [_NAMES[name] for name in numbers]
    about = dataclasses.replace(
        about,
        outputs=tuple(order),
        labelled=order.index("score"),
        boxes=order.index("location"),
        custom={_BLOCK: block},
    )
    return standard_metadata.put(packed, about)


def _block(num_boxes: int, num_classes: int) -> bytes:
    one, none = tables.float32(1.0), tables.float32(0.0)
    table = _SCHEMA.table
    anchor = table("Anchor", x_center=none, y_center=none, width=one, height=one)
    fixed = table("Fixed", anchors=[anchor] * num_boxes)
    decoding = table(
        "Decoding",
        num_classes=tables.int32(num_classes),
        num_boxes=tables.int32(num_boxes),
        num_coords=tables.int32(4),
        num_values=tables.int32(2),
        x_scale=one,
        y_scale=one,
        w_scale=one,
        h_scale=one,
    )
    anchors = table("Anchors", fixed=fixed)
    root = table("Options", parser="1.0.0", anchors=anchors, decoding=decoding)
    return tables.pack(root, _IDENTIFIER)


def _put_behind(flat: Any, old: int) -> None:
    """Makes centres and sizes of the boxes, and them the output."""
    graph = flat.subgraphs[0]
    located = copy.copy(graph.tensors[old])
    located.name = b"location"
    new = add_tensor(flat, located)
    weights = add_constant(flat, b"location/weights", values=_CENTRES)
    options = schema.FullyConnectedOptionsT(keepNumDims=True)
    inputs = [old, weights, -1]
    operator = add_operator(
        flat, "FULLY_CONNECTED", inputs=inputs, outputs=[new], options=options
    )
    graph.operators.append(operator)
    graph.outputs = [new if index == old else index for index in graph.outputs]
    for signature in flat.signatureDefs or []:
        for entry in signature.outputs if signature.subgraphIndex == 0 else []:
            if entry.tensorIndex == old:
                entry.tensorIndex = new
