"""Changing a constant of some ops, and of these alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.tflite import flatbuffer


def set_constant(
    flat: Any, places: Sequence[tuple[int, int]], *, values: np.ndarray
) -> None:
    """Gives ops of the main graph new values for a constant input.

    Converters let ops share tensors, and tensors share buffers, where values are equal;
    for all other ops both end here. The ops named go on sharing.

    Args:
        flat: `schema.ModelT`, changed in place.
        places: the place of each op in the order of execution, and which of its inputs.
        values: in the dtype and shape of the old ones.
    """
    graph = flat.subgraphs[0]
    reads = [i for op in graph.operators for i in flatbuffer.numbers(op.inputs)]
    inputs = {
        op: list(flatbuffer.numbers(graph.operators[op].inputs)) for op, _ in places
    }
    own = [inputs[op][position] for op, position in places]
    buffer = len(flat.buffers)
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    flat.buffers.append(schema.BufferT(data=data))
    for index in dict.fromkeys(own):
        target = index
        if reads.count(index) > own.count(index):
            tensor = copy.copy(graph.tensors[index])
            tensor.name = tensor.name + b";%d" % places[0][0]
            target = len(graph.tensors)
            graph.tensors.append(tensor)
        graph.tensors[target].buffer = buffer
        for op, position in places:
            if inputs[op][position] == index:
                inputs[op][position] = target
                graph.operators[op].inputs = inputs[op]
