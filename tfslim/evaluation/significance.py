"""Is a file less accurate than another, by how much, and how sure is that?

Two files that answer the same examples are compared example by example: only those that
one answers rightly and the other wrongly tell them apart, so that 1000 examples say
more than two accuracies of 1000 examples each.

Sources: T. Tango, "Equivalence test and confidence interval for the difference in
proportions for the paired-sample design", Statistics in Medicine 17, 1998 (the
interval); Q. McNemar, Psychometrika 12, 1947 (its exact form is a sign test); R. L.
Berger and D. D. Boos, "P values maximized over a confidence set for the nuisance
parameter", JASA 89, 1994 (the one-sided verdict); C. J. Clopper and E. S. Pearson,
Biometrika 26, 1934.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from tfslim import errors

WITHIN, BEYOND, UNDECIDED = "within", "beyond", "undecided"
# Share of the error that is spent on how often the files differ at all.
_NUISANCE = 0.001
# With more examples that tell the files apart, the normal distribution is as good.
_MOST_EXACT = 300
_MOST_EXAMPLES = 10_000_000
# For asking a metric example by example.
_MOST_SECS = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """Accuracy of a file against that of a base; shares, so that 0.01 is one point.

    Attributes:
        num_examples: that both answered.
        base, new: accuracies.
        lost: examples that only the base answers rightly; None if only counts are
            known, not which examples.
        gained: those that only the new file answers rightly, or None.
        low, high: ends of the interval of `new - base`.
        confidence: of the interval (two-sided) and of the verdict (one-sided).
        p_value: of McNemar's exact test that both are equally accurate, or None.
        margin: the drop that the verdict is about.
        verdict: "within": the drop is below the margin; "beyond": it is above;
            "undecided": the examples do not say.
        examples_needed: if undecided, how many would do if they fell out as these; None
            where the drop is so near the margin, or above, that none would.
    """

    num_examples: int
    base: float
    new: float
    lost: int | None
    gained: int | None
    low: float
    high: float
    confidence: float
    p_value: float | None
    margin: float
    verdict: str
    examples_needed: int | None

    @property
    def change(self) -> float:
        """`new - base`: negative for a drop."""
        return self.new - self.base

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON data, with the change."""
        return {**dataclasses.asdict(self), "change": self.change}


def paired_change(
    base_right: Any,
    new_right: Any,
    *,
    margin: float = 0.01,
    confidence: float = 0.95,
) -> AccuracyChange:
    """Compares two files by the examples that both answered.

    Args:
        base_right: bool [examples], whether the base's answer is right.
        new_right: the same of the new file, in the same order.
        margin: the drop in accuracy that would matter, between 0 and 1.
        confidence: between 0.5 and 1.

    Raises:
        ConfigError: the arrays differ in length or are empty, or a number is out of
            range.
    """
    _check(margin, confidence)
    base, new = (np.asarray(v, bool).reshape(-1) for v in (base_right, new_right))
    if base.shape != new.shape or not base.size:
        raise errors.ConfigError(
            f"Answers to {base.size} and {new.size} examples were compared; both files "
            "must answer the same ones, at least one."
        )
    count = base.size
    lost, gained = int((base & ~new).sum()), int((new & ~base).sum())
    low, high = score_interval(lost, gained, num_examples=count, confidence=confidence)
    verdict, needed = _verdict(
        lost, gained, count=count, margin=margin, error=1 - confidence
    )
    return AccuracyChange(
        num_examples=count,
        base=float(base.mean()),
        new=float(new.mean()),
        lost=lost,
        gained=gained,
        low=-high,
        high=-low,
        confidence=confidence,
        p_value=mcnemar(lost, gained),
        margin=margin,
        verdict=verdict,
        examples_needed=needed,
    )


def examples_right(
    metric: Callable[[Any, Any], float], outputs: Any, *, targets: Any
) -> np.ndarray | None:
    """Returns which examples are answered rightly, where a metric is their share.

    Args:
        metric: (outputs, targets) -> float, of a task; larger is better.
        outputs: array [examples, ...].
        targets: array [examples, ...].

    Returns:
        Bool [examples]; None where `metric` of single examples is not 0 or 1, is not
        their mean over all, or is too slow to be asked one by one.
    """
    if isinstance(outputs, list | tuple) or isinstance(targets, list | tuple):
        return None
    right: list[bool] = []
    start = time.monotonic()
    try:
        for index in range(len(outputs)):
            one = slice(index, index + 1)
            value = float(metric(outputs[one], targets[one]))
            if value not in (0.0, 1.0):
                return None
            right.append(value == 1.0)
            if time.monotonic() - start > _MOST_SECS:
                return None
        share = float(metric(outputs, targets))
    except Exception:  # A stranger's metric may not take single examples.
        return None
    found = np.array(right)
    return found if right and abs(found.mean() - share) < 1e-6 else None


def counted_change(
    base_right: int,
    new_right: int,
    *,
    num_examples: int,
    margin: float = 0.01,
    confidence: float = 0.95,
) -> AccuracyChange:
    """Compares two files of which only the numbers of right answers are known.

    Each accuracy gets a Clopper-Pearson interval with half of the error, so the
    interval of the difference is wider than that of `paired_change`, as it must be.

    Args:
        base_right: examples that the base answers rightly.
        new_right: the same of the new file.
        num_examples: that each answered.
        margin: the drop in accuracy that would matter, between 0 and 1.
        confidence: between 0.5 and 1.

    Raises:
        ConfigError: a number is out of range.
    """
    _check(margin, confidence)

    def difference(level: float) -> tuple[float, float]:
        base_low, base_high = accuracy_interval(
            base_right, num_examples, confidence=level
        )
        new_low, new_high = accuracy_interval(new_right, num_examples, confidence=level)
        return new_low - base_high, new_high - base_low

    error = 1 - confidence
    low, high = difference(1 - error / 2)
    # One-sided, each end may use the whole error.
    least, most = difference(1 - error)
    verdict = UNDECIDED
    if least > -margin:
        verdict = WITHIN
    elif most < -margin:
        verdict = BEYOND
    return AccuracyChange(
        num_examples=num_examples,
        base=base_right / num_examples,
        new=new_right / num_examples,
        lost=None,
        gained=None,
        low=low,
        high=high,
        confidence=confidence,
        p_value=None,
        margin=margin,
        verdict=verdict,
        examples_needed=None,
    )


def accuracy_interval(
    right: int, num_examples: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Returns the Clopper-Pearson interval of an accuracy.

    Args:
        right: examples that were answered rightly.
        num_examples: all of them.
        confidence: of the two-sided interval; it holds for every true accuracy.

    Raises:
        ConfigError: more are right than there are, or there are none.
    """
    if not 0 <= right <= num_examples or not num_examples:
        raise errors.ConfigError(
            f"{right} of {num_examples} examples cannot be right: expected a number "
            "from 0 to all of them, and at least one example."
        )
    wrong, half = num_examples - right, (1 - confidence) / 2
    low = float(special.betaincinv(right, wrong + 1, half)) if right else 0.0
    high = float(special.betaincinv(right + 1, wrong, 1 - half)) if wrong else 1.0
    return low, high


def mcnemar(lost: int, gained: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test, 1 without differences."""
    both = lost + gained
    return min(1.0, 2 * float(special.bdtr(min(lost, gained), both, 0.5)))


def score_interval(
    lost: float, gained: float, *, num_examples: float, confidence: float
) -> tuple[float, float]:
    """Returns Tango's interval of the drop in accuracy, (lost - gained) / examples."""
    z = float(special.ndtri(0.5 + confidence / 2))

    def bound(edge: float) -> float:
        """Finds the drop whose score is `edge`; scores fall as the drop grows."""
        below, above = -1.0, 1.0
        for _ in range(60):
            middle = (below + above) / 2
            is_below = _score(lost, gained, count=num_examples, drop=middle) > edge
            below, above = (middle, above) if is_below else (below, middle)
        return (below + above) / 2

    return bound(z), bound(-z)


def _score(lost: Any, gained: Any, *, count: float, drop: float) -> Any:
    """Tango's score of a true `drop`: normal with mean 0, variance 1 if it is true."""
    a, c = 2 * count, -gained * drop * (1 - drop)
    b = (2 * count - lost + gained) * drop - lost - gained
    # The likeliest share of gained examples, given the drop.
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
    variance = count * (2 * share + drop * (1 - drop))
    return (lost - gained - count * drop) / np.sqrt(np.maximum(variance, 1e-12))


def _verdict(
    lost: int, gained: int, *, count: int, margin: float, error: float
) -> tuple[str, int | None]:
    if _p_below(lost, gained, count, margin) <= error:
        return WITHIN, None
    if _p_below(gained, lost, count, -margin) <= error:
        return BEYOND, None
    return UNDECIDED, _examples_needed(
        lost, gained, count=count, margin=margin, error=error
    )


def _p_below(lost: int, gained: int, count: int, margin: float) -> float:
    """Returns the p-value of "the drop is not below `margin`".

    It is the largest probability, over how often the files may differ at all, that a
    drop of `margin` looks as good as what was seen. A negative margin asks whether
    more is gained than that, with `lost` and `gained` exchanged.
    """
    seen = float(_score(lost, gained, count=count, drop=margin))
    differ = lost + gained
    if differ > _MOST_EXACT:
        return float(special.ndtr(seen))
    least, most = accuracy_interval(differ, count, confidence=1 - _NUISANCE)
    if most < abs(margin):  # They differ too seldom for such a drop.
        return _NUISANCE if margin > 0 else 1.0
    rates = np.linspace(max(least, abs(margin), 1e-12), most, 41)
    spread = 8 * math.sqrt(count * most) + 8
    numbers = np.arange(0, min(count, int(count * most + spread)) + 1)
    # Of `numbers` differing examples at most so many may be lost to look as good.
    table = _score(
        numbers[None, :], numbers[:, None] - numbers[None, :], count=count, drop=margin
    )
    is_possible = numbers[None, :] <= numbers[:, None]
    most_lost = (is_possible & (table <= seen + 1e-9)).sum(axis=1) - 1
    falls = _binomial(numbers, count, rate=rates[:, None])
    lost_rate = np.clip((1 + margin / rates[:, None]) / 2, 0, 1)
    good = special.bdtr(np.maximum(most_lost, 0), numbers, lost_rate)
    chances = (falls * np.where(most_lost >= 0, good, 0.0)).sum(axis=1)
    return min(1.0, float(chances.max()) + _NUISANCE)


def _binomial(successes: Any, count: int, *, rate: Any) -> Any:
    ways = special.gammaln(count + 1) - special.gammaln(successes + 1)
    ways = ways - special.gammaln(count - successes + 1)
    return np.exp(
        ways
        + special.xlogy(successes, rate)
        + special.xlog1py(count - successes, -rate)
    )


def _examples_needed(
    lost: int, gained: int, *, count: int, margin: float, error: float
) -> int | None:
    """Returns how many examples, falling out as these, would give a verdict."""
    if lost - gained >= margin * count:
        return None
    needed = float(count)
    while needed < _MOST_EXAMPLES:
        needed *= 1.05
        grown = needed / count
        _, high = score_interval(
            lost * grown, gained * grown, num_examples=needed, confidence=1 - 2 * error
        )
        if high < margin and _would_do(
            lost, gained, count=count, needed=needed, margin=margin, error=error
        ):
            return _rounded_up(needed)
    return None


def _would_do(
    lost: int, gained: int, *, count: int, needed: float, margin: float, error: float
) -> bool:
    more = math.ceil(needed)
    seen = math.ceil(lost * more / count), math.floor(gained * more / count)
    return _p_below(*seen, more, margin) <= error


def _rounded_up(number: float) -> int:
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step


def _check(margin: float, confidence: float) -> None:
    if not 0 < margin < 1:
        raise errors.ConfigError(
            f"margin must be between 0 and 1, got {margin}; 0.01 is one point."
        )
    if not 0.5 < confidence < 1:
        raise errors.ConfigError(
            f"confidence must be between 0.5 and 1, got {confidence}; 0.95 is usual."
        )
