"""Calling one layer of a graph on arrays, beside any model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfslim.graph import ir, keras_config


def function_of(
    layer: ir.Layer, node: ir.Node
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Returns what a call computes of other tensors, one array for each of its inputs.

    Args:
        layer: one outside the vocabulary, without weights.
        node: the call; what is no tensor in its arguments stays.
    """
    layer_class: Any = layer.keras_class
    native = keras_config.made_from(layer_class, layer.config, name=layer.name)
    is_keras3 = layer_class.__module__.partition(".")[0] == "keras"
    package: Any = importlib.import_module("keras.ops" if is_keras3 else "tensorflow")
    to_array = package.convert_to_numpy if is_keras3 else np.asarray

    def call(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        tensors = iter([package.convert_to_tensor(array) for array in arrays])

        def taken(leaf: Any) -> Any:
            return next(tensors) if isinstance(leaf, ir.TensorRef) else leaf

        args, kwargs = ir.map_leaves(taken, (node.args, dict(node.kwargs)))
        flat: list[np.ndarray] = []
        _flatten(native(*args, **kwargs), flat)
        return [np.asarray(to_array(each)) for each in flat]

    return call


def _flatten(results: Any, found: list[Any]) -> None:
    if isinstance(results, dict):
        results = [results[key] for key in sorted(results)]
    if isinstance(results, list | tuple):
        for each in results:
            _flatten(each, found)
        return
    found.append(results)
