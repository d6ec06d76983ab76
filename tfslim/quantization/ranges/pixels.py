"""The range of an image input is known before any sample: pixels are 0..255."""

from __future__ import annotations

import dataclasses

from tfslim import errors, tflite
from tfslim.preprocessing import Preprocessing
from tfslim.quantization.ranges.calibration import Calibration, TensorRange
from tfslim.tflite import metadata

_METHOD = "pixels"


def with_pixels(calibration: Calibration, model: bytes) -> Calibration:
    """Returns ranges by which an integer input holds a pixel as it is.

    With y = (pixel - mean) / std in [low, high], INT8 has scale (high - low) / 255: the
    stored number is the pixel less 128, and UINT8's is the pixel. What calibration saw
    may be less, where no sample is white.

    Args:
        calibration: of `model`; ranges that a user gave stay.
        model: the float file; its metadata says how pixels become its input.
    """
    content = tflite.read(model)
    try:
        entry = (metadata.get_json(content) or {}).get("preprocessing")
        known = entry and Preprocessing.from_json(entry)
    except errors.TfslimError:  # Users may write into it what they like.
        return calibration
    if not known or not known.is_image or len(content.inputs) != 1:
        return calibration
    name = content.inputs[0].name
    given = calibration.tensors.get(name)
    if given is None or given.method == "user":
        return calibration
    low, high = known.pixel_range
    margin = (high - low) / 255
    if given.min < low - margin or given.max > high + margin:
        return calibration  # The samples are other ones than the metadata's.
    own = TensorRange(low, high, _METHOD)
    tensors = {**calibration.tensors, name: own}
    return dataclasses.replace(calibration, tensors=tensors)
