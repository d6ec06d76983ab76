"""TFLITE_METADATA, the block by which Android's and MediaPipe's APIs open a file.

The schema is TensorFlow Lite's `metadata_schema.fbs` (file identifier M001); labels lie
in a zip behind the flatbuffer, as `labels.txt`. Only what an image model needs is
written: https://ai.google.dev/edge/litert/models/metadata.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from tfslim import errors
from tfslim.tflite import flatbuffer, metadata, model, tables

# The entry of the file's metadata, and the file of labels behind it.
NAME = "TFLITE_METADATA"
LABELS = "labels.txt"

_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_TENSOR_AXIS_LABELS = 2
_COLORS = {1: 2, 3: 1}  # Channels -> GRAYSCALE, RGB.
# Numbers in the schema's unions.
_FEATURE, _IMAGE_PROPERTIES, _BOXES = 1, 2, 3
_NORMALIZATION = 1
_BOUNDARIES = 1
_SCHEMA = tables.Schema(
    {
        "Model": "name description version graphs author license files parser",
        "Graph": "name description inputs outputs files input_units output_units "
        "input_groups output_groups custom",
        "Tensor": "name description axes content units stats files",
        "Content": "kind properties range",
        "Image": "color size",
        "Size": "width height",
        "Feature": "",
        "Boxes": "index type coordinates",
        "Unit": "kind options",
        "Normalization": "mean std",
        "Stats": "max min",
        "File": "name description type",
        "Custom": "name data",
    }
)
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageModel:
    """What the standard says of a model that takes one image.

    Attributes:
        name: of the model.
        version: of the model.
        author: who made it.
        description: one sentence.
        mean: of the pixels in 0..255: y = (pixel - mean) / std; one value, or one a
            channel, which MediaPipe refuses.
        std: as `mean`.
        labels: names of the classes; () where there are none.
        outputs: names of the outputs, in the file's order.
        labelled: number of the output whose last axis `labels` are of.
        boxes: number of the output of a detector that holds boxes; None for none.
        custom: more blocks: name -> bytes.
    """

    name: str = ""
    version: str = ""
    author: str = ""
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    labelled: int = 0
    boxes: int | None = None
    custom: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def put(tflite: bytes, about: ImageModel) -> bytes:
    """Returns a copy of `tflite` with the standard block and its labels.

    Args:
        tflite: the file; its one input is [n, height, width, 1 or 3].
        about: what to write.

    Raises:
        ConversionError: the file takes no image, or has another number of outputs.
    """
    content = model.read(tflite)
    shape = content.inputs[0].shape if len(content.inputs) == 1 else ()
    if len(shape) != 4 or shape[-1] not in _COLORS:
        found = [list(tensor.shape) for tensor in content.inputs]
        raise errors.ConversionError(
            f"The standard metadata is of an image model; the inputs are {found}."
        )
    if len(about.outputs) != len(content.outputs):
        raise errors.ConversionError(
            f"{len(about.outputs)} names of outputs were passed; the file has "
            f"{len(content.outputs)} outputs."
        )
    flat = flatbuffer.unpack(tflite)
    metadata.insert(flat, {NAME: _encode(about, content)})
    attached = flatbuffer.attached_files(tflite)
    attached.pop(LABELS, None)
    if about.labels:
        attached[LABELS] = "".join(
            f"{_line(label)}\n" for label in about.labels
        ).encode()
    return flatbuffer.pack(flat, attached=attached)


def get(tflite: bytes) -> ImageModel | None:
    """Reads the standard block of a file; None where there is none.

    Raises:
        ConversionError: it is damaged.
    """
    content = model.read(tflite)
    block = content.metadata.get(NAME)
    if not block:
        return None
    try:
        about = _SCHEMA.read("Model", block, _IDENTIFIER)
        graphs = about.tables("graphs", "Graph")
        inputs = graphs[0].tables("inputs", "Tensor") if graphs else []
        outputs = graphs[0].tables("outputs", "Tensor") if graphs else []
        mean, std = _normalization(inputs)
        listed = _label_files(outputs)
        custom = graphs[0].tables("custom", "Custom") if graphs else []
        return ImageModel(
            name=about.text("name"),
            version=about.text("version"),
            author=about.text("author"),
            description=about.text("description"),
            mean=mean,
            std=std,
            labels=_labels(tflite, list(listed.values())),
            outputs=tuple(output.text("name") for output in outputs),
            labelled=next(iter(listed), 0),
            boxes=_boxes(outputs),
            custom={entry.text("name"): entry.bytes("data") for entry in custom},
        )
    except _DAMAGE as error:
        raise errors.ConversionError(
            f"The file's metadata '{NAME}' is damaged: {error}."
        ) from error


def _line(label: str) -> str:
    """Returns a label that is one line."""
    return " ".join(label.split()) or "?"


def _normalization(
    inputs: Sequence[tables.Reader],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in inputs[0].tables("units", "Unit") if inputs else []:
        if unit.number("kind") == _NORMALIZATION:
            options = unit.table("options", "Normalization")
            return options.floats("mean"), options.floats("std")
    return (), ()


def _boxes(outputs: Sequence[tables.Reader]) -> int | None:
    for index, output in enumerate(outputs):
        content = output.optional("content", "Content")
        if content is not None and content.number("kind") == _BOXES:
            return index
    return None


def _label_files(outputs: Sequence[tables.Reader]) -> dict[int, str]:
    """Returns number of the output -> name of the file of its labels."""
    return {
        index: file.text("name")
        for index, output in enumerate(outputs)
        for file in output.tables("files", "File")
        if file.number("type") == _TENSOR_AXIS_LABELS
    }


def _labels(tflite: bytes, names: Sequence[str]) -> tuple[str, ...]:
    attached = flatbuffer.attached_files(tflite)
    for name in names:
        if name in attached:
            return tuple(attached[name].decode("utf-8", "replace").splitlines())
    return ()


def _encode(about: ImageModel, content: model.TfliteModel) -> bytes:
    table = _SCHEMA.table
    labels = table(
        "File",
        name=LABELS,
        description="Names of the classes, one a line.",
        type=tables.byte(_TENSOR_AXIS_LABELS),
    )
    outputs = []
    for index, name in enumerate(about.outputs):
        has_labels = about.labels and index == about.labelled
        outputs.append(
            table(
                "Tensor",
                name=name,
                description="Scores." if has_labels else "",
                content=_content(is_boxes=index == about.boxes),
                files=[labels] if has_labels else [],
            )
        )
    custom = [table("Custom", name=n, data=data) for n, data in about.custom.items()]
    inputs = [_image(about, content)]
    root = table(
        "Model",
        name=about.name,
        description=about.description,
        version=about.version,
        graphs=[table("Graph", inputs=inputs, outputs=outputs, custom=custom)],
        author=about.author,
        parser=_PARSER_VERSION,
    )
    return tables.pack(root, _IDENTIFIER)


def _content(*, is_boxes: bool) -> tables.Table:
    """Says whether an output holds boxes: corners as shares, in MediaPipe's order."""
    kind, properties = _FEATURE, _SCHEMA.table("Feature")
    if is_boxes:
        order = np.array([1, 0, 3, 2], np.uint32)
        kind = _BOXES
        properties = _SCHEMA.table("Boxes", index=order, type=tables.byte(_BOUNDARIES))
    return _SCHEMA.table("Content", kind=tables.union(kind), properties=properties)


def _image(about: ImageModel, content: model.TfliteModel) -> tables.Table:
    (tensor,) = content.inputs
    _, height, width, channels = tensor.shape
    size = _SCHEMA.table("Size", width=tables.uint(width), height=tables.uint(height))
    image = _SCHEMA.table("Image", color=tables.byte(_COLORS[channels]), size=size)
    units, stats = [], None
    if about.mean:
        mean, std = (np.array(v, np.float32) for v in (about.mean, about.std))
        options = _SCHEMA.table("Normalization", mean=mean, std=std)
        units = [
            _SCHEMA.table("Unit", kind=tables.union(_NORMALIZATION), options=options)
        ]
        ends = np.sort([(0.0 - mean) / std, (255.0 - mean) / std], axis=0)
        if tensor.dtype == "uint8":
            ends = np.array([np.zeros_like(mean), np.full_like(mean, 255.0)])
        low, high = ends.astype(np.float32)
        stats = _SCHEMA.table("Stats", max=high, min=low)
    return _SCHEMA.table(
        "Tensor",
        name=next(iter(content.input_names)),
        description=f"Image of {width}x{height} pixels.",
        content=_SCHEMA.table(
            "Content", kind=tables.union(_IMAGE_PROPERTIES), properties=image
        ),
        units=units,
        stats=stats,
    )
