"""Files that take pixels as they are: `--preprocess`. Nothing here needs TensorFlow."""

from __future__ import annotations

import ml_collections

from tfslim import apps, preprocessing, tflite
from tfslim.preprocessing import Preprocessing
from tfslim.tflite import metadata


def takes_pixels(
    known: Preprocessing | None, config: ml_collections.ConfigDict
) -> bool:
    """Tells whether the files are to normalize pixels themselves.

    Where it is not said, they do if their uint8 inputs are no pixels otherwise.

    Args:
        known: how pixels become the model's input; None where nobody knows.
        config: as resolved.
    """
    wanted = config.convert.preprocess
    if wanted is not None:
        return bool(wanted == "inside")
    if known is None or not known.is_image or config.quantization.io != "uint8":
        return False
    return not apps.is_one_pair(known)


def of_file(model: bytes, config: ml_collections.ConfigDict) -> tuple[bytes, bool]:
    """Returns a float file, and whether it was changed to take pixels."""
    preset, about = config.model.preprocessing, apps.read_about(model)
    known = about.preprocessing
    shapes = [tensor.shape[1:] for tensor in tflite.read(model).inputs]
    if preset != "auto" and [len(shape) for shape in shapes] == [3]:
        known = preprocessing.preset(preset, shapes[0])
    if not takes_pixels(known, config) or known == (known and known.plain):
        return model, False
    entry = metadata.get_json(model) or {
        "name": about.name,
        "task": about.task,
        "labels": list(about.labels),
    }
    entry["preprocessing"] = known and known.to_json()
    return apps.normalize_inside(metadata.put_json(model, entry)), True
