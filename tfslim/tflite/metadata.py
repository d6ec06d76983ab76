"""Named metadata inside a `.tflite`: what an app needs to use the file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors
from tfslim.tflite import flatbuffer, model

# The entry that holds tfslim's own JSON.
NAME = "tfslim"


def put(tflite: bytes, entries: dict[str, bytes]) -> bytes:
    """Returns a copy of `tflite` that holds `entries`; all else stays as it was.

    Args:
        tflite: the file.
        entries: name -> value; replaces an entry of the same name.
    """
    flat = flatbuffer.unpack(tflite)
    insert(flat, entries)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(tflite))


def insert(flat: Any, entries: dict[str, bytes]) -> None:
    """Writes `entries` into a `schema.ModelT` in place, as `put` does into a copy."""
    flat.metadata = list(flat.metadata or [])
    for name, value in entries.items():
        buffer = schema.BufferT(data=np.frombuffer(value, np.uint8))
        encoded = name.encode()
        entry = next((e for e in flat.metadata if e.name == encoded), None)
        if entry is None:
            entry = schema.MetadataT(name=encoded)
            flat.metadata.append(entry)
            entry.buffer = len(flat.buffers)
            flat.buffers.append(buffer)
        else:
            flat.buffers[entry.buffer] = buffer


def put_json(tflite: bytes, value: dict[str, Any]) -> bytes:
    """Returns a copy of `tflite` with `value` as tfslim's entry.

    Args:
        tflite: the file.
        value: what JSON can hold: name, version, labels, preprocessing, ….
    """
    return put(tflite, {NAME: encode(value)})


def encode(value: dict[str, Any]) -> bytes:
    """Returns the bytes of tfslim's entry for `value`."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def get_json(tflite: bytes | model.TfliteModel) -> dict[str, Any] | None:
    """Returns tfslim's entry of a file, None where there is none.

    Raises:
        ConversionError: the entry is no JSON object.
    """
    content = tflite if isinstance(tflite, model.TfliteModel) else model.read(tflite)
    if NAME not in content.metadata:
        return None
    try:
        value: dict[str, Any] = json.loads(content.metadata[NAME])
    except ValueError as error:
        raise errors.ConversionError(
            f"The file's metadata '{NAME}' is not JSON: {error}."
        ) from error
    if not isinstance(value, dict):
        raise errors.ConversionError(
            f"The file's metadata '{NAME}' is {str(value)[:80]!r}, no JSON object."
        )
    return value
