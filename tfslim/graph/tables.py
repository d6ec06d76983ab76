"""The head of a graph that looks up words, and what lies behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfslim import errors, ops
from tfslim.graph import editor, ir
from tfslim.graph import names as names_lib

# The type of tensors that no `.tflite` holds.
_TEXT = "string"


@dataclasses.dataclass(frozen=True)
class Split:
    """A graph in two parts.

    Attributes:
        head: from the graph's inputs to those of `rest`; its tables are whole.
        rest: from there to the graph's outputs.
        tables: layers of the head that look up or hash.
        made: input of `rest` -> the layer of the head that gives it.
    """

    head: ir.Graph
    rest: ir.Graph
    tables: tuple[str, ...]
    made: Mapping[str, str]


def split(graph: ir.Graph, dtypes: Mapping[ir.TensorRef, str]) -> Split | None:
    """Splits off the head of a graph; None where it has neither tables nor texts.

    Args:
        graph: the whole.
        dtypes: the type of each of its tensors.

    Raises:
        ConversionError: a table does not stand at the head.
    """
    tables = [n for n, node in enumerate(graph.nodes) if _is_table(graph, node)]
    texts = [ref.node for ref, dtype in dtypes.items() if dtype == _TEXT]
    readers = [
        number
        for number, node in enumerate(graph.nodes)
        if any(dtypes[ref] == _TEXT for ref in node.inputs)
    ]
    if not tables and not texts:
        return None
    inside = _ancestors(graph, {*tables, *texts, *readers})
    _check(graph, inside, first=min(tables or readers or texts))
    names = _border(graph, inside)
    head, rest = editor.Editor(graph), editor.Editor(graph)
    for ref, name in names.items():
        config = {"batch_shape": list(graph.shape(ref)), "dtype": dtypes[ref]}
        rest.moved[ref] = rest.call(
            ir.Layer(name, "Input", config), (), (graph.shape(ref),)
        )
    ends = _ends(graph, inside, names=names)
    outside = {ref.node for ref in ir.refs(ends)}  # Inputs that the rest alone reads.
    for number, node in enumerate(graph.nodes):
        is_constant = graph.layer_of(node).op == "Constant"
        if number in inside | outside:
            head.copy(number)
        if number not in inside or is_constant:
            rest.copy(number)
    return Split(
        head.finish(ir.substitute(ends, head.moved)),
        editor.without_unused(rest.finish(inputs=ir.substitute(ends, rest.moved))),
        tuple(dict.fromkeys(graph.nodes[number].layer for number in tables)),
        {name: graph.nodes[ref.node].layer for ref, name in names.items()},
    )


def _is_table(graph: ir.Graph, node: ir.Node) -> bool:
    layer = graph.layer_of(node)
    return layer.op in ops.keras("table") and layer.keras_class is None


def _ancestors(graph: ir.Graph, wanted: set[int]) -> set[int]:
    """Returns nodes with all that they need."""
    inside, waiting = set[int](), sorted(wanted)
    while waiting:
        number = waiting.pop()
        if number not in inside:
            inside.add(number)
            waiting += [ref.node for ref in graph.nodes[number].inputs]
    return inside


def _check(graph: ir.Graph, inside: set[int], *, first: int) -> None:
    """Refuses what is more than a head."""
    name, op = graph.nodes[first].layer, graph.layer_of(graph.nodes[first]).op
    table = f"Layer '{name}' ({op})" if op != "Input" else f"Input '{name}' (string)"
    can = "A .tflite holds no words, so the app has to look them up"
    weighty = [
        graph.nodes[number].layer
        for number in sorted(inside)
        for layer in [graph.layer_of(graph.nodes[number])]
        if layer.weights and layer.op != "Constant"
    ]
    if weighty:
        raise errors.ConversionError(
            f"{table} cannot be split off: what it reads, or gives on, goes through "
            f"'{weighty[0]}', which has weights. {can}: build the model from there "
            "on, or up to there."
        )
    ends = [ref for ref in graph.output_refs if ref.node in inside]
    if ends:
        output = graph.nodes[ends[0].node].layer
        raise errors.ConversionError(
            f"{table} cannot be split off: the model's output '{output}' is all words "
            f"and tables. {can}: leave that output out, or export what follows it."
        )


def _border(graph: ir.Graph, inside: set[int]) -> dict[ir.TensorRef, str]:
    """Returns the tensors of the head that the rest reads, with a name for each.

    One that is made of one input, which makes nothing else, keeps its name.
    """
    outside = [n for n in range(len(graph.nodes)) if n not in inside]
    read = {ref for number in outside for ref in graph.nodes[number].inputs}
    border = [
        ref
        for ref in sorted(read, key=lambda ref: (ref.node, ref.port))
        if ref.node in inside and graph.layer_of(graph.nodes[ref.node]).op != "Constant"
    ]
    sources = {ref: _sources(graph, ref) for ref in border}
    every = [source for each in sources.values() for source in each]
    found: dict[ir.TensorRef, str] = {}
    taken = {graph.nodes[number].layer for number in outside}
    for ref in border:
        is_own = len(sources[ref]) == 1 and every.count(sources[ref][0]) == 1
        maker = sources[ref][0].node if is_own else ref.node
        found[ref] = names_lib.free(graph.nodes[maker].layer, taken)
        taken.add(found[ref])
    return found


def _sources(graph: ir.Graph, ref: ir.TensorRef) -> list[ir.TensorRef]:
    above = _ancestors(graph, {ref.node})
    return [source for source in graph.input_refs if source.node in above]


def _ends(
    graph: ir.Graph, inside: set[int], *, names: Mapping[ir.TensorRef, str]
) -> Any:
    """Returns what the rest takes, in the whole's terms: a dict where that took one.

    What is made of inputs stands where the first of them stood.
    """
    keyed = graph.inputs if isinstance(graph.inputs, Mapping) else {}
    keys = {ref: key for key, ref in keyed.items()}
    entries: dict[ir.TensorRef, str] = {}
    for source in graph.input_refs:
        if source.node not in inside:
            entries[source] = keys.get(source, "")
        for ref, name in names.items():
            if ref not in entries and source in _sources(graph, ref):
                is_own = name == graph.nodes[source.node].layer
                entries[ref] = keys.get(source, name) if is_own else name
    if keyed:
        return {key: ref for ref, key in entries.items()}
    tensors = list(entries)
    return tensors[0] if len(tensors) == 1 else tensors
