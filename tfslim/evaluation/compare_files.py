"""How far files quantized from one model are from it, on the same samples."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from tfslim import tflite
from tfslim.evaluation.columns import ColumnErrors, Columns
from tfslim.evaluation.places import is_picture
from tfslim.tflite import flatbuffer


class FileErrors:
    """Measures files against the float model that they were made from."""

    def __init__(
        self,
        source: bytes,
        samples: Sequence[tflite.Inputs],
        *,
        truth: Sequence[Sequence[np.ndarray]] | None = None,
    ):
        """Runs the prepared float model over single samples.

        Args:
            source: the float model.
            samples: single samples.
            truth: what each output gives for them, a softmax or ARG_MAX left out; None:
                it is run.
        """
        self._samples = samples
        self._measured: dict[int, dict[int, ColumnErrors]] = {}
        content = tflite.read(source)
        self._names = list(content.output_names)
        self._softmaxes = softmax_outputs(content.graphs[0])
        self._given = source
        truth = truth or outputs(self.source, samples)
        self._shapes = [[values.shape for values in rows] for rows in truth]
        # What a softmax reads, or ARG_MAX, are scores of classes: of one unit.
        shapes = [tensor.shape for tensor in content.inputs]
        self._columns = {
            number: Columns(
                stacked,
                alike=number in self._softmaxes or is_picture(stacked.shape, shapes),
            )
            for number in _counted(truth)
            for stacked in [_stacked(truth[number])]
        }

    @functools.cached_property
    def source(self) -> bytes:
        """The float model, a softmax or ARG_MAX at its end left out."""
        return without_softmax(self._given)

    def measure(self, quantized: bytes) -> tuple[float, float]:
        """Returns the SQNR in dB: the mean over the samples, and the worst sample's.

        Of several outputs the worst counts, and of each its worst column: none hides
        behind a larger one. See `Columns`.

        Args:
            quantized: a file of the same model, with its softmax or without, that
                takes and gives floats.
        """
        rows = self._errors(quantized).values()
        return (
            min(row.typical_db for row in rows),
            min(row.worst_sample_db for row in rows),
        )

    def by_output(self, quantized: bytes) -> dict[str, float]:
        """Returns each output's SQNR in dB, the mean over the samples; see `measure`.

        A softmax or ARG_MAX stands under its own name, though what it reads is
        measured. Outputs that are numbers of classes are left out.
        """
        return {
            self._names[number]: row.typical_db
            for number, row in self._errors(quantized).items()
        }

    def _errors(self, quantized: bytes) -> dict[int, ColumnErrors]:
        """Returns the errors of each output that counts, by its number."""
        mark = hash(quantized)
        if mark not in self._measured:
            self._measured[mark] = self._measure(quantized)
        return self._measured[mark]

    def _measure(self, quantized: bytes) -> dict[int, ColumnErrors]:
        logits = without_softmax(quantized, self._softmaxes)
        found = outputs(logits, self._samples)
        return {
            number: columns.errors(_stacked(_fitted(found[number], shapes)))
            for number, columns in self._columns.items()
            for shapes in [self._shapes[number]]
        }


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Puts an output's samples together; sizes that differ are filled with zeros."""
    if len({row.shape for row in rows}) > 1:
        widest = np.max([row.shape for row in rows], axis=0)
        missing = [widest - row.shape for row in rows]
        rows = [
            np.pad(row, [(0, count) for count in counts])
            for row, counts in zip(rows, missing, strict=True)
        ]
    return np.concatenate(rows) if rows[0].ndim > 1 else np.stack(rows)


def _fitted(
    rows: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]
) -> list[np.ndarray]:
    """Gives rows the shapes of those they are compared with: NaN where one has not."""
    return [
        row if row.shape == shape else np.full(shape, np.nan, np.float32)
        for row, shape in zip(rows, shapes, strict=True)
    ]


def outputs(
    model: bytes, samples: Sequence[tflite.Inputs]
) -> list[tuple[np.ndarray, ...]]:
    """Runs `samples`; returns what each output gave for them, in the file's order.

    Integers that stand for reals, as INT16 logits do whose softmax was cut off, are
    given as reals.
    """
    runner = tflite.Runner(model)
    tensors = [runner.model.tensors[i] for i in runner.model.output_names.values()]
    rows = []
    for sample in samples:
        found = zip(runner(sample).values(), tensors, strict=True)
        rows.append([_real(values, tensor) for values, tensor in found])
    return list(zip(*rows, strict=True))


def _real(values: np.ndarray, tensor: tflite.Tensor) -> np.ndarray:
    params = tensor.quantization
    if params is None:
        return values
    real: np.ndarray = params.scale[0] * (values.astype(np.float32) - params.zero_point)
    return real


def _counted(truth: Sequence[Sequence[np.ndarray]]) -> list[int]:
    """Returns the numbers of the outputs to measure.

    Numbers of classes have no distance, and what is always zero has no signal: they
    count if there is nothing else.
    """
    numbers = range(len(truth))
    reals = [n for n in numbers if truth[n][0].dtype.kind == "f"] or numbers
    return [n for n in reals if any(map(np.any, truth[n]))] or list(reals)


def scores(graph: tflite.Graph) -> list[tflite.Tensor]:
    """Returns the outputs, in place of a softmax or ARG_MAX what it reads."""
    cut = softmax_outputs(graph)
    return [
        graph.tensors[_deciders(tensor.index, graph)[0].inputs[0]]
        if number in cut
        else tensor
        for number, tensor in enumerate(graph.outputs)
    ]


def softmax_outputs(graph: tflite.Graph) -> frozenset[int]:
    """Returns the outputs' numbers that a softmax or ARG_MAX makes of logits.

    Those of logits that are given out, too, are not among them.
    """
    given = {tensor.index for tensor in graph.outputs}
    found = set()
    for number, tensor in enumerate(graph.outputs):
        ops = _deciders(tensor.index, graph)
        if ops and ops[0].inputs[0] not in given:
            found.add(number)
    return frozenset(found)


def _deciders(index: int, graph: tflite.Graph) -> list[tflite.Op]:
    """Returns the softmax or ARG_MAX that makes a tensor, and the DEQUANTIZE behind.

    None if another op reads what they make.
    """
    ops: list[tflite.Op] = []
    while index in graph.producers:
        op = graph.producers[index]
        if graph.consumers.get(index, []) != ops[:1]:
            return []
        ops.insert(0, op)
        if op.name in ("SOFTMAX", "ARG_MAX"):
            return ops
        if op.name != "DEQUANTIZE":
            return []
        index = op.inputs[0]
    return []


def without_softmax(source: bytes, of: frozenset[int] | None = None) -> bytes:
    """Makes the logits the outputs: probabilities and classes hide errors.

    Args:
        source: a `.tflite`.
        of: numbers of the outputs that may change, `softmax_outputs` of the model that
            it is compared with; None: its own.
    """
    if of is not None and not of:
        return source
    graph = tflite.read(source).graphs[0]
    numbers = softmax_outputs(graph)
    numbers = numbers if of is None else numbers & of
    tensors = [graph.outputs[number].index for number in numbers]
    ops = {index: _deciders(index, graph) for index in tensors}
    if not ops:
        return source
    logits = {index: found[0].inputs[0] for index, found in ops.items()}
    flat = flatbuffer.unpack(source)
    main = flat.subgraphs[0]
    main.outputs = [logits.get(i, i) for i in flatbuffer.numbers(main.outputs)]
    dropped = {op.index for found in ops.values() for op in found}
    main.operators = [op for i, op in enumerate(main.operators) if i not in dropped]
    for signature in flat.signatureDefs or []:
        for entry in signature.outputs:
            entry.tensorIndex = logits.get(entry.tensorIndex, entry.tensorIndex)
    return flatbuffer.pack(flat)
