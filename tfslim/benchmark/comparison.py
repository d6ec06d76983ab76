"""Is one file faster than another? An interval for the ratio, and a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.benchmark.result import BenchmarkResult, LatencyStats

_RESAMPLES = 4000
# A smaller difference gets no verdict.
_SMALLEST = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Latency of `new` over latency of `base`: below 1 is faster.

    Attributes:
        ratio: the estimate.
        low, high: ends of its confidence interval; None with too few rounds.
        confidence: of the interval, e.g. 0.99.
        is_paired: whether both were run in the same interleaved rounds. If not, the
            interval does not know what changed on the machine in between.
    """

    base: str
    new: str
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    is_paired: bool

    @property
    def verdict(self) -> str:
        """One of "faster", "slower", "no difference found", "too few rounds"."""
        return verdict_of(self.ratio, self.low, high=self.high)

    def is_regression(self, allowed: float) -> bool:
        """Tells whether `new` is slower, and by more than the share `allowed`.

        The interval proves that it is slower at all, the estimate says by how much.
        """
        return self.verdict == "slower" and self.ratio > 1 + allowed

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON data, with the verdict."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def verdict_of(ratio: float, low: float | None, *, high: float | None) -> str:
    """Returns the verdict on a ratio with its interval, as `Comparison` has it.

    A difference of less than 1% is none, however sure: equal files can differ as much
    by where they lie in memory.
    """
    if low is None or high is None:
        return "too few rounds"
    if abs(ratio - 1) < _SMALLEST or low <= 1 <= high:
        return "no difference found"
    return "faster" if ratio < 1 else "slower"


def compare(
    base: BenchmarkResult,
    new: BenchmarkResult,
    *,
    paired: bool = True,
    confidence: float = 0.99,
) -> Comparison:
    """Compares two files by their rounds.

    A round counts once, by its fastest run where single runs are known (noise only adds
    time, so it moves less than the median): single runs of a round are not independent
    of each other, rounds with newly loaded files nearly are. Paired, the estimate and
    its interval are those of Wilcoxon's signed ranks (Hodges and Lehmann, "Estimates of
    location based on rank tests", 1963): exact for equal files, as they change places
    from round to round. Unpaired, the interval has the percentiles of 4000 resamples of
    rounds (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        base: what `new` is held against.
        new: the other file.
        paired: whether both come from the same call of a runner, round by round.
        confidence: share of such intervals that hold the true ratio, in (0, 1).

    Raises:
        ConfigError: `confidence` is out of range, or paired results with different
            numbers of rounds.
    """
    least = min_rounds(confidence)
    first, second = _log_latency(base.by_round), _log_latency(new.by_round)
    if paired and len(first) != len(second):
        raise errors.ConfigError(
            f"'{base.name}' has {len(first)} rounds and '{new.name}' {len(second)}: "
            "they were not run together. Compare them unpaired."
        )
    tail = (1 - confidence) / 2
    if paired:
        means = _pair_means(second - first)
        estimate = np.median(means)
        outside = _outside(len(first), tail)
        ends = means[outside], means[-1 - outside]
    else:
        estimate = np.median(second) - np.median(first)
        drawn = _medians(second, seed=1) - _medians(first)
        ends = np.quantile(drawn, tail), np.quantile(drawn, 1 - tail)
    low, high = np.exp(ends)
    is_enough = min(len(first), len(second)) >= least
    return Comparison(
        base=base.name,
        new=new.name,
        ratio=float(np.exp(estimate)),
        low=float(low) if is_enough else None,
        high=float(high) if is_enough else None,
        confidence=confidence,
        is_paired=paired,
    )


def _pair_means(values: np.ndarray) -> np.ndarray:
    """Returns the means of all pairs, each value with itself as well, sorted."""
    one, two = np.triu_indices(len(values))
    return np.sort((values[one] + values[two]) / 2)


def _outside(rounds: int, tail: float) -> int:
    """Returns how many means of pairs to leave out at each end of the interval.

    It is the largest sum of signed ranks that is as rare as `tail`.
    """
    chances = np.zeros(rounds * (rounds + 1) // 2 + 1)
    chances[0] = 1
    for rank in range(1, rounds + 1):
        chances[rank:] += chances[:-rank].copy()
        chances /= 2
    return max(0, int(np.sum(np.cumsum(chances) <= tail)) - 1)


def _medians(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Draws resamples of `values` [rounds]; returns the median of each."""
    size = (_RESAMPLES, len(values))
    drawn = np.random.default_rng(seed).integers(0, len(values), size)
    return np.median(values[drawn], axis=1)


def with_first(
    results: Sequence[BenchmarkResult], *, confidence: float = 0.99
) -> list[tuple[BenchmarkResult, Comparison | None]]:
    """Compares each of the interleaved `results` with the first of them."""
    first, *others = results
    return [
        (first, None),
        *((other, compare(first, other, confidence=confidence)) for other in others),
    ]


def min_rounds(confidence: float) -> int:
    """Returns how many rounds a verdict needs.

    If the files are equal, all of n rounds favour the same one with probability
    2 ** (1 - n), which must not be above 1 - confidence: 8 rounds for 99%.

    Raises:
        ConfigError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise errors.ConfigError(
            f"confidence must be between 0 and 1, got {confidence}; 0.99 is usual."
        )
    return int(np.ceil(1 - np.log2(1 - confidence)))


def _log_latency(rounds: Sequence[LatencyStats]) -> np.ndarray:
    known = [
        part.min if part.p25 is not None else part.p50 or part.mean for part in rounds
    ]
    if not known:
        raise errors.BenchmarkError("A result without rounds cannot be compared.")
    return np.log(known)
