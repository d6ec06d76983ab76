"""The folder that a training which may be killed leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import errors, files
from tfslim.training.options import FitOptions

# As tf_keras' BackupAndRestore names it in its checkpoint.
_EPOCH_VARIABLE = "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"


def keras_folder(folder: Path) -> Path:
    """Returns where `BackupAndRestore` writes."""
    return folder / "model"


def best_folder(folder: Path) -> Path:
    """Returns where `BestWeights` writes."""
    return folder / "best"


def prepare(
    folder: Path, model: tf_keras.Model, options: FitOptions, steps: int
) -> int:
    """Makes `folder` ready and returns the epoch to begin with.

    Raises:
        ConfigError: the folder holds the state of another training.
    """
    description = _describe(model, options, steps)
    path = folder / "training.json"
    if path.exists():
        found = json.loads(path.read_text())
        differing = [key for key in description if found.get(key) != description[key]]
        if differing:
            raise errors.ConfigError(
                f"{folder} holds the state of another training (different "
                f"{', '.join(differing)}). Delete it or choose another backup_dir."
            )
    else:
        files.write_json(path, description)
    checkpoint = tf.train.latest_checkpoint(str(keras_folder(folder) / "chief"))
    if checkpoint is None:
        return 0
    return int(tf.train.load_variable(checkpoint, _EPOCH_VARIABLE)) + 1


def _describe(model: tf_keras.Model, options: FitOptions, steps: int) -> dict[str, Any]:
    name = options.optimizer
    return {
        "epochs": options.epochs,
        "steps_per_epoch": steps,
        "optimizer": name if isinstance(name, str) else type(name).__name__,
        "learning_rate": options.learning_rate,
        "schedule": options.schedule,
        "seed": options.seed,
        "weights": [list(weight.shape) for weight in model.weights],
    }
