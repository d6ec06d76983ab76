"""Signs that a figure should not be trusted.

In the spirit of MLPerf Mobile's rules for valid runs (https://mlcommons.org): a result
is never silently dropped or corrected; it says what speaks against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfslim.benchmark.result import LatencyStats

# Shares of the latency, chosen from what quiet machines show (below 3% and 2%).
MAX_SPREAD = 0.10
MAX_DRIFT = 0.05
MIN_RUNS = 20
# Of all cores. One other program of one thread on two cores is twice as much.
MAX_OTHERS = 0.25


def check_rounds(by_round: Sequence[LatencyStats]) -> dict[str, str]:
    """Looks at the rounds of one file: too few runs, too noisy, drifting.

    Returns:
        Short name -> a sentence, empty if nothing speaks against the figures.
    """
    found = {}
    runs = sum(part.num_runs for part in by_round)
    if runs < MIN_RUNS:
        found["few_runs"] = f"{runs} timed runs, fewer than {MIN_RUNS}."
    typical = np.array([part.typical for part in by_round])
    if typical.size < 3:
        return found
    low, middle, high = np.percentile(typical, [25, 50, 75])
    spread = (high - low) / middle
    if spread > MAX_SPREAD:
        found["noisy"] = (
            f"The middle half of the rounds spreads over {spread:.0%} of the latency "
            f"(limit {MAX_SPREAD:.0%}): something else ran, or the clock changed."
        )
    third = typical.size // 3
    first, last = np.median(typical[:third]), np.median(typical[-third:])
    drift = last / first - 1
    if abs(drift) > max(MAX_DRIFT, spread):
        found["drift"] = (
            f"The last rounds took {drift:+.0%} against the first (limit "
            f"{MAX_DRIFT:.0%}): heat or a changing clock."
        )
    return found


def check_host(others: float | None, cores: int | None) -> dict[str, str]:
    """Looks at how many cores of the host other programs kept busy during the run."""
    if others is None or not cores or others <= MAX_OTHERS * cores:
        return {}
    return {"busy": f"Other programs kept {others:.1f} of {cores} cores busy."}
