"""The part of a graph between tensors that are known and tensors that are wanted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfslim.graph import editor, ir


def needed(
    graph: ir.Graph, known: Collection[ir.TensorRef], *, wanted: Sequence[ir.TensorRef]
) -> tuple[list[int], list[ir.TensorRef]]:
    """Returns what has to be computed for some tensors, and out of what.

    Args:
        graph: what has all of them.
        known: tensors that are at hand.
        wanted: those to compute; what is known of them needs no node.

    Returns:
        The nodes to call, in order, and the known tensors that they read or that are
        wanted, each once.
    """
    nodes: set[int] = set()
    read: dict[ir.TensorRef, None] = {}
    waiting = list(wanted)
    while waiting:
        ref = waiting.pop()
        if ref in known:
            read[ref] = None
        elif ref.node not in nodes:
            nodes.add(ref.node)
            waiting.extend(graph.nodes[ref.node].inputs)
    return sorted(nodes), sorted(read, key=lambda ref: (ref.node, ref.port))


def between(
    graph: ir.Graph, known: Collection[ir.TensorRef], *, wanted: Sequence[ir.TensorRef]
) -> tuple[ir.Graph, list[ir.TensorRef]]:
    """Returns the graph that computes tensors out of those that are known.

    Args:
        graph: the whole; its weights are those of the part.
        known: tensors that are at hand.
        wanted: outputs of the part, none of which is known.

    Returns:
        A graph whose inputs are a list, and the tensors it takes, in that order.
    """
    nodes, read = needed(graph, known, wanted=wanted)
    part = editor.Editor(graph)
    inputs = []
    for ref in read:
        layer, shape = graph.layer_of(graph.nodes[ref.node]), graph.shape(ref)
        dtype = layer.config["dtype"] if layer.op == "Input" else "float32"
        config = {"batch_shape": list(shape), "dtype": dtype}
        part.moved[ref] = part.add("known", "Input", (), shape, config)
        inputs.append(part.moved[ref])
    for number in nodes:
        part.copy(number)
    outputs = [part.moved[ref] for ref in wanted]
    return part.finish(outputs, inputs=inputs), read
