"""Plain data with arrays in it, as bytes: a callback's state, a model's weights."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_ARRAY = "__array__"


def pack(value: Any) -> bytes:
    """Returns `value` as the bytes of an `.npz` archive.

    Args:
        value: None, a bool, number or string, a numpy array, or a list, tuple or dict
            with string keys of such values. Tuples come back as lists.

    Raises:
        TypeError: there is something else in it.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(value, arrays, "state"))
    archive = io.BytesIO()
    np.savez(archive, json=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return archive.getvalue()


def unpack(data: bytes) -> Any:
    """Returns what `pack` was given.

    Raises:
        ValueError: these are not the bytes of `pack`.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            text = archive["json"].tobytes().decode()
            return _filled(json.loads(text), archive)
    except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a state: {error}") from error


def _plain(value: Any, arrays: dict[str, np.ndarray], path: str) -> Any:
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        name, array = f"a{len(arrays)}", np.asarray(value)
        # numpy saves bfloat16 as raw bytes without a type.
        arrays[name] = np.frombuffer(array.tobytes(), np.uint8)
        return {_ARRAY: name, "dtype": array.dtype.name, "shape": array.shape}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path} has the key {key!r}, which is no string")
        return {k: _plain(v, arrays, f"{path}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, arrays, f"{path}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{path} is a {type(value).__name__}")


def _filled(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_filled(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY not in value:
        return {key: _filled(item, arrays) for key, item in value.items()}
    dtype = tf.as_dtype(value["dtype"]).as_numpy_dtype
    array = np.frombuffer(arrays[value[_ARRAY]].tobytes(), dtype)
    # A copy: frombuffer's array cannot be written to. [()] makes 0-d ones scalars.
    return array.reshape(value["shape"]).copy()[()]
