"""Freezes a traced function, large matrices detached.

The converter copies every constant some ten times, in Python and in C++; the weights
of a large Dense layer pass through all of it unchanged but for a transposition. They
are replaced by one repeated number (a splat, which costs nothing), and put into the
finished file in its place.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2
from tensorflow.python.eager import wrap_function
from tensorflow.python.framework import convert_to_constants

from tfslim.tflite import flatbuffer
from tfslim.tflite import model as tflite_model

# Below this many elements the detour saves nothing.
_MIN_DETACHED = 2**20


@dataclasses.dataclass(frozen=True)
class Detached:
    """A matrix [in, out] that `value` stands for."""

    value: np.float32
    matrix: np.ndarray


def freeze(traced: Any, *, detach: bool = True) -> tuple[Any, list[Detached]]:
    """Turns a concrete function's variables into constants.

    Args:
        traced: `tf.function(...).get_concrete_function(...)`.
        detach: whether large matrices may be replaced.

    Returns:
        A concrete function without variables, and what was detached.
    """
    captured = _captured(traced)
    if captured is None:
        # Control flow or an unusual use of a variable: TensorFlow's own way knows it.
        frozen = convert_to_constants.convert_variables_to_constants_v2(
            traced, lower_control_flow=False
        )
        return frozen, []
    detached: list[Detached] = []
    frozen_graph = graph_pb2.GraphDef(versions=traced.graph.as_graph_def().versions)
    for node in traced.graph.as_graph_def().node:
        if node.op == "ReadVariableOp":
            value = captured[node.input[0]]
            frozen_graph.node.append(_constant(node.name, value, detach, detached))
        elif node.name not in captured:
            frozen_graph.node.append(node)
        elif not _is_resource(node):
            value = captured[node.name]
            frozen_graph.node.append(_constant(node.name, value, False, detached))
    arguments = [tensor.name for tensor in traced.inputs if _argument(tensor, captured)]
    frozen = wrap_function.function_from_graph_def(
        frozen_graph, arguments, [tensor.name for tensor in traced.outputs]
    )
    return frozen, detached


def _argument(tensor: Any, captured: dict[str, Any]) -> bool:
    return tensor.op.name not in captured


def _is_resource(node: node_def_pb2.NodeDef) -> bool:
    return node.attr["dtype"].type == tf.resource.as_datatype_enum


def _captured(traced: Any) -> dict[str, Any] | None:
    """Returns placeholder name -> variable or tensor; None if some use is unknown."""
    graph_def = traced.graph.as_graph_def()
    if graph_def.library.function:
        return None
    variables = {id(variable.handle): variable for variable in traced.graph.variables}
    captured = {}
    for outside, inside in traced.graph.captures:
        value = variables.get(id(outside), outside)
        if value is outside and outside.dtype == tf.resource:
            return None
        captured[inside.op.name] = value
    handles = {name for name, value in captured.items() if hasattr(value, "handle")}
    for node in graph_def.node:
        if node.op != "ReadVariableOp" and handles & set(node.input):
            return None
    return captured


def _constant(
    name: str, value: Any, detach: bool, detached: list[Detached]
) -> node_def_pb2.NodeDef:
    array = value.numpy()
    if (
        detach
        and array.ndim == 2
        and array.dtype == np.float32
        and array.size >= _MIN_DETACHED
    ):
        # Exact in binary, no neutral element that a rewrite could drop, all different.
        stand_in = np.float32(0.5 + (len(detached) + 1) / 1024)
        detached.append(Detached(stand_in, array))
        proto = tf.make_tensor_proto(stand_in, shape=array.shape)
    else:
        proto = tf.make_tensor_proto(array)
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].CopyFrom(attr_value_pb2.AttrValue(tensor=proto))
    return node


def attach(flat: Any, detached: list[Detached]) -> bool:
    """Puts the detached matrices into the converted file, in place.

    Args:
        flat: `schema.ModelT` of the converted file.
        detached: what `freeze` returned.

    Returns:
        Whether every one was found, as the weights of FULLY_CONNECTED ops and nothing
        else; if not, the file is of no use and must be converted without detaching.
    """
    for item in detached:
        places = _places(flat, item)
        if not places:
            return False
        weights = np.ascontiguousarray(item.matrix.T).view(np.uint8).reshape(-1)
        for buffer in places:
            buffer.data = weights
    return True


def _places(flat: Any, item: Detached) -> list[Any]:
    graph = flat.subgraphs[0]
    wanted = list(item.matrix.shape[::-1])
    found = []
    for index, tensor in enumerate(graph.tensors):
        buffer = flat.buffers[tensor.buffer]
        if list(flatbuffer.numbers(tensor.shape)) != wanted or buffer.data is None:
            continue
        values = np.frombuffer(buffer.data, np.float32)
        if (values[::4097] == item.value).all() and (values == item.value).all():
            if not _only_weights(flat, graph, index):
                return []
            found.append(buffer)
    return found


def _only_weights(flat: Any, graph: Any, tensor: int) -> bool:
    for op in graph.operators:
        inputs = flatbuffer.numbers(op.inputs)
        if tensor in inputs:
            name, _ = tflite_model.op_name(flat.operatorCodes[op.opcodeIndex])
            if name != "FULLY_CONNECTED" or inputs.index(tensor) != 1:
                return False
    return True
