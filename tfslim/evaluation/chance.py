"""Tells a classifier that guesses, and whether another preprocessing mends it.

The commonest cause of "INT8 predicts one class" is a float model that is fed pixels of
another range than it was trained on: right as often as by chance already.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfslim import errors, preprocessing

# A guess is right so often, or more, once in a hundred times; a preset that is named
# must be right by chance once in ten thousand times only.
_DOUBTFUL = 0.01
_SURE = 1e-4
# Of the way from chance to always right: less is no answer to build on.
_USELESS = 0.1
# With fewer examples a low accuracy says nothing.
_LEAST_EXAMPLES = 10


@dataclasses.dataclass(frozen=True)
class Doubt:
    """Why the preprocessing may be the wrong one.

    Attributes:
        text: one sentence or two for the user.
        better: name of the preset that works; None if none does.
        scores: preset -> accuracy with it, of those that could be tried.
    """

    text: str
    better: str | None
    scores: dict[str, float]


def chance_level(targets: np.ndarray) -> float:
    """Returns the accuracy of answering the commonest class for every example."""
    _, counts = np.unique(np.asarray(targets).reshape(-1), return_counts=True)
    return float(counts.max() / counts.sum())


def is_chance(accuracy: float, targets: np.ndarray) -> bool:
    """Whether an accuracy is no better than a guess, or so little that it is useless.

    A one-sided binomial test against a tenth of the way from chance to always right.

    Args:
        accuracy: share of the examples that are right.
        targets: class numbers of these examples.
    """
    count = np.size(targets)
    return (
        _tail(round(accuracy * count), count, share=useless_level(targets)) > _DOUBTFUL
    )


def useless_level(targets: np.ndarray) -> float:
    """Returns the accuracy a tenth of the way from chance to always right."""
    level = chance_level(targets)
    return level + _USELESS * (1.0 - level)


def preprocessing_doubt(
    classify: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray | Sequence[np.ndarray],
    *,
    targets: np.ndarray,
    given: preprocessing.Preprocessing,
    flag: str = "--preprocessing",
) -> Doubt | None:
    """Tries other preprocessing on some labelled examples, where the given one fails.

    Other presets are for images; of vectors and tokens only the doubt is said.

    Args:
        classify: preprocessed batch -> the class numbers that the float model chooses.
        images: examples before preprocessing, some 256.
        targets: their class numbers.
        given: the preprocessing in use.
        flag: what sets it, for the message.

    Returns:
        None where the model is right more often than by chance, or there are too few
        examples to tell.
    """
    targets = np.asarray(targets).reshape(-1)
    count, level = len(targets), chance_level(targets)
    chosen = _try(classify, images, prepare=given)
    if chosen is None or count < _LEAST_EXAMPLES:
        return None
    own = float((chosen == targets).mean())
    if not is_chance(own, targets):
        return None
    scores = {}
    for name, fields in preprocessing.PRESETS.items():
        other = _with(given, fields)
        is_other = given.is_image and other not in (None, given)
        score = _try(classify, images, prepare=other) if is_other else None
        if score is not None:
            scores[name] = float((score == targets).mean())
    best = max(scores, key=lambda name: scores[name], default=None)
    found = f"is right in {own:.1%} of {count} examples, a guess in {level:.1%}"
    least = max(useless_level(targets), own)
    if (
        best is not None
        and _tail(round(scores[best] * count), count, share=least) < _SURE
    ):
        return Doubt(
            f"The preprocessing is wrong: with it the float model {found}; with "
            f"{flag}={best} it is right in {scores[best]:.1%}.",
            best,
            scores,
        )
    if own > useless_level(targets) or _tells_apart(chosen, targets):
        return None
    tried = ", ".join(f"{name} {score:.1%}" for name, score in scores.items())
    return Doubt(
        f"The preprocessing or the labels are in doubt: the float model {found}; other "
        f"presets do no better ({tried or 'none fits'}).",
        None,
        scores,
    )


def _with(
    given: preprocessing.Preprocessing, fields: dict[str, object]
) -> preprocessing.Preprocessing | None:
    same = {name: getattr(given, name) for name in ("input_shape", "resize", "dtype")}
    try:
        return preprocessing.Preprocessing.from_json({**same, **fields})
    except errors.TfslimError:  # Three means for one channel.
        return None


def _tells_apart(chosen: np.ndarray, targets: np.ndarray) -> bool:
    """Whether choices go with the targets, though one class alone were right as often.

    Where 90% are of one class, a model that finds 85% of each class is no guess: such
    choices, dealt out blindly, would be right more seldom.
    """
    classes = np.union1d(chosen, targets)
    blind = sum(float((chosen == c).mean() * (targets == c).mean()) for c in classes)
    useless = blind + _USELESS * (1.0 - blind)
    right = int((chosen == targets).sum())
    return _tail(right, len(targets), share=useless) <= _DOUBTFUL


def _try(
    classify: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray | Sequence[np.ndarray],
    *,
    prepare: preprocessing.Preprocessing | None,
) -> np.ndarray | None:
    if prepare is None:
        return None
    try:
        return np.asarray(classify(prepare.apply(images))).reshape(-1)
    except errors.TfslimError:  # Beyond what an integer input holds.
        return None


def _tail(successes: int, count: int, *, share: float) -> float:
    """Returns the probability of so many successes or more of `count`."""
    if successes <= 0:
        return 1.0
    ks = np.arange(successes, count + 1)
    log_choose = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        for k in ks
    ]
    share = min(max(share, 1e-12), 1.0 - 1e-12)
    logs = np.array(log_choose) + ks * np.log(share) + (count - ks) * np.log1p(-share)
    return float(np.exp(logs).sum())
