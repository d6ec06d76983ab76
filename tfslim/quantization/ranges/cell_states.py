"""The cell state of a fused LSTM at every step, which no tensor of a file holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfslim import tflite

_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_CELL = 19


def reader(
    runner: tflite.Runner, tensor: tflite.Tensor
) -> Callable[[], np.ndarray] | None:
    """Returns a function to the values of a cell state in all steps of a run.

    A run leaves the last one in the file's tensor. The gates of all steps follow from
    the layer's inputs and its outputs one step earlier.

    Args:
        runner: keeps all tensors.
        tensor: of its file.

    Returns:
        None for a tensor that is no cell state of a plain LSTM.
    """
    graph = runner.model.graphs[0]
    readers = graph.consumers.get(tensor.index, [])
    op = next((r for r in readers if r.name == _LSTM), None)
    if op is None or op.inputs[_CELL] != tensor.index:
        return None
    weights: list[Any] = [graph.constant(i) if i >= 0 else None for i in op.inputs]
    is_plain = all(w is not None for w in (*weights[1:9], *weights[12:16]))
    if not is_plain or any(i >= 0 for i in (*op.inputs[9:12], *op.inputs[16:18])):
        return None
    values = [runner.interpreter.tensor(i) for i in (op.inputs[0], op.outputs[0])]
    is_time_major = bool(op.options.timeMajor)

    def read() -> np.ndarray:
        source, outputs = (value() for value in values)
        if not is_time_major:
            source, outputs = source.swapaxes(0, 1), outputs.swapaxes(0, 1)
        before = np.concatenate([np.zeros_like(outputs[:1]), outputs[:-1]])
        gates = [
            source @ weights[1 + g].T + before @ weights[5 + g].T + weights[12 + g]
            for g in range(3)
        ]
        enter, forget = (1 / (1 + np.exp(-np.clip(g, -80, 80))) for g in gates[:2])
        added = enter * np.tanh(gates[2])
        cell = np.zeros_like(added)
        state = np.zeros_like(added[0])
        for step in range(len(added)):
            state = cell[step] = forget[step] * state + added[step]
        return cell

    return read
