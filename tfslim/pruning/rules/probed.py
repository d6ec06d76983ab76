"""Functions without a rule: whether channels pass is found out by calling them.

A function that does the same to every channel may be called on some channels alone: it
gives the same as for all of them, without the others. That is tried, on random values
and random choices of channels. What passes is cut as everything else is, and proved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from tfslim.graph import ir, keras_call
from tfslim.pruning.labels import LabelArray
from tfslim.pruning.rules import base

_Function: TypeAlias = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
# Sizes of axes that are known at run time alone.
_OPEN = 2
_TYPES = ("float32", "int32", "bool")
# The choices that are tried; one that goes well by chance does not five times.
_TRIES = 5
_MAX_ELEMENTS = 2**20


def rule(call: base.Call) -> base.Wiring:
    """Labels pass where calling the function on fewer channels shows that they may."""
    if not any(base.varying(labels) for labels in call.inputs):
        return base.unknown(call)
    axes = [base.varying(labels) for labels in call.inputs]
    sizes = {labels.size for labels in call.inputs if labels.size > 1}
    shapes = [tuple(size or _OPEN for size in shape) for shape in call.shapes]
    too_many = sum(int(np.prod(shape)) for shape in shapes) > _MAX_ELEMENTS
    if max(map(len, axes)) > 1 or len(sizes) != 1 or too_many:
        return base.unknown(call)
    cut = [axis[0] if axis else None for axis in axes]
    places = _places(call, shapes, cut=cut, count=sizes.pop())
    if places is None:
        return base.unknown(call)
    first = next(labels for labels in call.inputs if labels.size > 1)
    for labels in call.inputs:
        if labels.size > 1:
            call.unite(labels.reshape(-1), first.reshape(-1))
    outputs = []
    for shape, (axis, places_there) in zip(call.node.shapes, places, strict=True):
        vector = first.reshape(-1)[places_there]
        outputs.append(call.on_axis(vector, axis, ndim=len(shape)))
    return base.Wiring(tuple(outputs))


def _places(
    call: base.Call,
    shapes: list[tuple[int, ...]],
    *,
    cut: list[int | None],
    count: int,
) -> list[tuple[int, LabelArray]] | None:
    """Returns, for each output, its axis of channels and which stands where there."""
    random = np.random.default_rng(0)
    try:
        function = keras_call.function_of(call.layer, call.node)
    except Exception:  # Whatever a class raises for its own config.
        return None
    for dtype in _TYPES:
        values = [_values(random, shape, dtype=dtype) for shape in shapes]
        whole = _called(function, values)
        if whole is not None:
            break
    else:
        return None
    said = [tuple(size or _OPEN for size in shape) for shape in call.node.shapes]
    if [array.shape for array in whole] != said:
        return None
    chosen = [random.permutation(count) < max(count // 2, 1) for _ in range(_TRIES)]
    # And every channel once left out of one of two.
    chosen += [np.arange(count) % 2 == 0, np.arange(count) % 2 == 1]
    found: list[tuple[int, LabelArray]] | None = None
    for kept in chosen:
        fewer = [
            array if axis is None else np.compress(kept, array, axis=axis)
            for array, axis in zip(values, cut, strict=True)
        ]
        part = _called(function, fewer)
        if part is None or len(part) != len(whole):
            return None
        if found is None:
            guesses = [
                _guess(a, b, kept=kept) for a, b in zip(whole, part, strict=True)
            ]
            if any(guess is None for guess in guesses):
                return None
            found = [guess for guess in guesses if guess is not None]
        for one, other, (axis, places) in zip(whole, part, found, strict=True):
            if not _same(np.compress(kept[places], one, axis=axis), other):
                return None
    return found


def _guess(
    whole: np.ndarray, part: np.ndarray, *, kept: np.ndarray
) -> tuple[int, LabelArray] | None:
    """Finds the axis that became shorter, and the order of channels on it."""
    if whole.ndim != part.ndim:
        return None
    axes = [a for a in range(whole.ndim) if whole.shape[a] != part.shape[a]]
    if len(axes) != 1 or whole.shape[axes[0]] % len(kept):
        return None
    [axis] = axes
    times = whole.shape[axis] // len(kept)
    numbers = np.arange(len(kept))
    for places in (np.tile(numbers, times), np.repeat(numbers, times)):
        if _same(np.compress(kept[places], whole, axis=axis), part):
            return axis, places
    return None


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True))


def _values(
    random: np.random.Generator, shape: tuple[int, ...], *, dtype: str
) -> np.ndarray:
    if dtype == "float32":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2 if dtype == "bool" else 9, shape).astype(dtype)


def _called(
    function: _Function, values: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """Returns what a function gives; None where it takes no such values."""
    try:
        return function(values)
    except Exception:
        # Whatever a backend raises for a type or a size that the function is not for.
        return None


def is_function(layer: ir.Layer) -> bool:
    """Tells whether a layer outside the vocabulary is a function of the Keras itself.

    What a user wrote may do on some values what it does not on others.
    """
    module = getattr(layer.keras_class, "__module__", "")
    is_own = module.partition(".")[0] in ("keras", "tf_keras")
    return is_own and layer.op.startswith(("ops.", "tf.")) and not layer.weights
