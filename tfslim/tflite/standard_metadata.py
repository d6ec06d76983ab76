"""TFLITE_METADATA, the block by which Android's and MediaPipe's APIs open a file.

The schema is TensorFlow Lite's `metadata_schema.fbs` (file identifier M001); labels lie
in a zip behind the flatbuffer, as `labels.txt`. Only what an image model needs is
written: https://ai.google.dev/edge/litert/models/metadata.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers import table as flat_table

from tfslim import errors
from tfslim.tflite import flatbuffer, metadata, model

# The entry of the file's metadata, and the file of labels behind it.
NAME = "TFLITE_METADATA"
LABELS = "labels.txt"

_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_TENSOR_AXIS_LABELS = 2
_COLORS = {1: 2, 3: 1}  # Channels -> GRAYSCALE, RGB.
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1  # Numbers in the schema's unions.
# Slot of each field that is written, in the schema's order; a union takes two.
_SLOTS = {
    "ModelMetadata": "name description version subgraphs author license files parser",
    "SubGraph": "name description inputs outputs",
    "Tensor": "name description axes content units stats files",
    "Content": "kind properties range",
    "Image": "color size",
    "Size": "width height",
    "Unit": "kind options",
    "Normalization": "mean std",
    "Stats": "max min",
    "File": "name description type",
}
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
        labels: names of the classes of the first output; () where it has none.
        outputs: names of the outputs, in the file's order.
    """

    name: str = ""
    version: str = ""
    author: str = ""
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


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
        about = _Reader("ModelMetadata", block)
        graphs = about.tables("subgraphs", "SubGraph")
        inputs = graphs[0].tables("inputs", "Tensor") if graphs else []
        outputs = graphs[0].tables("outputs", "Tensor") if graphs else []
        mean, std = _normalization(inputs)
        listed = _label_files(outputs)
        return ImageModel(
            name=about.text("name"),
            version=about.text("version"),
            author=about.text("author"),
            description=about.text("description"),
            mean=mean,
            std=std,
            labels=_labels(tflite, listed),
            outputs=tuple(output.text("name") for output in outputs),
        )
    except _DAMAGE as error:
        raise errors.ConversionError(
            f"The file's metadata '{NAME}' is damaged: {error}."
        ) from error


def _line(label: str) -> str:
    """Returns a label that is one line."""
    return " ".join(label.split()) or "?"


def _normalization(
    inputs: Sequence[_Reader],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in inputs[0].tables("units", "Unit") if inputs else []:
        if unit.number("kind") == _NORMALIZATION:
            options = unit.table("options", "Normalization")
            return options.floats("mean"), options.floats("std")
    return (), ()


def _label_files(outputs: Sequence[_Reader]) -> list[str]:
    return [
        file.text("name")
        for output in outputs
        for file in output.tables("files", "File")
        if file.number("type") == _TENSOR_AXIS_LABELS
    ]


def _labels(tflite: bytes, names: Sequence[str]) -> tuple[str, ...]:
    attached = flatbuffer.attached_files(tflite)
    for name in names:
        if name in attached:
            return tuple(attached[name].decode("utf-8", "replace").splitlines())
    return ()


def _encode(about: ImageModel, content: model.TfliteModel) -> bytes:
    builder = flatbuffers.Builder(1024)
    labels = [
        _table(
            "File",
            name=LABELS,
            description="Names of the classes, one a line.",
            type=_byte(_TENSOR_AXIS_LABELS),
        )
    ]
    outputs = [
        _table(
            "Tensor",
            name=name,
            description="Scores." if index == 0 and about.labels else "",
            files=labels if index == 0 and about.labels else [],
        )
        for index, name in enumerate(about.outputs)
    ]
    graph = _table("SubGraph", inputs=[_image(about, content)], outputs=outputs)
    root = _table(
        "ModelMetadata",
        name=about.name,
        description=about.description,
        version=about.version,
        subgraphs=[graph],
        author=about.author,
        parser=_PARSER_VERSION,
    )
    builder.Finish(root.write(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _image(about: ImageModel, content: model.TfliteModel) -> _Table:
    (tensor,) = content.inputs
    _, height, width, channels = tensor.shape
    size = _table("Size", width=_uint(width), height=_uint(height))
    image = _table("Image", color=_byte(_COLORS[channels]), size=size)
    units, stats = [], None
    if about.mean:
        mean, std = (np.array(v, np.float32) for v in (about.mean, about.std))
        options = _table("Normalization", mean=mean, std=std)
        units = [_table("Unit", kind=_union(_NORMALIZATION), options=options)]
        ends = np.sort([(0.0 - mean) / std, (255.0 - mean) / std], axis=0)
        if tensor.dtype == "uint8":
            ends = np.array([np.zeros_like(mean), np.full_like(mean, 255.0)])
        low, high = ends.astype(np.float32)
        stats = _table("Stats", max=high, min=low)
    return _table(
        "Tensor",
        name=next(iter(content.input_names)),
        description=f"Image of {width}x{height} pixels.",
        content=_table("Content", kind=_union(_IMAGE_PROPERTIES), properties=image),
        units=units,
        stats=stats,
    )


@dataclasses.dataclass(frozen=True)
class _Number:
    """A number that stands in a table itself."""

    flags: Any
    value: int


def _byte(value: int) -> _Number:
    return _Number(number_types.Int8Flags, value)


def _union(value: int) -> _Number:
    return _Number(number_types.Uint8Flags, value)


def _uint(value: int) -> _Number:
    return _Number(number_types.Uint32Flags, value)


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table of the schema: slot -> text, number, floats, table or list of tables."""

    slots: Mapping[int, Any]
    width: int

    def write(self, builder: Any) -> int:
        """Writes what it refers to, then itself; returns its offset."""
        offsets = {
            slot: _write(builder, value)
            for slot, value in self.slots.items()
            if not isinstance(value, _Number)
        }
        builder.StartObject(self.width)
        for slot, value in self.slots.items():
            if isinstance(value, _Number):
                builder.PrependSlot(value.flags, slot, value.value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
        end: int = builder.EndObject()
        return end


def _table(kind: str, /, **fields: Any) -> _Table:
    names = _SLOTS[kind].split()
    slots = {
        names.index(name): value
        for name, value in fields.items()
        # Absent means the same as empty, and takes no room.
        if value is not None and not (isinstance(value, str | list) and not value)
    }
    return _Table(slots, len(names))


def _write(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        offset: int = builder.CreateString(value)
    elif isinstance(value, np.ndarray):
        offset = builder.CreateNumpyVector(value)
    elif isinstance(value, list):
        parts = [part.write(builder) for part in value]
        builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            builder.PrependUOffsetTRelative(part)
        offset = builder.EndVector()
    else:
        offset = value.write(builder)
    return offset


class _Reader:
    """Reads the fields of one table."""

    def __init__(self, kind: str, data: bytes, position: int | None = None):
        """Takes the root of `data`, or the table at `position`."""
        if position is None:
            if data[4:8] != _IDENTIFIER:
                raise ValueError(f"bytes 4 to 8 are {data[4:8]!r}, not {_IDENTIFIER!r}")
            (position,) = struct.unpack_from("<I", data)
        if not 0 <= position < len(data):
            raise ValueError(f"a table stands at byte {position} of {len(data)}")
        self._table = flat_table.Table(data, position)
        self._names = _SLOTS[kind].split()

    def _at(self, field: str) -> int:
        """Returns where a field's value stands; 0 where it is absent."""
        found = self._table.Offset(4 + 2 * self._names.index(field))
        return found + self._table.Pos if found else 0

    def text(self, field: str) -> str:
        """Returns a string, "" where it is absent."""
        at = self._at(field)
        text: bytes = self._table.String(at) if at else b""
        return text.decode("utf-8", "replace")

    def number(self, field: str) -> int:
        """Returns a byte, 0 where it is absent."""
        at = self._at(field)
        return int(self._table.Bytes[at]) if at else 0

    def floats(self, field: str) -> tuple[float, ...]:
        """Returns a vector of float32."""
        length, start = self._vector(field)
        if not length:
            return ()
        return struct.unpack_from(f"<{length}f", self._table.Bytes, start)

    def table(self, field: str, kind: str) -> _Reader:
        """Returns a table, or the value of a union."""
        at = self._at(field)
        return _Reader(kind, self._table.Bytes, self._table.Indirect(at))

    def tables(self, field: str, kind: str) -> list[_Reader]:
        """Returns a vector of tables."""
        length, start = self._vector(field)
        places = range(start, start + 4 * length, 4)
        data = self._table.Bytes
        return [_Reader(kind, data, self._table.Indirect(at)) for at in places]

    def _vector(self, field: str) -> tuple[int, int]:
        at = self._at(field)
        if not at:
            return 0, 0
        start = self._table.Indirect(at)
        (length,) = struct.unpack_from("<I", self._table.Bytes, start)
        if start + 4 + 4 * length > len(self._table.Bytes):
            raise ValueError(f"a list of {length} ends behind the block")
        return length, start + 4
