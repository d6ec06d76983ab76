"""One pass of a float model, for all that ask something of it.

Calibration runs every sample. What rounding, bias correction and comparison need of
the first few they get on the way, and make no runs of their own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tfslim import errors, tflite
from tfslim.evaluation.compare_files import FileErrors, scores
from tfslim.quantization.ranges.collect import Samples, singles, sized_for_first
from tfslim.quantization.ranges.thresholds import Statistic
from tfslim.quantization.repair import weights
from tfslim.quantization.repair.moments import (
    Mean,
    Moments,
    roundable_to_int8,
    worth_it,
)
from tfslim.quantization.rules.preprocess_model import prepare

# Of all matrices together; the layers left over get a pass of their own.
_MOST_BYTES = 2**29
# Samples to decide by, and as many to fit to: the most, and of large models the least.
_NUM_SAMPLES, _LEAST = 64, 10
# Multiply-accumulates of one run from which on fewer samples must do.
_LARGE = 5e8


class FloatPass:
    """Statistics of a float model, of samples among those that calibration runs.

    Attributes:
        means: tensor that a layer with weights reads -> its mean.
        moments: output of a layer that is worth rounding -> moments of what it reads.
        statistics: tensor -> what is to see it, sample by sample in their order.
    """

    def __init__(
        self,
        source: bytes,
        samples: Sequence[tflite.Inputs],
        *,
        fit: Collection[int],
        held_out: Collection[int],
        for_rounding: bool,
    ):
        """Prepares for a pass.

        Args:
            source: the prepared float file.
            samples: the first of those that will be run.
            fit: places among them that means and moments are of.
            held_out: places among them whose outputs are kept.
            for_rounding: whether moments are wanted.
        """
        content = tflite.read(source)
        graph = content.graphs[0]
        layers = [op for op in graph.ops if op.name in weights.WEIGHTED]
        sources = {i: graph.tensors[i] for op in layers for i in op.inputs[:1]}
        self.means = {tensor.name: Mean(tensor) for tensor in sources.values()}
        self.moments: dict[str, Moments] = {}
        logits = {t.index: s for t, s in zip(graph.outputs, scores(graph), strict=True)}
        self._outputs = [_Kept() for _ in content.output_names]
        (name, first), *_ = content.input_names.items()
        self._check = _Same([sample[name] for sample in samples])
        every = range(len(samples))
        seeing: dict[str, list[_Some]] = {
            graph.tensors[first].name: [_Some(self._check, every)]
        }
        for name, mean in self.means.items():
            seeing.setdefault(name, []).append(_Some(mean, fit))
        if for_rounding:
            self._watch_moments(graph, seeing, fit=fit)
        for index, kept in zip(
            content.output_names.values(), self._outputs, strict=True
        ):
            seeing.setdefault(logits[index].name, []).append(_Some(kept, held_out))
        self._held_out = held_out
        self.statistics: Mapping[str, Statistic] = {
            name: _Several(found) for name, found in seeing.items()
        }

    def _watch_moments(
        self,
        graph: tflite.Graph,
        seeing: dict[str, list[_Some]],
        *,
        fit: Collection[int],
    ) -> None:
        layers = roundable_to_int8(graph)
        total = 0
        for place in worth_it([[layer] for layer in layers], len(fit)):
            layer = layers[place]
            total += layer.num_bytes
            if total > _MOST_BYTES:
                break
            moments = Moments(layer.windows, len(fit))
            self.moments[layer.output.name] = moments
            read = graph.tensors[layer.windows.op.inputs[0]].name
            seeing.setdefault(read, []).append(_Some(moments, fit))

    @property
    def is_done(self) -> bool:
        """Whether the samples were run, and are the same that this was prepared for."""
        return self._check.is_same

    @property
    def outputs(self) -> list[tuple[np.ndarray, ...]] | None:
        """What each output gave for the samples held out, a softmax left out."""
        rows = [tuple(kept.rows) for kept in self._outputs]
        if not self.is_done or any(len(row) < len(self._held_out) for row in rows):
            return None
        return rows


class FloatPasses:
    """The samples that rounding and correction look at, and what passes gave of them.

    Of the first 128 samples, of a large model fewer, every other one is what weights
    and biases are fitted to; the rest decides whether that is kept.
    """

    def __init__(self, model: bytes, samples: Samples):
        """Reads nothing yet.

        Args:
            model: the float `.tflite`.
            samples: as `quantize_tflite` takes them.
        """
        self._model, self._given = model, samples
        self._made: dict[int, FloatPass] = {}

    @functools.cached_property
    def source(self) -> bytes:
        """The prepared float file."""
        return prepare(sized_for_first(self._model, self._given))

    @functools.cached_property
    def _samples(self) -> list[tflite.Inputs]:
        content = tflite.read(self.source)
        number = num_samples(content.graphs[0])
        found = list(itertools.islice(singles(self._given, content), 2 * number))
        if not found:
            raise errors.ConfigError(
                "There are no samples to round weights and correct biases by. Pass "
                "about 128, or None."
            )
        return found

    @property
    def _fit(self) -> range:
        return range(0, len(self._samples), 2)

    @property
    def _held_out(self) -> range:
        return range(1, len(self._samples), 2) or range(1)

    @property
    def fit(self) -> list[tflite.Inputs]:
        """What is fitted to.

        Raises:
            ConfigError: there is no sample.
        """
        return [self._samples[place] for place in self._fit]

    @functools.cached_property
    def held_out(self) -> FileErrors:
        """Measures files on the samples held out."""
        known = self.of(self.source)
        samples = [self._samples[place] for place in self._held_out]
        return FileErrors(self.source, samples, truth=known.outputs if known else None)

    def looking_on(
        self, source: bytes, *, for_rounding: bool
    ) -> Mapping[str, Statistic]:
        """Returns what is to see a pass of a float file; see `calibrate`."""
        known = self.of(source)
        if known is not None and (known.moments or not for_rounding):
            return {}
        self._made[hash(source)] = made = FloatPass(
            source,
            self._samples,
            fit=self._fit,
            held_out=self._held_out,
            for_rounding=for_rounding,
        )
        return made.statistics

    def of(self, source: bytes) -> FloatPass | None:
        """Returns what a pass of `source` gave; None if there was none of use."""
        known = self._made.get(hash(prepare(source)))
        return known if known is not None and known.is_done else None


def num_samples(graph: tflite.Graph) -> int:
    """Returns how many samples are worth a run of a float model, twice."""
    affordable = int(_NUM_SAMPLES * _LARGE / max(weights.macs(graph), 1))
    return min(_NUM_SAMPLES, max(_LEAST, affordable))


def is_large(graph: tflite.Graph) -> bool:
    """Whether a model is so large that each run of it counts."""
    return weights.macs(graph) > _LARGE


class _Some:
    """Passes some of the samples on to a statistic."""

    def __init__(self, statistic: Statistic, places: Collection[int]):
        self._statistic, self._places, self._next = statistic, places, 0

    def update(self, values: np.ndarray) -> None:
        for sample in values:
            if self._next in self._places:
                self._statistic.update(sample[np.newaxis])
            self._next += 1


class _Several:
    """Passes all samples on to several statistics."""

    def __init__(self, statistics: Sequence[Statistic]):
        self._statistics = statistics

    def update(self, values: np.ndarray) -> None:
        for statistic in self._statistics:
            statistic.update(values)


class _Kept:
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def update(self, values: np.ndarray) -> None:
        self.rows += [row.copy() for row in values]


class _Same:
    """Whether samples come as they were read before: data may be shuffled anew."""

    def __init__(self, expected: Sequence[np.ndarray]):
        self._expected = expected
        self._same: list[bool] = []

    @property
    def is_same(self) -> bool:
        return len(self._same) == len(self._expected) and all(self._same)

    def update(self, values: np.ndarray) -> None:
        for row in values:
            expected = np.ravel(self._expected[len(self._same)]).astype(row.dtype)
            self._same.append(np.array_equal(row.ravel(), expected))
