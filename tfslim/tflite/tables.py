"""Small flatbuffers without generated code: tables by the names of their fields.

A schema here is the list of each table's fields in order; a union takes two places,
its kind and its value.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers import table as flat_table


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that stands in a table itself."""

    flags: Any
    value: Any


def byte(value: int) -> Number:
    """Returns an int8, as enumerations are."""
    return Number(number_types.Int8Flags, value)


def union(value: int) -> Number:
    """Returns the kind of a union."""
    return Number(number_types.Uint8Flags, value)


def uint(value: int) -> Number:
    """Returns a uint32."""
    return Number(number_types.Uint32Flags, value)


def int32(value: int) -> Number:
    """Returns an int32."""
    return Number(number_types.Int32Flags, value)


def float32(value: float) -> Number:
    """Returns a float32."""
    return Number(number_types.Float32Flags, value)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table to be written.

    Attributes:
        slots: place of the field -> `Number`, str, bytes, float32 array, `Table` or
            list of them; a table that occurs twice is written once.
        width: number of places.
    """

    slots: Mapping[int, Any]
    width: int

    def write(self, builder: Any, done: dict[int, int]) -> int:
        """Writes what it refers to, then itself; returns its offset."""
        if id(self) in done:
            return done[id(self)]
        offsets = {
            slot: _write(builder, value, done=done)
            for slot, value in self.slots.items()
            if not isinstance(value, Number)
        }
        builder.StartObject(self.width)
        for slot, value in self.slots.items():
            if isinstance(value, Number):
                builder.PrependSlot(value.flags, slot, value.value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
        done[id(self)] = builder.EndObject()
        return done[id(self)]


def pack(root: Table, identifier: bytes) -> bytes:
    """Returns the flatbuffer whose root is `root`."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(root.write(builder, {}), file_identifier=identifier)
    return bytes(builder.Output())


def _write(builder: Any, value: Any, *, done: dict[int, int]) -> int:
    if isinstance(value, str):
        offset: int = builder.CreateString(value)
    elif isinstance(value, bytes):
        # A flatbuffer within wants its numbers where they would stand alone.
        builder.StartVector(1, len(value), 16)
        for part in reversed(value):
            builder.PrependByte(part)
        offset = builder.EndVector()
    elif isinstance(value, np.ndarray):
        offset = builder.CreateNumpyVector(value)
    elif isinstance(value, list):
        parts = [part.write(builder, done) for part in value]
        builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            builder.PrependUOffsetTRelative(part)
        offset = builder.EndVector()
    else:
        offset = value.write(builder, done)
    return offset


class Schema:
    """Fields of each table, by name."""

    def __init__(self, fields: Mapping[str, str]):
        """Takes name of the table -> names of its fields, in order, by spaces."""
        self._fields = {kind: names.split() for kind, names in fields.items()}

    def table(self, kind: str, /, **fields: Any) -> Table:
        """Returns a table to be written; None, "" and [] take no room."""
        names = self._fields[kind]
        slots = {
            names.index(name): value
            for name, value in fields.items()
            if value is not None
            and not (isinstance(value, str | bytes | list) and not value)
        }
        return Table(slots, len(names))

    def read(self, kind: str, data: bytes, identifier: bytes) -> Reader:
        """Returns the root of a flatbuffer.

        Raises:
            ValueError: it has another identifier; like all errors of a damaged one.
        """
        if data[4:8] != identifier:
            raise ValueError(f"bytes 4 to 8 are {data[4:8]!r}, not {identifier!r}")
        (position,) = struct.unpack_from("<I", data)
        return Reader(self, kind, data=data, position=position)

    def place(self, kind: str, field: str) -> int:
        """Returns the place of a field."""
        return self._fields[kind].index(field)


class Reader:
    """Reads the fields of one table; a field that is absent is empty.

    Errors of a damaged buffer are struct.error, IndexError, ValueError, TypeError and
    OverflowError.
    """

    def __init__(self, schema: Schema, kind: str, *, data: bytes, position: int):
        """Takes the table at `position`."""
        if not 0 <= position < len(data):
            raise ValueError(f"a table stands at byte {position} of {len(data)}")
        self._table = flat_table.Table(data, position)
        self._schema, self._kind, self._data = schema, kind, data

    def _at(self, field: str) -> int:
        """Returns where a field's value stands; 0 where it is absent."""
        found = self._table.Offset(4 + 2 * self._schema.place(self._kind, field))
        return found + self._table.Pos if found else 0

    def text(self, field: str) -> str:
        """Returns a string."""
        at = self._at(field)
        text: bytes = self._table.String(at) if at else b""
        return text.decode("utf-8", "replace")

    def number(self, field: str) -> int:
        """Returns a byte."""
        at = self._at(field)
        return int(self._data[at]) if at else 0

    def floats(self, field: str) -> tuple[float, ...]:
        """Returns a vector of float32."""
        length, start = self._vector(field, 4)
        return struct.unpack_from(f"<{length}f", self._data, start)

    def bytes(self, field: str) -> bytes:
        """Returns a vector of bytes."""
        length, start = self._vector(field, 1)
        return self._data[start : start + length]

    def table(self, field: str, kind: str) -> Reader:
        """Returns a table, or the value of a union."""
        at = self._at(field)
        return Reader(
            self._schema, kind, data=self._data, position=self._table.Indirect(at)
        )

    def optional(self, field: str, kind: str) -> Reader | None:
        """Returns a table, None where it is absent."""
        return self.table(field, kind) if self._at(field) else None

    def tables(self, field: str, kind: str) -> list[Reader]:
        """Returns a vector of tables."""
        length, start = self._vector(field, 4)
        places = range(start, start + 4 * length, 4)
        found = [self._table.Indirect(at) for at in places]
        return [
            Reader(self._schema, kind, data=self._data, position=place)
            for place in found
        ]

    def _vector(self, field: str, size: int) -> tuple[int, int]:
        """Returns a vector's length and where it begins."""
        at = self._at(field)
        if not at:
            return 0, 0
        start = self._table.Indirect(at)
        (length,) = struct.unpack_from("<I", self._data, start)
        if start + 4 + size * length > len(self._data):
            raise ValueError(f"a list of {length} ends behind the block")
        return length, start + 4
