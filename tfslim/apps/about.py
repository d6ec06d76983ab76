"""What a file says of itself: by tfslim's own entry, or by the standard metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import errors, tflite
from tfslim.preprocessing import Preprocessing
from tfslim.tflite import metadata, standard_metadata
from tfslim.tflite.standard_metadata import ImageModel

_AUTHOR = "tfslim"


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a file.

    Attributes:
        name: of the model; "" where it is not known.
        task: "classification", …; "" where it is not known.
        labels: names of the classes; () where there are none.
        preprocessing: how an image becomes the input; None where it is not known.
        source: whose words these are: "tfslim", "TFLITE_METADATA" or "".
    """

    name: str = ""
    task: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    source: str = ""

    def label(self, number: int) -> str:
        """Returns the name of a class, or its number."""
        return self.labels[number] if number < len(self.labels) else str(number)


def read_about(content: bytes) -> About:
    """Finds out what a file says of itself.

    tfslim's own entry comes first; it says more.

    Raises:
        ConversionError: it is no `.tflite`, or its metadata is damaged.
        ConfigError: the preprocessing in it is none.
    """
    model = tflite.read(content)
    entry = metadata.get_json(model)
    standard = standard_metadata.get(content)
    if entry is not None and entry.get("preprocessing"):
        return About(
            name=str(entry.get("name") or ""),
            task=str(entry.get("task") or ""),
            labels=_labels(entry),
            preprocessing=Preprocessing.from_json(entry["preprocessing"]),
            source="tfslim",
        )
    if standard is None:
        return About()
    return About(
        name=standard.name,
        task="classification" if standard.labels else "",
        labels=standard.labels,
        preprocessing=_preprocessing(model, standard),
        source=standard_metadata.NAME,
    )


def _labels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    labels = entry.get("labels") or []
    if not isinstance(labels, list) or not all(
        isinstance(name, str) for name in labels
    ):
        raise errors.ConversionError(
            f"The file's labels are {str(labels)[:80]!r}; expected a list of names."
        )
    return tuple(labels)


def _preprocessing(
    model: tflite.TfliteModel, standard: ImageModel
) -> Preprocessing | None:
    """Returns the standard's normalization; without one uint8 inputs are pixels."""
    shape = model.inputs[0].shape if len(model.inputs) == 1 else ()
    if len(shape) != 4:
        return None
    if standard.mean:
        return Preprocessing(
            input_shape=tuple(shape[1:]), mean=standard.mean, std=standard.std
        )
    if model.inputs[0].dtype == "uint8":
        return Preprocessing(input_shape=tuple(shape[1:]))
    return None


def write_standard(content: bytes, *, version: str = "1") -> bytes:
    """Returns a copy of a file with TFLITE_METADATA made of tfslim's own entry.

    A file whose entry says nothing of images is returned as it is, as is one whose
    input is BGR, which the standard cannot say.

    Args:
        content: the file.
        version: of the model.

    Raises:
        ConversionError: it is no `.tflite`.
    """
    model = tflite.read(content)
    try:
        about = read_about(content)
    except errors.TfslimError:  # Users may write into it what they like.
        return content
    prepare = about.preprocessing
    if about.source != "tfslim" or prepare is None or not _is_image(model):
        return content
    if prepare.channel_order != "rgb":
        return content
    mean, std = normalization(prepare)
    outputs = {index: name for name, index in model.output_names.items()}
    wide = [tensor.shape[-1:] == (len(about.labels),) for tensor in model.outputs]
    return standard_metadata.put(
        content,
        ImageModel(
            name=about.name,
            version=version,
            author=_AUTHOR,
            description=about.task and f"A model for {about.task}.",
            mean=mean,
            std=std,
            labels=about.labels if any(wide) else (),
            outputs=tuple(outputs[tensor.index] for tensor in model.outputs),
            labelled=wide.index(True) if any(wide) else 0,
        ),
    )


def _is_image(model: tflite.TfliteModel) -> bool:
    shapes = [tensor.shape for tensor in model.inputs]
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][-1] in (1, 3)


def normalization(
    prepare: Preprocessing,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and std of pixels in 0..255, as the standard has them.

    y = (x * scale - mean) / std is y = (x - mean / scale) / (std / scale). Both have
    one value where all channels have the same, else one a channel.
    """
    mean, std = (np.asarray(v) / prepare.scale for v in (prepare.mean, prepare.std))
    mean, std = np.broadcast_arrays(mean, std)
    if len(set(mean.tolist())) == 1 and len(set(std.tolist())) == 1:
        mean, std = mean[:1], std[:1]
    return tuple(map(float, mean)), tuple(map(float, std))


def is_one_pair(prepare: Preprocessing) -> bool:
    """Whether one mean and one std say how RGB or grey pixels become the input."""
    mean, std = normalization(prepare)
    return len(mean) == 1 and std[0] > 0 and prepare.channel_order == "rgb"
