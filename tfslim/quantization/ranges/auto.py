"""Tries every calibration method on samples that none of them saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from tfslim import errors, tflite
from tfslim.quantization.candidate_files import Candidates
from tfslim.quantization.ranges.collect import Samples, singles

NAME = "auto"
# Worth trying, the first preferred among equals.
METHODS = ("minmax", "percentile", "mse", "kl", "moving_average")
_EVERY = 5
_MOST = 64
# Less than this is noise of the samples.
_GAIN_DB = 0.3
# The gain must be at least this share of what the worst sample loses.
_SHARE_OF_LOSS = 0.2
# Tensors that are tried one by one: those that the methods disagree about most.
_MOST_TENSORS = 12
# After so many of them in a row of which none gains anything the others are left.
_PATIENCE = 3
# Ranges that differ by less, as a share of their width, are tried once.
_ALIKE = 0.05

Ranges = dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a choice of ranges reached on the samples held out.

    Attributes:
        method: a name of `THRESHOLDS`, or "per tensor".
        sqnr_db: signal-to-quantization-noise ratio of the worst output, logits for
            probabilities; the mean over the samples, so that a few odd ones among
            them do not decide.
        worst_sample_db: the same of the worst sample.
    """

    method: str
    sqnr_db: float
    worst_sample_db: float


class HeldOut:
    """Passes samples on, but keeps every fifth of them aside, at most 64."""

    def __init__(self, samples: Samples, model: tflite.TfliteModel):
        """Wraps samples for `model`; nothing is read yet."""
        self._samples = samples
        self._model = model
        self.kept: list[tflite.Inputs] = []

    def __iter__(self) -> Iterator[tflite.Inputs]:
        """Yields the samples that are not kept."""
        self.kept = []
        for index, sample in enumerate(singles(self._samples, self._model)):
            if index % _EVERY == _EVERY - 1 and len(self.kept) < _MOST:
                self.kept.append(sample)
            else:
                yield sample


def search(
    source: bytes, ranges: Mapping[str, Ranges], *, samples: list[tflite.Inputs]
) -> tuple[dict[str, str], list[Trial]]:
    """Chooses among the methods, for the model and then tensor by tensor.

    Args:
        source: the prepared float model.
        ranges: method -> the ranges it chose.
        samples: what to compare on.

    Returns:
        Tensor name -> the method to choose its range by, and a row for each method, the
        best first.

    Raises:
        ConfigError: there is no sample to compare on.
    """
    if not samples:
        raise errors.ConfigError(
            f"calibration '{NAME}' compares the methods on every {_EVERY}th sample, "
            f"and there are fewer than {_EVERY}. Give more, or name a method."
        )
    files = Candidates(source, samples)
    trials = {
        name: Trial(name, *files.measure(files.quantize(chosen)))
        for name, chosen in ranges.items()
    }
    first = next(iter(trials))
    ordered = sorted(trials, key=lambda name: -trials[name].sqnr_db)
    reached = trials[first].sqnr_db, trials[first].worst_sample_db
    best = next(
        name
        for name in (*ordered, first)
        if name == first
        or _pays((trials[name].sqnr_db, trials[name].worst_sample_db), reached)
    )
    reached = trials[best].sqnr_db, trials[best].worst_sample_db
    merged, methods = _by_tensor(files, ranges, best=best, reached=reached)
    rows = [*trials.values()]
    if set(methods.values()) != {best}:
        rows.append(Trial("per tensor", *files.measure(files.quantize(merged))))
    rows.sort(key=lambda trial: -trial.sqnr_db)
    return methods, rows


def _pays(found: tuple[float, float], reached: tuple[float, float]) -> bool:
    """Whether a choice is better than another: SQNR of both, and the worst sample's.

    Clipping a column whose error hardly counts gains levels for a smaller one, at the
    cost of the samples that are clipped.
    """
    lost = reached[1] - found[1]
    return found[0] > reached[0] + max(_GAIN_DB, _SHARE_OF_LOSS * lost)


def _by_tensor(
    files: Candidates,
    ranges: Mapping[str, Ranges],
    *,
    best: str,
    reached: tuple[float, float],
) -> tuple[Ranges, dict[str, str]]:
    """Gives single tensors another method's range where that pays."""
    merged = dict(ranges[best])
    methods = dict.fromkeys(merged, best)
    in_vain = 0
    for name in _disputed(ranges, best):
        tried, in_vain = [merged[name]], in_vain + 1
        for method, bounds in ((m, chosen[name]) for m, chosen in ranges.items()):
            if any(_is_alike(bounds, other) for other in tried):
                continue
            tried.append(bounds)
            result = files.measure(files.quantize({**merged, name: bounds}))
            if _pays(result, reached):
                merged[name], methods[name], reached = bounds, method, result
                in_vain = 0
        if in_vain == _PATIENCE:
            break
    return merged, methods


def _is_alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    slack = _ALIKE * max(one[1] - one[0], other[1] - other[0])
    return all(abs(a - b) <= slack for a, b in zip(one, other, strict=True))


def _disputed(ranges: Mapping[str, Ranges], best: str) -> list[str]:
    """Names the tensors whose widths differ most between the methods."""

    def ratio(name: str) -> float:
        widths = [max(c[name][1] - c[name][0], 1e-30) for c in ranges.values()]
        return max(widths) / min(widths)

    named = {name: ratio(name) for name in ranges[best]}
    worth = [name for name, value in named.items() if value > 1.05]
    return sorted(worth, key=lambda name: -named[name])[:_MOST_TENSORS]
