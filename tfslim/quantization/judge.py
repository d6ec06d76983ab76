"""How far files quantized from one model are from it, on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import tflite
from tfslim.quantization import handover, litert, policy, recipe, rules
from tfslim.tflite import flatbuffer


class Judge:
    """Makes INT8 files of one model and measures them against it.

    Attributes:
        source: the float model, a softmax or ARG_MAX at its end left out.
        graph: its graph.
    """

    def __init__(self, source: bytes, samples: Sequence[tflite.Inputs]):
        """Runs the prepared float model over single samples."""
        self._samples = samples
        content = tflite.read(source)
        self._names = list(content.output_names)
        self._softmaxes = softmax_outputs(content.graphs[0])
        self.source = without_softmax(source)
        self.graph = tflite.read(self.source).graphs[0]
        self._truth = outputs(self.source, samples)
        # Numbers of classes have no distance: they count if there is nothing else.
        kinds = [column[0].dtype.kind for column in self._truth]
        self._counted = [n for n, kind in enumerate(kinds) if kind == "f"]
        self._counted = self._counted or list(range(len(kinds)))
        self._exempt = policy.exemptions("static_int8", self.graph)

    def quantize(
        self,
        ranges: Mapping[str, tuple[float, float]],
        ordered: Sequence[Mapping[str, Any]] | None = None,
    ) -> bytes:
        """Makes an INT8 file with `ranges`, by rules other than the recipe's if given.

        Args:
            ranges: tensor name -> (min, max), of the model with its softmax.
            ordered: as `rules.ordered` makes them.
        """
        names = {tensor.name for tensor in self.graph.tensors}
        known = {name: bounds for name, bounds in ranges.items() if name in names}
        if ordered is None:
            exempt = [*self._exempt, *policy.masked(self.graph, known)]
            ordered = rules.ordered(recipe.get("int8"), exempt, "float")
        return litert.quantize(
            self.source, ordered, handover.handover(self.graph, known)
        )

    def measure(self, quantized: bytes) -> tuple[float, float]:
        """Returns the SQNR in dB: the mean over the samples, and the worst sample's.

        Of several outputs the worst counts: none hides behind a larger one.

        Args:
            quantized: a file of the same model, with its softmax or without, that
                takes and gives floats.
        """
        ratios = self._ratios(quantized)
        return float(ratios.mean(axis=1).min()), float(ratios.min())

    def by_output(self, quantized: bytes) -> dict[str, float]:
        """Returns each output's SQNR in dB, the mean over the samples; see `measure`.

        A softmax or ARG_MAX stands under its own name, though what it reads is
        measured. Outputs that are numbers of classes are left out.
        """
        means = self._ratios(quantized).mean(axis=1)
        names = [self._names[number] for number in self._counted]
        return dict(zip(names, map(float, means), strict=True))

    def _ratios(self, quantized: bytes) -> np.ndarray:
        """Returns the SQNR of each output that counts and sample [outputs, samples]."""
        logits = without_softmax(quantized, self._softmaxes)
        found = outputs(logits, self._samples)
        return np.array(
            [
                [sqnr_db(*p) for p in zip(self._truth[n], found[n], strict=True)]
                for n in self._counted
            ]
        )


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


def sqnr_db(truth: np.ndarray, found: np.ndarray) -> float:
    """Signal-to-quantization-noise ratio in dB; at most 200."""
    signal = float(np.square(truth, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(truth, found, dtype=np.float64)).sum())
    least = max(1e-20 * signal, 1e-30)
    return 10.0 * float(np.log10(max(signal, 1e-30) / max(noise, least)))


def softmax_outputs(graph: tflite.Graph) -> frozenset[int]:
    """Returns the outputs' numbers that a softmax or ARG_MAX makes of logits.

    Those of logits that are given out, too, are not among them.
    """
    given = {tensor.index for tensor in graph.outputs}
    found = set()
    for number, tensor in enumerate(graph.outputs):
        op = graph.producers.get(tensor.index)
        readers = graph.consumers.get(tensor.index, [])
        if op is not None and op.name in ("SOFTMAX", "ARG_MAX") and not readers:
            if op.inputs[0] not in given:
                found.add(number)
    return frozenset(found)


def without_softmax(source: bytes, of: frozenset[int] | None = None) -> bytes:
    """Makes the logits the outputs: probabilities and classes hide errors.

    Args:
        source: a `.tflite`.
        of: numbers of the outputs that may change, `softmax_outputs` of the model that
            it is compared with; None: its own.
    """
    graph = tflite.read(source).graphs[0]
    numbers = softmax_outputs(graph)
    numbers = numbers if of is None else numbers & of
    tensors = [graph.outputs[number] for number in numbers]
    replaced = {t.index: graph.producers[t.index] for t in tensors}
    if not replaced:
        return source
    flat = flatbuffer.unpack(source)
    main = flat.subgraphs[0]
    main.outputs = [
        replaced[i].inputs[0] if i in replaced else i
        for i in flatbuffer.numbers(main.outputs)
    ]
    dropped = {op.index for op in replaced.values()}
    main.operators = [op for i, op in enumerate(main.operators) if i not in dropped]
    for signature in flat.signatureDefs or []:
        for entry in signature.outputs:
            if entry.tensorIndex in replaced:
                entry.tensorIndex = replaced[entry.tensorIndex].inputs[0]
    return flatbuffer.pack(flat)
