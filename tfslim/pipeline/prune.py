"""Removes channels of a model that is opened, and trains it on where it has data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from tfslim import convert, files
from tfslim.pipeline import check, choices, fitting, variants
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import steps as steps_lib


def prune_file(
    config: ml_collections.ConfigDict, out: Path, *, on_step: Callable[[str], None]
) -> dict[str, Any]:
    """Opens the config's model, runs its steps and writes it to `out`.

    Returns:
        "steps", a row each as in `result.json`; "metric", what it measures; "keras",
        which opens the file; "skipped", what the user should know.

    Raises:
        TfslimError: a name is wrong, or the model cannot be cut or trained.
    """
    has_no_data = config.data.spec is None
    config = choices.resolve(None, config, has_data=has_no_data)
    choices.check_names(config)
    steps = steps_lib.plan(config)
    job = job_lib.prepare(None, config, None, (None, None, None))
    job.backup = fitting.backup_of(job, config)
    convert.require_finite(job.model)
    fitting.to_float32(job, on_step)
    if not has_no_data:
        fitting.fit(job, fitting.options_of(config), on_step=on_step)
    job.original = job.model
    rows = []
    for step in steps:
        on_step(step.title)
        row = steps_lib.run(
            step,
            job,
            train=lambda options: fitting.fit(job, options, on_step=on_step),
            measure=lambda: job.backup.value(lambda: check.measure(job, None)),
        )
        rows.append(row)
    convert.require_finite(job.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras, notes = variants.save_keras_to(
            job.model, config.model.save_format, path=path
        )
        files.write_bytes(out, path.read_bytes())
    job.backup.finish()
    return {
        "steps": rows,
        "metric": job.task.metric_name,
        "keras": keras,
        "skipped": [*job.feed.facts["notes"], *notes],
    }
