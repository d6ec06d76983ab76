"""What must be known of a detector's file to use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors, registry
from tfslim.detection import heads as heads_lib
from tfslim.detection import outputs as outputs_lib
from tfslim.detection.heads import Head
from tfslim.preprocessing import Preprocessing, preset
from tfslim.tflite import TfliteModel, metadata

# "letterbox" keeps an image's shape, "stretch" fills the input.
RESIZES = ("letterbox", "stretch")
# The entry of tfslim's metadata.
KEY = "detection"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorInfo:
    """How an image becomes the input, and the outputs become boxes.

    Attributes:
        preprocessing: input shape and formula; its resizing filter is used, too.
        heads: what raw outputs mean, in any order; empty for decoded ones.
        outputs: one of `outputs.FORMATS`.
        resize: one of `RESIZES`.
        labels: names of the classes; () where there are none.
    """

    preprocessing: Preprocessing
    heads: tuple[Head, ...]
    outputs: str = "raw"
    resize: str = "letterbox"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the fields, so that a wrong one fails where it is written."""
        if self.outputs not in outputs_lib.FORMATS:
            raise registry.unknown_name(
                "format of outputs", self.outputs, known=outputs_lib.FORMATS
            )
        if self.resize not in RESIZES:
            raise registry.unknown_name("resize", self.resize, known=RESIZES)
        if not self.preprocessing.is_image:
            raise errors.ConfigError(
                f"A detector sees images (height, width, channels), got the input "
                f"{self.preprocessing.input_shape}."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.preprocessing.input_shape[0], self.preprocessing.input_shape[1]

    def label(self, number: int) -> str:
        """Returns the name of a class, or its number."""
        return self.labels[number] if number < len(self.labels) else str(number)

    def to_metadata(self) -> dict[str, Any]:
        """Returns entries for the metadata of a `.tflite`, as `read_info` reads them.

        Write them with `convert_model(..., metadata=)` or `tflite.metadata.put_json`.
        """
        return {
            KEY: {
                "heads": [head.to_json() for head in self.heads],
                "outputs": self.outputs,
                "resize": self.resize,
            },
            "labels": list(self.labels),
            "preprocessing": self.preprocessing.to_json(),
        }


def read_info(
    model: TfliteModel,
    *,
    heads: Sequence[Head] | None = None,
    labels: Sequence[str] | None = None,
    resize: str | None = None,
) -> DetectorInfo:
    """Finds out how to use a file: what is given, its metadata, or what is usual.

    Without metadata, inputs are RGB in 0..1 and letterboxed, as Darknet has it, and
    the heads are those of YOLOv3 or YOLOv3-tiny if the outputs have their strides.

    Args:
        model: the file.
        heads: overrides its heads.
        labels: overrides its names of classes.
        resize: overrides its way to fit images.

    Raises:
        ConfigError: the file is no detector, or its heads are not known.
    """
    shape = model.inputs[0].shape if len(model.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
        found = [list(tensor.shape) for tensor in model.inputs]
        raise errors.ConfigError(
            f"A detector takes one image [1, height, width, 3]; the inputs are {found}."
        )
    entries = metadata.get_json(model) or {}
    own: Mapping[str, Any] = entries.get(KEY) or {}
    _check(entries)
    known = entries.get("preprocessing")
    prepare = (
        Preprocessing.from_json(known) if known else preset("unit", tuple(shape[1:]))
    )
    outputs = own.get("outputs") or _format(model)
    found_heads = tuple(map(Head.from_json, own.get("heads", ())))
    if outputs == "raw" and not (heads or found_heads):
        found_heads = guess_heads(
            [tensor.shape for tensor in model.outputs], (shape[1], shape[2])
        )
    return DetectorInfo(
        preprocessing=dataclasses.replace(prepare, input_shape=tuple(shape[1:])),
        heads=tuple(heads or found_heads),
        outputs=outputs,
        # What tfslim's own training does, unless the file says otherwise.
        resize=resize or own.get("resize") or ("stretch" if known else "letterbox"),
        labels=tuple(entries.get("labels") or () if labels is None else labels),
    )


def _check(entries: Mapping[str, Any]) -> None:
    """Refuses metadata that no tfslim wrote, which may be anything."""
    own, labels = entries.get(KEY) or {}, entries.get("labels") or []
    is_right = isinstance(own, Mapping) and isinstance(labels, list)
    is_right = is_right and all(isinstance(label, str) for label in labels)
    if is_right:
        heads = own.get("heads", [])
        texts = [own.get(field, "") for field in ("outputs", "resize")]
        is_right = isinstance(heads, list) and all(
            isinstance(h, Mapping) for h in heads
        )
        is_right = is_right and all(t is None or isinstance(t, str) for t in texts)
    if not is_right:
        raise errors.ConversionError(
            f"The file's metadata has no sense in '{KEY}' or 'labels'. Give --cfg and "
            "--labels, or write the file again."
        )


def _format(model: TfliteModel) -> str:
    """Tells raw maps from boxes and scores by their shapes."""
    shapes = [tensor.shape for tensor in model.outputs]
    if shapes and all(len(shape) == 4 for shape in shapes):
        return "raw"
    is_pair = len(shapes) == 2 and all(len(shape) == 3 for shape in shapes)
    if is_pair and shapes[0][1] == shapes[1][1] and 4 in (shapes[0][2], shapes[1][2]):
        return "decoded"
    raise errors.ConfigError(
        f"The outputs are {[list(shape) for shape in shapes]}; expected raw maps "
        "[1, height, width, anchors x (5 + classes)], or boxes [1, n, 4] and scores "
        "[1, n, classes]."
    )


def guess_heads(
    shapes: Sequence[Sequence[int]], size: tuple[int, int]
) -> tuple[Head, ...]:
    """Returns the heads of YOLOv3 or YOLOv3-tiny for maps of their strides.

    Anchors are Darknet's, in pixels, whatever the size of the input: so it uses them.

    Args:
        shapes: [1, height, width, channels] of each map.
        size: (height, width) of the network's input.

    Raises:
        ConfigError: the maps are of neither.
    """
    found = heads_lib.by_shapes([shape[1:] for shape in shapes], size)
    if found:
        return found
    raise errors.ConfigError(
        f"Maps of {[list(shape) for shape in shapes]} for an image of "
        f"{size[0]}x{size[1]} are not those of YOLOv3 or YOLOv3-tiny: give the "
        "network's .cfg, which has the anchors."
    )
