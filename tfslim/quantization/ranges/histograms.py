"""What calibration saw, as histograms for a report."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfslim.quantization.ranges.calibration import Calibration, gather
from tfslim.quantization.ranges.statistics import Histogram
from tfslim.quantization.rules.preprocess_model import prepare

_BARS = 64
_SAMPLES, _SECS = 8, 1.0


def histograms(
    source: bytes, samples: Iterable[Any], *, calibration: Calibration, most: int = 8
) -> list[dict[str, Any]]:
    """Runs a float file over a few samples and counts its activations' values.

    It takes about a second: as many samples as that allows, at least one, at most 8.

    Args:
        source: the float file that was calibrated.
        samples: as it was calibrated with.
        calibration: the ranges that were chosen.
        most: tensors to return: the input, then those whose range is the widest for
            what most values are.

    Returns:
        "name", "edges", "counts", "samples" and "thresholds" (method -> [low, high])
        of each tensor.
    """
    few = _within(samples)
    seen, number = gather(prepare(source), few, statistic=Histogram)
    known = {name: seen[name] for name in seen if name in calibration.tensors}
    ranked = sorted(known, key=lambda name: -_width(known[name]))
    first = list(itertools.islice(known, 1))
    chosen = list(dict.fromkeys([*first, *ranked]))[:most]
    return [
        {
            **_bars(known[name]),
            "name": name.partition(";")[0],
            "samples": number,
            "thresholds": {own.method: [own.min, own.max]},
        }
        for name in chosen
        for own in [calibration.tensors[name]]
    ]


def _within(samples: Iterable[Any]) -> Iterator[Any]:
    end = time.monotonic() + _SECS
    for sample in itertools.islice(samples, _SAMPLES):
        yield sample
        if time.monotonic() > end:
            return


def _width(histogram: Histogram) -> float:
    """Returns the range in standard deviations."""
    (low, high), (_, deviation) = histogram.range, histogram.moments
    return (high - low) / deviation if deviation else 0.0


def _bars(histogram: Histogram) -> dict[str, Any]:
    counts, below = histogram.bins()
    each = -(-len(counts) // _BARS)
    padded = np.pad(counts, (0, -len(counts) % each))
    edges = (np.arange(len(padded) // each + 1) * each - below) * histogram.width
    return {
        "edges": edges.tolist(),
        "counts": padded.reshape(-1, each).sum(1).tolist(),
    }
