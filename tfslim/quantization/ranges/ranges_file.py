"""`ranges.json`: a calibration kept, so that it need not be done again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfslim import checks, errors, files, tflite
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.ranges.calibration import Calibration, TensorRange
from tfslim.quantization.rules.preprocess_model import prepare

SCHEMA_VERSION = 1


@checks.by_name
def write_ranges(path: Path, calibration: Calibration, *, model: bytes) -> None:
    """Writes `calibration` of the float `.tflite` `model` as JSON."""
    source = tflite.read(prepare(model))
    names = LayerNames(source)
    layers = {
        source.tensors[index].name: names.first(op)
        for index, op in source.graphs[0].producers.items()
    }
    rows = [
        {"tensor": name, "layer": layers.get(name, ""), **dataclasses.asdict(bounds)}
        for name, bounds in calibration.tensors.items()
    ]
    content = {
        "schema_version": SCHEMA_VERSION,
        "method": calibration.method,
        "num_samples": calibration.num_samples,
        "equalized": calibration.equalized,
        "trials": [dataclasses.asdict(trial) for trial in calibration.trials],
        "ranges": rows,
    }
    files.write_json(path, content)


def read_ranges(path: Path | str) -> Calibration | dict[str, tuple[float, float]]:
    """Reads what `write_ranges` wrote, or ranges written by hand.

    Returns:
        A `Calibration`; or, for a file that is just {tensor name: [min, max]}, tensor
        name -> (min, max), which may name some tensors only.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.ConfigError(f"Cannot read ranges from '{path}': {error}.") from (
            error
        )
    try:
        if "schema_version" in content:
            return _calibration(content)
        return {
            name: (float(low), float(high)) for name, (low, high) in content.items()
        }
    except errors.ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise errors.ConfigError(
            f"'{path}' holds no ranges: expected a ranges.json of tfslim, or "
            '{"tensor name": [min, max], ...}.'
        ) from error


def _calibration(content: dict[str, Any]) -> Calibration:
    if content["schema_version"] != SCHEMA_VERSION:
        raise errors.ConfigError(
            f"The ranges have schema version {content['schema_version']!r}, this "
            f"tfslim reads {SCHEMA_VERSION}. Calibrate again."
        )
    return Calibration(
        method=content["method"],
        num_samples=int(content["num_samples"]),
        equalized=bool(content["equalized"]),
        tensors={
            row["tensor"]: TensorRange(
                float(row["min"]), float(row["max"]), row["method"], row["digest"]
            )
            for row in content["ranges"]
        },
    )
