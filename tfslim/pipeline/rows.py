"""What the result says of a variant before it is checked and timed."""

from __future__ import annotations

import dataclasses
import gzip
from typing import Any

from tfslim import quantization


def sizes(content: bytes) -> dict[str, int]:
    """Returns a file's size as it is and packed."""
    return {
        "size_bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, 6, mtime=0)),
    }


def describe(
    recipe: quantization.Recipe, accurate: quantization.AccurateResult
) -> dict[str, Any]:
    """Returns what the result says of a variant before it is checked and timed."""
    done = accurate.quantized
    calibrated = done.calibration
    return {
        "name": recipe.name,
        "file": f"{recipe.name}.tflite",
        "calibration": calibrated
        and {
            "method": calibrated.method,
            "num_samples": calibrated.num_samples,
            "trials": [dataclasses.asdict(trial) for trial in calibrated.trials],
            "steps": accurate.steps,
            "taken": accurate.taken,
        },
        "scheme": recipe.scheme,
        **sizes(done.tflite),
        "kept_float": [dataclasses.asdict(kept) for kept in done.kept_float],
    }
