"""Puts the normalization of pixels into the file: an app passes them as they are.

The standard metadata, as MediaPipe reads it, carries one mean and one standard
deviation. A model with one a channel, or of BGR, opens there once a 1x1 convolution in
front holds them: y = W x + b, in float32.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.apps.about import normalization, read_about, write_standard
from tfslim.apps.surgery import add_constant, add_operator, add_tensor
from tfslim.preprocessing import Preprocessing
from tfslim.tflite import flatbuffer, metadata


def normalize_inside(content: bytes) -> bytes:
    """Returns a copy of a file that takes pixels in 0..255, as RGB or grey.

    Its metadata says so; the layer in front is in float whatever the others are.

    Args:
        content: the file; its one input is a float image, and its metadata says how
            pixels become it.

    Raises:
        ConfigError: the file says nothing of it, or takes something else.
    """
    model = tflite.read(content)
    about = read_about(content)
    prepare = about.preprocessing
    if prepare is None or not prepare.is_image or len(model.inputs) != 1:
        raise errors.ConfigError(
            "The file does not say how pixels become its input; write its metadata "
            "with convert_model(metadata=)."
        )
    if model.inputs[0].dtype != "float32":
        raise errors.ConfigError(
            f"The input is {model.inputs[0].dtype}; a layer that normalizes pixels "
            "stands before a float32 input: quantize with io='float'."
        )
    kernel, bias = affine(prepare)
    weights = kernel.T.reshape(len(bias), 1, 1, len(bias))
    flat = flatbuffer.unpack(content)
    _put_in_front(flat, model.inputs[0].index, weights=weights, bias=bias)
    entry = metadata.get_json(model) or {}
    entry |= {
        "name": about.name,
        "labels": list(about.labels),
        "preprocessing": prepare.plain.to_json(),
    }
    metadata.insert(flat, {metadata.NAME: metadata.encode(entry)})
    packed = flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))
    return write_standard(packed)


def affine(prepare: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel [in, out] and bias [out] of y = x @ kernel + bias.

    Args:
        prepare: of an image.

    Returns:
        What makes RGB or grey pixels x in 0..255 the model's input y; float32.
    """
    channels = prepare.input_shape[-1]
    mean, std = (np.broadcast_to(v, (channels,)) for v in normalization(prepare))
    kernel = np.eye(channels)
    if prepare.channel_order == "bgr":
        kernel = kernel[::-1]
    return (kernel / std).astype(np.float32), (-mean / std).astype(np.float32)


def _put_in_front(
    flat: Any, old: int, *, weights: np.ndarray, bias: np.ndarray
) -> None:
    """Makes a new input, and the old one what a convolution gives for it."""
    graph = flat.subgraphs[0]
    pixels = copy.copy(graph.tensors[old])
    graph.tensors[old].name = b"normalized"
    numbers = [
        add_tensor(flat, pixels),
        add_constant(flat, b"normalization/weights", values=weights),
        add_constant(flat, b"normalization/bias", values=bias),
    ]
    options = schema.Conv2DOptionsT(
        strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1
    )
    operator = add_operator(
        flat, "CONV_2D", inputs=numbers, outputs=[old], options=options
    )
    graph.operators.insert(0, operator)
    graph.inputs = [numbers[0] if index == old else index for index in graph.inputs]
    for signature in flat.signatureDefs or []:
        for entry in signature.inputs if signature.subgraphIndex == 0 else []:
            if entry.tensorIndex == old:
                entry.tensorIndex = numbers[0]
