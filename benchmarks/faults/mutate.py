"""Damage to files: to their bytes, and to what is inside them."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

# What nobody expects in the place of a value.
_ODD = [None, True, -1, 0, 2**33, 1e308, float("nan"), "", "x", [], [8], {}, {"a": 1}]
_INTEGERS = (-(2**31), -7, -1, 0, 1, 3, 255, 2**15, 2**31 - 1)


def damage_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flips, cuts, repeats or overwrites somewhere."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if not damaged:
            break
        start = chance.randrange(len(damaged))
        end = min(len(damaged), start + chance.choice((1, 2, 4, 16, 64)))
        kind = chance.randrange(5)
        if kind == 0:
            damaged[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[start:end] = bytes([chance.choice((0, 255))]) * (end - start)
        elif kind == 2:
            del damaged[start:end]
        elif kind == 3:
            damaged[start:start] = damaged[start:end]
        else:
            del damaged[start:]
    return bytes(damaged)


def damage_json(text: bytes, chance: random.Random) -> bytes:
    """Replaces, drops or adds a value somewhere in a JSON document."""
    value = json.loads(text)
    places = list(_places(value))
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = chance.choice(places)
        kind = chance.randrange(4)
        if kind == 0 and isinstance(holder, dict):
            holder.pop(key, None)
        elif kind == 1 and isinstance(holder, dict):
            holder[chance.choice(("name", "x", "class_name", "0"))] = chance.choice(
                _ODD
            )
        else:
            holder[key] = chance.choice(_ODD)
    return json.dumps(value).encode()


def _places(value: Any) -> Any:
    """Yields (container, key) of each value in a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def in_archive(
    member: str, damage: Callable[[bytes, random.Random], bytes]
) -> Callable[[bytes, random.Random], bytes]:
    """Returns the damage done to one member of a zip archive."""

    def damaged(data: bytes, chance: random.Random) -> bytes:
        made = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(made, "w") as new,
        ):
            for name in old.namelist():
                part = old.read(name)
                new.writestr(name, damage(part, chance) if name == member else part)
        return made.getvalue()

    return damaged


def in_h5(data: bytes, chance: random.Random) -> bytes:
    """Damages the JSON that an .h5 holds the model's layers in."""
    import h5py

    made = io.BytesIO(data)
    with h5py.File(made, "a") as file:
        text = file.attrs["model_config"]
        encoded = text if isinstance(text, bytes) else text.encode()
        file.attrs["model_config"] = damage_json(encoded, chance)
    return made.getvalue()


def in_npz(data: bytes, chance: random.Random) -> bytes:
    """Gives an array of an .npz another shape, type or value, or drops it."""
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    x = arrays[name]
    changed = chance.choice(
        (
            None,
            x[0],
            x[:1],
            x[:0],
            x[..., None],
            x.reshape(-1),
            np.array(3),
            np.array("cat"),
            x.astype(str),
            x.astype(complex),
            x.astype(object),
            np.full(x.shape, np.nan, "float32"),
            x.astype("int64") + 2**40,
            x.astype("int64") - 5,
            x.astype("float64") * 1e300,
        )
    )
    arrays[name] = changed
    if changed is None:
        del arrays[name]
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def in_tflite(data: bytes, chance: random.Random) -> bytes:
    """Changes numbers, drops or swaps parts of a .tflite's tables."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    holders = list(_tables(model))
    for _ in range(chance.choice((1, 1, 1, 3))):
        holder = chance.choice(holders)
        name = chance.choice(sorted(vars(holder)))
        setattr(holder, name, _other(getattr(holder, name), chance))
    builder = flatbuffers.Builder(len(data))
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except Exception:  # No such file can be.
        return damage_bytes(data, chance)
    return bytes(builder.Output())


def _tables(table: Any) -> Any:
    yield table
    for value in list(vars(table).values()):
        for part in value if isinstance(value, list) else [value]:
            if type(part).__module__.endswith("schema_py_generated"):
                yield from _tables(part)


def _other(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((*_INTEGERS, value + 1, value - 1))
    if isinstance(value, float):
        return chance.choice((0.0, -1.0, float("nan"), float("inf"), 1e-38, 1e38))
    if isinstance(value, bytes):
        return chance.choice((b"", value[::-1], b"\xe9\xff", value * 2))
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "if":
        changed = value.copy()
        if chance.random() < 0.3:
            return changed[: chance.randrange(len(changed))]
        place = chance.randrange(changed.size)
        kind = changed.dtype.type(0).item()
        number = _other(kind if changed.dtype.kind == "i" else float(kind), chance)
        limits = np.iinfo(changed.dtype) if changed.dtype.kind == "i" else None
        changed.flat[place] = (
            np.clip(number, limits.min, limits.max) if limits else number
        )
        return changed
    if isinstance(value, list) and value:
        changed = list(value)
        if chance.random() < 0.5:
            del changed[chance.randrange(len(changed))]
        else:
            chance.shuffle(changed)
        return changed
    return None if chance.random() < 0.5 else value
