"""Options of functions of tensors in one form, however the user wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfslim.graph import ir

_AXES_OF_INPUT = {"mean", "sum", "max", "min", "squeeze"}
_AXIS_OF_INPUT = {"concatenate", "split", "softmax"}


def normalize(
    op: str,
    config: Mapping[str, Any],
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
