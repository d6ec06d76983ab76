"""Tracing a Keras 3 model without what moves its random seeds on.

Recurrent layers and augmentation layers of Keras 3 draw numbers in inference, too, and
use none of them. Each draw changes a seed, and a `.tflite` has no place for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tfslim import errors
from tfslim.graph import keras as graph_keras


@contextlib.contextmanager
def standing_still(model: Any) -> Iterator[None]:
    """Has no variable of a Keras 3 model assigned, as long as the context lasts.

    Args:
        model: of either Keras; one of tf_keras is traced as it is.

    Raises:
        ConversionError: a variable that is no seed was assigned.
    """
    if graph_keras.keras_of(model) != "keras":
        yield
        return
    import keras

    with keras.StatelessScope() as scope:
        yield
    seeds = {id(seed) for seed in _seeds(model)}
    for variable in model.variables:
        if id(variable) in scope.state_mapping and id(variable) not in seeds:
            raise errors.ConversionError(
                f"The variable '{variable.path}' is changed in inference, too, and a "
                ".tflite cannot keep it. Leave that out where training=False."
            )


def require_unused(model: Any, traced: Any) -> None:
    """Raises ConversionError if what a model gives depends on random numbers.

    Args:
        model: of either Keras.
        traced: the concrete function of it.
    """
    if graph_keras.keras_of(model) != "keras":
        return
    seeds = {id(seed.value.handle): seed for seed in _seeds(model)}
    inside = {
        placeholder.op.name: seeds[id(outside)]
        for outside, placeholder in traced.graph.captures
        if id(outside) in seeds
    }
    used = inside.keys() & _behind(traced.outputs)
    if used:
        raise errors.ConversionError(
            f"Model '{model.name}' draws random numbers in inference, too (by "
            f"'{inside[min(used)].path}'), and a .tflite gives the same for the same "
            "input. Leave that out where training=False."
        )


def _seeds(model: Any) -> list[Any]:
    layers = model._flatten_layers()
    return [g.state for each in layers for g in getattr(each, "_seed_generators", ())]


def _behind(outputs: Any) -> set[str]:
    """Names all ops that tensors are computed from."""
    found: set[str] = set()
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting += [tensor.op for tensor in op.inputs]
    return found
