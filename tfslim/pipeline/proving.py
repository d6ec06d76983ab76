"""The files of an export in the programs that will run them: variant by consumer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import consumers, tflite
from tfslim.pipeline import structure
from tfslim.pipeline.job import Job

OnStep = Callable[[str], None]
# Enough to see another class in one of 50; emulated CPUs take a while.
_SAMPLES = 64


def require(names: Sequence[str]) -> None:
    """Raises ConfigError for a consumer that is unknown or not on this machine."""
    for name in names:
        consumers.CONSUMERS.get(name).require()


def prove(
    job: Job,
    contents: Mapping[str, bytes],
    names: Sequence[str],
    keras: Sequence[np.ndarray],
    on_step: OnStep,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs every file in every consumer on the first samples of the test split.

    Args:
        job: whose test split it is; without one, samples are made up.
        contents: variant -> file.
        names: consumers; none: nothing is run.
        keras: the Keras model's outputs for the test split.
        on_step: called with a line of text before each file.

    Returns:
        Variant -> consumer -> what `consumers.verify` says; {} without consumers.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for variant, content in contents.items() if names else ():
        on_step(f"running {variant} in {', '.join(names)}")
        inputs, truth = _samples(job, content), None
        if inputs is None:
            inputs = consumers.made_up(content)
        else:
            count = len(next(iter(inputs.values())))
            truth = [array[:count] for array in keras]
        found[variant] = consumers.verify(content, inputs, names, keras=truth)
    return found


def warnings(matrix: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Returns what consumers get wrong, with the advice."""
    lines = []
    for variant, rows in matrix.items():
        for name, row in rows.items():
            if row["status"] == "wrong":
                advice = " Give the GPU float16." if name == "gpu" else ""
                reason = row["reason"].rstrip(".")
                lines.append(f"{variant} is wrong in {name}: {reason}.{advice}")
            elif row["status"] == "refused":
                lines.append(f"{name} refuses {variant}: {row['reason']}")
    return lines


def _samples(job: Job, content: bytes) -> dict[str, np.ndarray] | None:
    """Returns the first inputs of the test split by their names in the file."""
    if job.feed.test is None:
        return None
    names = structure.input_names(job.model)
    parts: list[list[np.ndarray]] = []
    for x, _ in itertools.islice(job.feed.test(), _SAMPLES):
        x = structure.in_order(x, names, "inputs") if isinstance(x, dict) else x
        parts.append(
            [np.asarray(t) for t in (x if isinstance(x, list | tuple) else [x])]
        )
        if sum(len(part[0]) for part in parts) >= _SAMPLES:
            break
    arrays = [np.concatenate(arrays)[:_SAMPLES] for arrays in zip(*parts, strict=True)]
    return dict(zip(tflite.read(content).input_names, arrays, strict=True))
