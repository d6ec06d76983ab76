"""Puts chains of layers in the place of layers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from tfslim.factorization import base
from tfslim.graph import ir
from tfslim.graph.editor import Editor


def replace_layers(
    graph: ir.Graph, chains: Mapping[str, Sequence[base.Link]]
) -> ir.Graph:
    """Returns the graph with every call of some layers replaced by a chain of calls.

    A layer that is called twice becomes a chain that is called twice. The chains'
    names must be free, as `with_free_names` makes them.
    """
    editor = Editor(graph)
    for number, node in enumerate(graph.nodes):
        if node.layer not in chains:
            editor.copy(number)
            continue
        source = editor.moved[node.inputs[0]]
        for link in chains[node.layer]:
            shape = graph.shape(node.inputs[0]) if link.at_input else node.shapes[0]
            shape = _with_width(shape, link.layer)
            source = editor.call(link.layer, (source,), (shape,))
        editor.move(number)
    return editor.finish()


def _with_width(shape: ir.Shape, layer: ir.Layer) -> ir.Shape:
    axis = channel_axis(layer) % len(shape)
    width = layer.config["units" if layer.op == "Dense" else "filters"]
    return (*shape[:axis], width, *shape[axis + 1 :])


def channel_axis(layer: ir.Layer) -> int:
    """Returns the axis of the channels in the layer's input and output."""
    return 1 if layer.config.get("data_format") == "channels_first" else -1


def with_free_names(
    graph: ir.Graph, chains: Mapping[str, Sequence[base.Link]]
) -> dict[str, list[base.Link]]:
    """Returns the chains with a number after names that the graph has already.

    The last link keeps its name, the layer's own.
    """
    taken = set(graph.layers)
    result: dict[str, list[base.Link]] = {}
    for name, links in chains.items():
        *inner, last = links
        result[name] = []
        for link in inner:
            free = next(_candidates(link.layer.name, taken))
            taken.add(free)
            layer = dataclasses.replace(link.layer, name=free)
            result[name].append(dataclasses.replace(link, layer=layer))
        result[name].append(last)
    return result


def _candidates(name: str, taken: set[str]) -> Iterator[str]:
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return (n for n in itertools.chain([name], numbered) if n not in taken)
