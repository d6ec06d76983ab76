"""What a permitted drop in accuracy means for a model and its data."""

from __future__ import annotations

import dataclasses
import math

from tfslim import errors


@dataclasses.dataclass(frozen=True)
class Goal:
    """What `--max_drop` asks for.

    Attributes:
        key: the figure that decides.
        least: the value to reach.
        reason: why this figure.
    """

    key: str
    least: float
    reason: str


def goal_of(
    max_drop: float,
    *,
    metric: tuple[str, float, str] | None = None,
    agreement: tuple[str, str] | None = None,
) -> Goal:
    """Returns the goal: by the metric, else by the agreement, else by the error.

    Args:
        max_drop: in percentage points; of a model that does not classify the error's
            share in percent of the output.
        metric: key, value of the float model and reason; None where there is none of
            which more is better.
        agreement: key and reason, of a model that classifies.

    Raises:
        ConfigError: an error of 0% or less.
    """
    share = max_drop / 100.0
    if metric is not None:
        key, value, reason = metric
        return Goal(key, value - share, reason)
    if agreement is not None:
        key, reason = agreement
        return Goal(key, 1.0 - share, reason)
    if max_drop <= 0:
        raise errors.ConfigError(
            "--max_drop is the error's share in percent of the output for models that "
            f"do not classify; it must be above 0, got {max_drop}."
        )
    reason = f"the model does not classify: an RMS error of {max_drop:g}% at most"
    return Goal("sqnr_db", -20.0 * math.log10(share), reason)
