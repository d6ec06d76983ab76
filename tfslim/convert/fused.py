"""LiteRT's fused recurrent ops, put into a file where `recurrent` left stand-ins.

UNIDIRECTIONAL_SEQUENCE_LSTM and _RNN keep their state in variable tensors from one run
to the next. A layer that is not stateful begins anew at every run, so that an op before
it writes its first state into these tensors: the file gives the same answers whether or
not an app calls `reset_all_variables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.convert import recurrent
from tfslim.tflite import flatbuffer

_CUSTOM = schema.BuiltinOperator.CUSTOM
_FLOAT32 = schema.TensorType.FLOAT32
_NUM_LSTM_INPUTS = 24


def install(flat: Any, found: Sequence[recurrent.Recurrent]) -> bool:
    """Replaces the stand-ins of a converted file by the ops that they stand for.

    Args:
        flat: `schema.ModelT`, changed in place.
        found: what the stand-ins stand for, by number.

    Returns:
        Whether all went well; else, as for a custom op of another origin, the file is
        of no use.
    """
    if not found:
        return True
    for graph in flat.subgraphs:
        _Installer(flat, graph, found=found).run()
    _drop_graphs(flat)
    codes = {op.opcodeIndex for g in flat.subgraphs for op in g.operators}
    return all(
        flat.operatorCodes[code].builtinCode != _CUSTOM
        or (flat.operatorCodes[code].customCode or b"").startswith(b"Flex")
        for code in codes
    )


class _Installer:
    """Replaces the stand-ins of one graph."""

    def __init__(self, flat: Any, graph: Any, *, found: Sequence[recurrent.Recurrent]):
        self._flat = flat
        self._graph = graph
        self._found = found
        self._cells: dict[int, int] = {}
        self._made: list[Any] = []

    def run(self) -> None:
        for op in self._graph.operators or []:
            key = self._key(op)
            if key is None:
                self._made.append(op)
                continue
            kind, number = key
            inputs = list(flatbuffer.numbers(op.inputs))
            (output,) = flatbuffer.numbers(op.outputs)
            if kind == recurrent.CELL:
                self._concatenate([self._cells[number], *inputs], output, axis=1)
            else:
                self._install(number, inputs, output)
        self._graph.operators = self._made

    def _key(self, op: Any) -> tuple[int, int] | None:
        code = self._flat.operatorCodes[op.opcodeIndex].builtinCode
        if code != _CUSTOM or op.customOptions is None:
            return None
        return recurrent.key_of(bytes(bytearray(op.customOptions)))

    def _install(self, number: int, inputs: list[int], output: int) -> None:
        spec = self._found[number]
        source, *states = inputs
        self._graph.tensors[output].name = spec.layer.encode()
        batch = int(self._graph.tensors[source].shape[0])
        num_states = 2 if spec.op.endswith("LSTM") else 1
        variables = []
        for place in range(num_states):
            name = f"{spec.layer}/{('hidden', 'cell')[place]}_state"
            state = self._tensor(name, (batch, spec.units), variable=True)
            variables.append(state)
            if states:
                self._begin_with(state, states[place])
            elif not spec.keeps_state:
                zeros = self._constant("zeros", np.zeros(spec.units, np.float32))
                self._pack([zeros] * batch, state)
        op = flatbuffer.operator(self._flat, spec.op, source, output)
        if num_states == 2:
            self._cells[number] = variables[1]
            op.inputs = self._lstm_inputs(spec, source, variables=variables)
            options = schema.UnidirectionalSequenceLSTMOptionsT()
            op.builtinOptionsType = (
                schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
            )
        else:
            weights = [
                self._constant(f"{spec.layer}/{name}", values)
                for name, values in (
                    ("kernel", spec.kernel.T),
                    ("recurrent_kernel", spec.recurrent_kernel.T),
                    ("bias", spec.bias),
                )
            ]
            op.inputs = [source, *weights, *variables]
            options = schema.SequenceRNNOptionsT()
            op.builtinOptionsType = schema.BuiltinOptions.SequenceRNNOptions
        options.fusedActivationFunction = getattr(
            schema.ActivationFunctionType, spec.activation
        )
        op.builtinOptions = options
        self._made.append(op)

    def _lstm_inputs(
        self, spec: recurrent.Recurrent, source: int, *, variables: list[int]
    ) -> list[int]:
        inputs = [-1] * _NUM_LSTM_INPUTS
        inputs[0] = source
        # As LiteRT has them: input, forget, cell and output gate, as in Keras.
        for first, name in ((1, "kernel"), (5, "recurrent_kernel"), (12, "bias")):
            values = np.split(getattr(spec, name), 4, axis=-1)
            for gate, each in enumerate(values):
                label = f"{spec.layer}/{name}_{'ifco'[gate]}"
                inputs[first + gate] = self._constant(label, each.T)
        inputs[18:20] = variables
        return inputs

    def _begin_with(self, state: int, first: int) -> None:
        """Writes a state that the model computes, or a constant one."""
        data = self._flat.buffers[self._graph.tensors[first].buffer].data
        if data is None:
            self._concatenate([first], state, axis=0)
            return
        shape = flatbuffer.numbers(self._graph.tensors[first].shape)
        rows = np.frombuffer(data, np.float32).reshape(shape)
        self._pack([self._constant("state", row) for row in rows], state)

    def _pack(self, rows: list[int], target: int) -> None:
        # Of ops that copy, one that runs each time though its inputs are constant.
        op = flatbuffer.operator(self._flat, "PACK", rows[0], target)
        op.inputs = rows
        op.builtinOptionsType = schema.BuiltinOptions.PackOptions
        op.builtinOptions = schema.PackOptionsT(valuesCount=len(rows), axis=0)
        self._made.append(op)

    def _concatenate(self, sources: list[int], target: int, *, axis: int) -> None:
        op = flatbuffer.operator(self._flat, "CONCATENATION", sources[0], target)
        op.inputs = sources
        op.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
        op.builtinOptions = schema.ConcatenationOptionsT(axis=axis)
        self._made.append(op)

    def _constant(self, name: str, values: np.ndarray) -> int:
        index = self._tensor(name, values.shape)
        data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
        self._graph.tensors[index].buffer = len(self._flat.buffers)
        self._flat.buffers.append(schema.BufferT(data=data))
        return index

    def _tensor(
        self, name: str, shape: Sequence[int], *, variable: bool = False
    ) -> int:
        taken = {tensor.name for tensor in self._graph.tensors}
        number, free = 0, name
        while free.encode() in taken:
            number += 1
            free = f"{name}_{number}"
        self._graph.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32),
                type=_FLOAT32,
                name=free.encode(),
                buffer=0,
                isVariable=variable,
            )
        )
        return len(self._graph.tensors) - 1


def _drop_graphs(flat: Any) -> None:
    """Drops graphs that no op runs, as those of the stand-ins; renumbers the rest."""
    fields = (
        "thenSubgraphIndex",
        "elseSubgraphIndex",
        "condSubgraphIndex",
        "bodySubgraphIndex",
        "initSubgraphIndex",
    )
    used, waiting = set[int](), [0]
    while waiting:
        number = waiting.pop()
        if number in used:
            continue
        used.add(number)
        waiting += [
            getattr(op.builtinOptions, field)
            for op in flat.subgraphs[number].operators or []
            for field in fields
            if hasattr(op.builtinOptions, field)
        ]
    order = sorted(used)
    for number in order:
        for op in flat.subgraphs[number].operators or []:
            for field in fields:
                if hasattr(op.builtinOptions, field):
                    old = getattr(op.builtinOptions, field)
                    setattr(op.builtinOptions, field, order.index(old))
    flat.subgraphs = [flat.subgraphs[number] for number in order]
