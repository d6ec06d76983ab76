"""Names of layers that TensorFlow takes as scopes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Mapping

from tfslim.graph import ir

_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def is_scope(name: str) -> bool:
    """Tells whether TensorFlow takes a name as a scope; Keras 3 takes any."""
    return _SCOPE.fullmatch(name) is not None


def scoped(graph: ir.Graph) -> tuple[ir.Graph, dict[str, str]]:
    """Renames the layers, and the model, whose names are no scopes.

    Returns:
        The graph, and the new name of every layer that was renamed.
    """
    taken = {name for name in graph.layers if is_scope(name)}
    new = {}
    for name in graph.layers:
        if not is_scope(name):
            new[name] = free(_safe(name), taken)
            taken.add(new[name])
    return dataclasses.replace(rename(graph, new), name=_safe(graph.name)), new


def rename(graph: ir.Graph, new: Mapping[str, str]) -> ir.Graph:
    """Returns the graph with some layers under another name."""
    layers = {
        new.get(name, name): dataclasses.replace(layer, name=new.get(name, name))
        for name, layer in graph.layers.items()
    }
    nodes = tuple(
        dataclasses.replace(node, layer=new.get(node.layer, node.layer))
        for node in graph.nodes
    )
    return dataclasses.replace(graph, layers=layers, nodes=nodes)


def _safe(name: str) -> str:
    if is_scope(name):
        return name
    safe = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return safe if is_scope(safe) else f"layer{safe}"


def free(name: str, taken: Container[str]) -> str:
    """Returns the name, numbered if it is taken."""
    free, number = name, 1
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
