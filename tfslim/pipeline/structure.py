"""Several inputs, outputs and targets, put in the model's own order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim import errors


def input_names(model: Any) -> list[str]:
    """Returns the names of a model's inputs, in its order; of a dict its keys.

    Raises:
        ConfigError: it is not built, or subclassed, and has none.
    """
    if not getattr(model, "inputs", None):
        raise errors.ConfigError(
            f"The model '{getattr(model, 'name', model)}' has no inputs of a known "
            "shape: it is not built, or a subclassed one. Give one that is made of "
            "layers: keras.Sequential, or keras.Model(inputs, outputs)."
        )
    structure = getattr(model, "input", None)
    if isinstance(structure, dict):
        return sorted(structure)
    return [tensor.name.split(":")[0] for tensor in model.inputs]


def output_names(model: Any) -> list[str]:
    """Returns the names of a model's outputs, in the order of its flat outputs.

    Where the model gives a dict they are its keys, by which targets go, too.
    """
    structure = getattr(model, "output", None)
    if isinstance(structure, dict):
        return sorted(structure)
    # A Sequential model of Keras 3 has one output and no name for it.
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])


def in_order(values: Any, names: Sequence[str], *, what: str) -> Any:
    """Returns one array, or a list of arrays as `names` has them.

    Args:
        values: an array, or several as a dict, tuple or list.
        names: of the model's inputs or outputs.
        what: "inputs" or "targets", for messages.

    Raises:
        ConfigError: there is one too few or too many.
    """
    if isinstance(values, dict):
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in names]
        if missing or (unknown and what == "targets"):
            raise errors.ConfigError(
                f"The data's {what} are called {', '.join(map(str, values))}, the "
                f"model's {', '.join(names)}: give each by its name."
            )
        values = [values[name] for name in names]
    elif not are_several(values):
        if what == "inputs" and len(names) > 1:
            raise errors.ConfigError(
                f"The data has one input, the model {len(names)} ({', '.join(names)}): "
                "give a tuple or a dict of arrays."
            )
        return np.asarray(values)
    if len(values) != len(names):
        raise errors.ConfigError(
            f"The data has {len(values)} {what}, the model {len(names)} "
            f"({', '.join(names)})."
        )
    arrays = [np.asarray(value) for value in values]
    return arrays[0] if len(arrays) == 1 else arrays


def are_several(values: Any) -> bool:
    """Tells several arrays from one, which may be a list of numbers."""
    if isinstance(values, dict | tuple):
        return True
    return (
        isinstance(values, list)
        and bool(values)
        and all(getattr(value, "ndim", 0) > 0 for value in values)
    )


def first_of(values: Any) -> Any:
    """Returns the first array of one or several."""
    if isinstance(values, dict):
        return next(iter(values.values()))
    return values[0] if are_several(values) else values


def map_arrays(function: Any, values: Any) -> Any:
    """Applies a function to one array, or to each of several."""
    if isinstance(values, dict):
        return {key: function(value) for key, value in values.items()}
    if are_several(values):
        return [function(value) for value in values]
    return function(values)


def joined(batches: Sequence[Any]) -> Any:
    """Returns one array, or a list of them, from that of each batch."""
    if isinstance(batches[0], list):
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return np.concatenate(batches)
