"""Changing a constant of one op, and of that op alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.tflite import flatbuffer


def set_constant(flat: Any, op: int, position: int, values: np.ndarray) -> None:
    """Gives an op of the main graph new values for a constant input.

    Converters let ops share tensors, and tensors share buffers, where values are
    equal; both end here.

    Args:
        flat: `schema.ModelT`, changed in place.
        op: the op's place in the order of execution.
        position: which of its inputs.
        values: in the dtype and shape of the old ones.
    """
    graph = flat.subgraphs[0]
    inputs = list(flatbuffer.numbers(graph.operators[op].inputs))
    reads = [i for other in graph.operators for i in flatbuffer.numbers(other.inputs)]
    index = inputs[position]
    if reads.count(index) > 1:
        tensor = copy.copy(graph.tensors[index])
        tensor.name = tensor.name + b";%d" % op
        inputs[position] = len(graph.tensors)
        graph.operators[op].inputs = inputs
        graph.tensors.append(tensor)
    tensor = graph.tensors[inputs[position]]
    tensor.buffer = len(flat.buffers)
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    flat.buffers.append(schema.BufferT(data=data))
