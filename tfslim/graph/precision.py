"""The same network in float32, whatever its layers compute in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim.graph import ir

# What a file for float kernels cannot hold, or holds with another result.
OTHERS = frozenset(
    "float16 bfloat16 float64 mixed_float16 mixed_bfloat16 half double".split()
)


def precisions(graph: ir.Graph) -> tuple[str, ...]:
    """Returns what layers compute in beside float32, e.g. ("mixed_bfloat16",)."""
    found: set[str] = set()
    for layer in graph.layers.values():
        _replaced(layer.config, found)
        # A number in the model's arithmetic takes the type of what it meets.
        if layer.op != "Constant":
            found |= {w.dtype.name for w in layer.weights.values()} & OTHERS
    return tuple(sorted(found))


def to_float32(graph: ir.Graph) -> tuple[ir.Graph, tuple[str, ...]]:
    """Lets every layer compute in float32, with weights and inputs of float32.

    A custom layer follows if it takes its type from its dtype policy.

    Returns:
        The graph, the same one if it is in float32, and what it computed in before.
    """
    found = precisions(graph)
    if not found:
        return graph, ()
    changed = {name: _converted(layer) for name, layer in graph.layers.items()}
    return graph.with_layers(changed), found


def _converted(layer: ir.Layer) -> ir.Layer:
    weights = {
        name: np.asarray(w, np.float32) if w.dtype.name in OTHERS else w
        for name, w in layer.weights.items()
    }
    return dataclasses.replace(
        layer, config=_replaced(layer.config, set()), weights=weights
    )


def _is_policy(value: Any) -> bool:
    """Tells whether a dtype option, a name or a policy's config, is to be replaced."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, Mapping) else None
    return isinstance(value, str) and value in OTHERS


def _replaced(config: Any, found: set[str]) -> Any:
    """Returns a config, those of layers inside it included, with float32 policies.

    The names of the others are added to `found`.
    """
    if isinstance(config, list | tuple):
        return type(config)(_replaced(item, found) for item in config)
    if not isinstance(config, Mapping):
        return config
    result = {}
    for key, value in config.items():
        if key == "dtype" and _is_policy(value):
            found.add(value if isinstance(value, str) else value["config"]["name"])
            value = "float32"
        result[key] = _replaced(value, found)
    return result
