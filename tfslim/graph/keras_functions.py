"""Functions of tensors in one form, however the user wrote them in either Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim.graph import ir

_AXES_OF_INPUT = {"mean", "sum", "max", "min", "squeeze"}
_AXIS_OF_INPUT = {"concatenate", "split", "softmax"}


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer as Keras recorded it."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Function:
    """A call that is a function of the graph's vocabulary.

    `operands` are symbolic tensors or constants; a list of tensors for `concatenate`.
    """

    op: str
    operands: tuple[Any, ...]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def function(
    op: str, operands: Sequence[Any], *, config: Mapping[str, Any]
) -> Function | None:
    """Returns a function with its options as plain data, None if one is computed."""
    plain = {key: _plain(value) for key, value in config.items()}
    if any(value is _UNKNOWN for value in plain.values()):
        return None
    return Function(op, tuple(operands), plain)


_UNKNOWN = object()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _UNKNOWN if _UNKNOWN in items else items
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else _UNKNOWN


def getitem(tensor: Any, key: Any) -> Function | None:
    """Returns `tensor[key]` as a function, None for a key that is computed.

    Args:
        tensor: a symbolic tensor.
        key: one entry or several: an int, an ellipsis, or a slice, which tf_keras
            writes as a dict.
    """
    entries: list[Any] = []
    for entry in key if isinstance(key, tuple | list) else (key,):
        if isinstance(entry, Mapping):
            entry = slice(*(entry.get(name) for name in ("start", "stop", "step")))
        if isinstance(entry, slice):
            entry = [entry.start, entry.stop, entry.step]
            is_known = all(item is None or isinstance(item, int) for item in entry)
        else:
            is_known = isinstance(entry, int) and not isinstance(entry, bool)
        if entry is not Ellipsis and not is_known:
            return None
        entries.append("..." if entry is Ellipsis else entry)
    return Function("getitem", (tensor,), {"key": entries})


def normalize(
    op: str,
    config: Mapping[str, Any],
    *,
    source: ir.Shape,
    outputs: Sequence[ir.Shape],
) -> dict[str, Any]:
    """Returns the options of a function with every default and axis spelled out.

    Args:
        op: a function of the graph's vocabulary.
        config: its options as read; None for what was left to the default.
        source: the shape of the first operand.
        outputs: the shapes of the results.

    Returns:
        The options, axes counted from the front, `reshape` and `split` with the
        sizes that Keras inferred.
    """
    config = {key: value for key, value in config.items() if value is not None}
    ndim = len(source)
    if op in _AXES_OF_INPUT:
        config["axis"] = _axes(config.get("axis"), source, squeeze=op == "squeeze")
        if op != "squeeze":
            config["keepdims"] = bool(config.get("keepdims", False))
    elif op in _AXIS_OF_INPUT:
        config["axis"] = config.get("axis", -1) % ndim
        if op == "split":
            config["sizes"] = [shape[config["axis"]] for shape in outputs]
    elif op == "expand_dims":
        config["axis"] = config["axis"] % len(outputs[0])
    elif op == "transpose":
        axes = config.get("axes", range(ndim)[::-1])
        config["axes"] = [axis % ndim for axis in axes]
    elif op == "reshape" and sum(size is None for size in outputs[0]) <= 1:
        config["shape"] = [-1 if size is None else size for size in outputs[0]]
    elif op == "pad":
        config["mode"] = config.get("mode", "constant").lower()
        config["value"] = config.get("value", 0)
        config["paddings"] = [list(pair) for pair in config["paddings"]]
    elif op == "getitem":
        config["key"] = _without_ellipsis(config["key"], ndim)
    return config


def _axes(axis: Any, shape: ir.Shape, *, squeeze: bool) -> list[int]:
    ndim = len(shape)
    if axis is None or axis == []:
        return [a for a in range(ndim) if shape[a] == 1 or not squeeze]
    axes = [axis] if isinstance(axis, int) else list(axis)
    return sorted(a % ndim for a in axes)


def _without_ellipsis(key: list[Any], ndim: int) -> list[Any]:
    whole: list[Any] = [None, None, None]
    if "..." not in key:
        return key + [whole] * (ndim - len(key))
    place = key.index("...")
    missing = ndim - (len(key) - 1)
    return key[:place] + [whole] * missing + key[place + 1 :]
