"""Freezes a traced function, large matrices detached.

The converter copies every constant many times, in Python and in C++; the weights
of a large Dense layer pass through all of it unchanged but for a transposition. They
become inputs of the function, and constants again in the finished file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2
from tensorflow.python.eager import wrap_function
from tensorflow.python.framework import convert_to_constants

from tfslim import ops
from tfslim.convert import formulas, recurrent
from tfslim.tflite import flatbuffer
from tfslim.tflite import model as tflite_model

# Below this many elements the detour saves nothing.
_MIN_DETACHED = 2**20
# Of a matrix that are transposed at a time.
_ROWS = 16
# With a constant they become part of the layer before them.
_FOLDED = ops.tflite("scaling") | ops.tflite("additive")


@dataclasses.dataclass(frozen=True)
class Detached:
    """A matrix [out, in], as FULLY_CONNECTED takes it, and the input in its place."""

    name: str
    matrix: np.ndarray


def freeze(
    traced: Any, *, detach: bool = True, spell: bool = False
) -> tuple[Any, list[Detached]]:
    """Turns a concrete function's variables into constants.

    Args:
        traced: `tf.function(...).get_concrete_function(...)`.
        detach: whether large matrices may be replaced.
        spell: whether `formulas` stand in for ops.

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
    builder = _Builder(traced.graph, captured, detach=detach, spell=spell)
    graph = builder.build()
    arguments = [t.name for t in traced.inputs if t.op.name not in captured]
    arguments += [f"{item.name}:0" for item in builder.detached]
    outputs = [tensor.name for tensor in traced.outputs]
    frozen = wrap_function.function_from_graph_def(graph, arguments, outputs)
    return frozen, builder.detached


class _Builder:
    """Writes the frozen graph, node by node."""

    def __init__(
        self, graph: tf.Graph, captured: dict[str, Any], *, detach: bool, spell: bool
    ):
        self._traced = graph
        self._graph = graph.as_graph_def()
        self._captured = captured
        self._detach = detach
        self._spell = spell
        self.detached: list[Detached] = []
        readers: dict[str, list[node_def_pb2.NodeDef]] = {}
        for node in self._graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        # Kernels that only matrix products read, which then may take them transposed,
        # as the file will have them: the converter transposes element by element.
        self._kernels = {
            node.name
            for node in self._graph.node
            if node.op == "ReadVariableOp"
            and readers.get(node.name)
            and all(_takes_kernel(user, node.name) for user in readers[node.name])
        }

    def build(self) -> graph_pb2.GraphDef:
        frozen = graph_pb2.GraphDef(
            versions=self._graph.versions, library=self._graph.library
        )
        for node in self._graph.node:
            if node.op == "ReadVariableOp":
                frozen.node.append(self._weight(node))
            elif node.name not in self._captured:
                made = formulas.spelled(node, self._traced) if self._spell else None
                if made is not None:
                    frozen.node.extend(made)
                    continue
                frozen.node.append(_sized(node))
                if node.op == "MatMul" and node.input[1] in self._kernels:
                    frozen.node[-1].attr["transpose_b"].b = True
            elif node.attr["dtype"].type != tf.resource.as_datatype_enum:
                value = self._captured[node.name].numpy()
                frozen.node.append(_constant(node.name, tf.make_tensor_proto(value)))
        return frozen

    def _weight(self, node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
        value = self._captured[node.input[0]].numpy()
        if node.name not in self._kernels:
            return _constant(node.name, tf.make_tensor_proto(value))
        value = _transposed(value)
        if not self._detach or value.size < _MIN_DETACHED or value.dtype != np.float32:
            return _constant(node.name, tf.make_tensor_proto(value))
        self.detached.append(Detached(node.name, value))
        made = node_def_pb2.NodeDef(name=node.name, op="Placeholder")
        made.attr["dtype"].type = node.attr["dtype"].type
        made.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
        return made


def _transposed(value: np.ndarray) -> np.ndarray:
    """Returns a matrix's transpose in rows; a few rows at a time stay in the cache."""
    result = np.empty(value.shape[::-1], value.dtype)
    for start in range(0, len(value), _ROWS):
        result[:, start : start + _ROWS] = value[start : start + _ROWS].T
    return result


def _sized(node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
    """Lets a non-max suppression give a fixed number of rows, as TFLite's does."""
    if node.op != "NonMaxSuppressionV3":
        return node
    sized = node_def_pb2.NodeDef()
    sized.CopyFrom(node)
    sized.op = "NonMaxSuppressionV4"
    sized.attr["pad_to_max_output_size"].b = True
    return sized


def _takes_kernel(user: node_def_pb2.NodeDef, kernel: str) -> bool:
    return (
        user.op == "MatMul"
        and user.input[1] == kernel
        and user.input[0] != kernel
        and not user.attr["transpose_b"].b
    )


def _constant(name: str, proto: Any) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].CopyFrom(attr_value_pb2.AttrValue(tensor=proto))
    return node


def _is_call(function: Any) -> bool:
    """Tells whether a function is a stand-in, which reads no variables."""
    return recurrent.NAME in function.signature.name


def _called(graph: graph_pb2.GraphDef) -> set[str]:
    """Names the functions that the graph itself calls, not those that these call."""
    attributes = [attr for node in graph.node for attr in node.attr.values()]
    functions = [attr.func for attr in attributes]
    functions += [each for attr in attributes for each in attr.list.func]
    return {function.name for function in functions} - {""}


def _captured(traced: Any) -> dict[str, Any] | None:
    """Returns placeholder name -> variable or tensor; None if some use is unknown."""
    graph_def = traced.graph.as_graph_def()
    known = {f.signature.name for f in graph_def.library.function if _is_call(f)}
    if not known.issuperset(_called(graph_def)):
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


def attach(flat: Any, detached: list[Detached]) -> bool:
    """Puts the detached matrices into the converted file, in place.

    Args:
        flat: `schema.ModelT` of the converted file.
        detached: what `freeze` returned.

    Returns:
        Whether every one came through, as the weights of FULLY_CONNECTED ops and
        nothing else; if not, the file is of no use and must be converted without
        detaching.
    """
    graph = flat.subgraphs[0]
    matrices = {item.name.encode(): item.matrix for item in detached}
    given = flatbuffer.numbers(graph.inputs)
    places = {i: matrices[n] for i in given if (n := graph.tensors[i].name) in matrices}
    if len(places) < len(detached) or not _are_plain_weights(flat, set(places)):
        return False
    for index, matrix in places.items():
        graph.tensors[index].buffer = len(flat.buffers)
        data = matrix.view(np.uint8).reshape(-1)
        flat.buffers.append(schema.BufferT(data=data))
    graph.inputs = [index for index in given if index not in places]
    return True


def _are_plain_weights(flat: Any, tensors: set[int]) -> bool:
    """Whether the tensors are read as weights only, and the converter would fold none.

    Into a constant kernel it folds what multiplies the output: batch normalization.
    """
    graph = flat.subgraphs[0]
    made: set[int] = set()
    for op in graph.operators:
        name, _ = tflite_model.op_name(flat.operatorCodes[op.opcodeIndex])
        inputs = flatbuffer.numbers(op.inputs)
        others = [i for i in inputs if i not in made]
        stored = [flat.buffers[graph.tensors[i].buffer].data for i in others]
        if name in _FOLDED and len(others) < 2 and all(d is not None for d in stored):
            return False
        if tensors.intersection(inputs):
            if name != "FULLY_CONNECTED" or tensors.intersection(inputs) != {inputs[1]}:
                return False
            made.update(flatbuffer.numbers(op.outputs))
    return True
