"""Bytes of a `.tflite` file <-> the schema's objects, the only place that packs them.

The objects are those that ai-edge-litert generates from LiteRT's schema (`ModelT`
and its parts). Weights stay views on the bytes that were read, so that reading a
file of 500 MB costs no second 500 MB.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, files
from tfslim.tflite import reading, structure, trial

numbers = reading.numbers

_IDENTIFIER = b"TFL3"
# What .h5, and .keras as any zip archive, begin with.
_KERAS = (b"\x89HDF", b"PK\x03\x04")
# 32-bit offsets count from the root; larger files need buffers outside of it.
_MAX_BYTES = 2**31 - 1
# What the generated reader raises when an offset points to nonsense.
_DAMAGE = (
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def read_file(path: Path | str) -> bytes:
    """Reads the file at `path`.

    Raises:
        ConversionError: there is no file to read.
    """
    try:
        return files.read_bytes(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name.
        raise _unreadable(path, error) from error


def map_file(path: Path | str) -> memoryview:
    """Returns the file at `path` as bytes that are read when they are looked at.

    `read`, `calibrate` and `collect` take them in place of a file's bytes; with
    `forget` a file of any size needs little memory.

    Raises:
        ConversionError: there is no file to read.
    """
    try:
        files.require_regular(path)
        with Path(path).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file.
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: Exception) -> errors.ConversionError:
    reason = getattr(error, "strerror", None) or error
    expected = "Expected a .tflite file"
    if Path(path).is_dir():
        expected += "; of a SavedModel `tfslim export` makes some"
    return errors.ConversionError(f"Cannot read '{path}': {reason}. {expected}.")


def forget(values: np.ndarray) -> None:
    """Gives the memory of values in a mapped file back; they may be read again.

    Values that lie elsewhere are left alone.
    """
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mapped, "madvise"):
        return
    begin = values.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    first = begin - begin % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, begin + values.nbytes - first)


def unpack(data: bytes) -> Any:
    """Reads a `.tflite` into a new `schema.ModelT`, whose buffers view `data`.

    Buffers kept outside of the flatbuffer by offset, as litert-quantizer writes
    them, are resolved; the object is the caller's to change. What is packed of it is
    as well known as `data`, see `trial`.

    Raises:
        ConversionError: `data` is no `.tflite`, was cut off or is damaged.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise errors.ConfigError(
            f"Expected the bytes of a .tflite, got {type(data).__name__} "
            f"{str(data)[:80]!r}. Read a file by Path(...).read_bytes()."
        )
    if bytes(data[:4]) in _KERAS:
        raise errors.ConversionError(
            "It is a Keras model, or another archive, and no .tflite: `tfslim export` "
            "makes .tflite files of a Keras model."
        )
    if bytes(data[4:8]) != _IDENTIFIER:
        raise errors.ConversionError(
            f"Not a .tflite file: bytes 4 to 8 of {len(data)} are "
            f"{bytes(data[4:8])!r}, expected {_IDENTIFIER!r}."
        )
    try:
        structure.check_counts(data)
        flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        _resolve_offsets(flat, data)
    except _DAMAGE as error:
        raise errors.ConversionError(
            f"Damaged .tflite file of {len(data)} bytes, perhaps cut off while it was "
            f"copied: {error}."
        ) from error
    try:
        structure.check(flat)
    except _DAMAGE as error:
        raise errors.ConversionError(
            f"Damaged .tflite file of {len(data)} bytes: {error}."
        ) from error
    flat.source = data
    return flat


def with_text_names(data: bytes) -> bytes:
    """Returns the file, or a copy with names in UTF-8 if some are not."""
    flat = unpack(data)
    if not reading.make_text(flat):
        return data
    return pack(flat, attached=attached_files(data))


def attached_files(data: bytes) -> dict[str, bytes]:
    """Reads the files that TensorFlow Lite Metadata hangs to a `.tflite` as a zip.

    They are mostly label lists. They lie behind the flatbuffer, so that whoever
    packs a changed model must pass them on.
    """
    stream = io.BytesIO(data)
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return {}  # Weights that happen to hold a zip's signature.


def pack(flat: Any, *, attached: Mapping[str, bytes] | None = None) -> bytes:
    """Writes a `schema.ModelT` as the bytes of a `.tflite`, all buffers inside.

    Args:
        flat: the model.
        attached: files to hang behind it, as `attached_files` gives them.

    Raises:
        ConversionError: the file would have 2 GB or more.
    """
    weights = sum(len(b.data) for b in flat.buffers if b.data is not None)
    if weights >= _MAX_BYTES:
        raise errors.ConversionError(
            f"The model has {weights} bytes of constants; a .tflite holds less than "
            "2 GB."
        )
    for buffer in flat.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    # A builder that is too small doubles, and copies everything each time.
    builder = _Builder(weights + 32 * len(flat.buffers) + 2**16)
    builder.Finish(flat.Pack(builder), file_identifier=_IDENTIFIER)
    packed = memoryview(builder.Bytes)[builder.Head() :]
    content = _attach(packed, attached) if attached else bytes(packed)
    source = getattr(flat, "source", None)
    if source is not None and trial.is_known(source):
        trial.vouch(content)
    return content


def operator(
    flat: Any, name: str, source: int, target: int, *, version: int = 1
) -> Any:
    """Returns a new builtin op of one input and one output; adds its op code.

    Args:
        flat: the model that it is for.
        name: e.g. "DEQUANTIZE".
        source: number of the tensor that it reads.
        target: number of the tensor that it writes.
        version: of the op, if the file does not have it yet.
    """
    number = getattr(schema.BuiltinOperator, name)
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in flat.operatorCodes]
    if number not in codes:
        code = schema.OperatorCodeT(
            builtinCode=number, deprecatedBuiltinCode=number, version=version
        )
        flat.operatorCodes.append(code)
        codes.append(number)
    return schema.OperatorT(
        opcodeIndex=codes.index(number), inputs=[source], outputs=[target]
    )


def share_buffers(flat: Any) -> None:
    """Lets tensors with equal constants share one buffer; changes `flat` in place."""
    # Buffer 0 is the empty one by the schema's rule.
    first: dict[bytes, int] = {}
    for graph in flat.subgraphs:
        for tensor in graph.tensors:
            data = flat.buffers[tensor.buffer].data
            if data is not None and not tensor.isVariable:
                digest = hashlib.sha256(data).digest()
                tensor.buffer = first.setdefault(digest, tensor.buffer)
    drop_unused(flat)


def drop_unused(flat: Any) -> None:
    """Empties the buffers that no tensor and no metadata names any more."""
    used = {entry.buffer for entry in flat.metadata or []}
    used |= {tensor.buffer for graph in flat.subgraphs for tensor in graph.tensors}
    for index, buffer in enumerate(flat.buffers):
        if index not in used:
            buffer.data = None


def drop_tensors(flat: Any) -> None:
    """Takes out the main graph's tensors that nothing names; the others move up."""
    graph = flat.subgraphs[0]
    lists = [(graph, "inputs"), (graph, "outputs")]
    lists += [
        (op, name)
        for op in graph.operators
        for name in ("inputs", "outputs", "intermediates")
    ]
    entries = [
        entry
        for signature in flat.signatureDefs or []
        if not signature.subgraphIndex
        for entry in (*(signature.inputs or []), *(signature.outputs or []))
    ]
    used = {i for owner, name in lists for i in numbers(getattr(owner, name))}
    used |= {entry.tensorIndex for entry in entries}
    kept = [index for index in range(len(graph.tensors)) if index in used]
    places = {-1: -1, **{old: new for new, old in enumerate(kept)}}
    for owner, name in lists:
        setattr(owner, name, [places[i] for i in numbers(getattr(owner, name))])
    for entry in entries:
        entry.tensorIndex = places[entry.tensorIndex]
    graph.tensors = [graph.tensors[index] for index in kept]


def _attach(packed: memoryview, files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO(packed)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in files.items():
            # A fixed date: the same input gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


class _Builder(flatbuffers.Builder):
    """Aligns constants to 16 bytes, which the schema demands and Python forgets.

    Equal vectors are written once: the zero points of a layer's channels are as many
    zeros as those of the next one.
    """

    def __init__(self, initialSize: int):
        super().__init__(initialSize)
        self._written: dict[tuple[str, bytes], Any] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> Any:
        if x.dtype != np.uint8:
            key = x.dtype.str, x.tobytes()
            if key not in self._written:
                self._written[key] = super().CreateNumpyVector(x)
            return self._written[key]
        self.StartVector(1, x.size, 16)
        start = self.Head() - x.size
        self.Bytes[start : self.Head()] = x.data
        self.head = start
        self.vectorNumElems = x.size
        return self.EndVector()


def _resolve_offsets(flat: Any, data: bytes) -> None:
    view = np.frombuffer(data, np.uint8)
    for buffer in flat.buffers or []:
        if buffer.offset > 1:
            buffer.data = _slice(view, buffer.offset, size=buffer.size)
        buffer.offset = buffer.size = 0
        # The generated reader gives an empty vector as the number 0.
        if not isinstance(buffer.data, np.ndarray) or not len(buffer.data):
            buffer.data = None
    for graph in flat.subgraphs or []:
        for operator in graph.operators or []:
            if operator.largeCustomOptionsOffset > 1:
                operator.customOptions = _slice(
                    view,
                    operator.largeCustomOptionsOffset,
                    size=operator.largeCustomOptionsSize,
                )
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0


def _slice(view: np.ndarray, offset: int, *, size: int) -> np.ndarray:
    if offset + size > len(view):
        raise ValueError(
            f"a buffer ends at byte {offset + size}, the file at {len(view)}"
        )
    return view[offset : offset + size]
