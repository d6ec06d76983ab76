"""Plain data with arrays in it, as bytes: a callback's state, a model's weights.

The bytes are a mark, the length of a JSON text, the text, and the arrays one after the
other: numpy's own archive would copy them once more and has no bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_ARRAY = "__array__"
_MARK = b"tfslim 1"
_WORD = 8


def pack(value: Any) -> bytes:
    """Returns `value` as bytes.

    Args:
        value: None, a bool, number or string, a numpy array, or a list, tuple or dict
            with string keys of such values. Tuples come back as lists.

    Raises:
        TypeError: there is something else in it.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays, path="state")).encode()
    size = len(text).to_bytes(_WORD, "little")
    return b"".join([_MARK, size, text, *(array.data for array in arrays)])


def unpack(data: bytes) -> Any:
    """Returns what `pack` was given.

    Raises:
        ValueError: these are not the bytes of `pack`, or not all of them.
    """
    start = len(_MARK) + _WORD
    if len(data) < start or not data.startswith(_MARK):
        raise ValueError("these are not the bytes of a state")
    end = start + int.from_bytes(data[len(_MARK) : start], "little")
    arrays = _Arrays(data, end)
    value = _filled(json.loads(data[start:end]), arrays)
    if arrays.offset != len(data):
        raise ValueError("there are more bytes than those of a state")
    return value


def _plain(value: Any, arrays: list[np.ndarray], *, path: str) -> Any:
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        arrays.append(array.reshape(-1).view(np.uint8))
        return {_ARRAY: array.dtype.name, "shape": np.shape(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path} has the key {key!r}, which is no string")
        return {k: _plain(v, arrays, path=f"{path}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, arrays, path=f"{path}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{path} is a {type(value).__name__}")


class _Arrays:
    """Takes arrays out of bytes, one after the other."""

    def __init__(self, data: bytes, offset: int):
        self._data = data
        self.offset = offset

    def take(self, dtype_name: str, shape: list[int]) -> Any:
        dtype = np.dtype(tf.as_dtype(dtype_name).as_numpy_dtype)
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(self._data, dtype, count, self.offset)
        self.offset += array.nbytes
        # A copy: frombuffer's array cannot be written to. [()] makes 0-d ones scalars.
        return array.reshape(shape).copy()[()]


def _filled(value: Any, arrays: _Arrays) -> Any:
    if isinstance(value, list):
        return [_filled(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays.take(value[_ARRAY], value["shape"])
    return {key: _filled(item, arrays) for key, item in value.items()}
