"""Jobs of several trainings that go on after a kill: what is done is not done again."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfslim import errors, files
from tfslim.graph import keras as graph_keras

# What makes a stage: its own folder for `fit(backup_dir=)` -> model and report.
Stage = Callable[[Path | None], tuple[Any, dict[str, Any]]]


class Stages:
    """The finished stages of one job, in a folder.

    A stage that is done leaves its model and its report there; the same job started
    again loads them instead. A stage that was killed in a training goes on within it
    if it passes the folder it is given on to `fit`.

    Example:
        stages = Stages(backup_dir, {"ratio": 0.5})
        for number in range(3):
            stage = functools.partial(cut_and_train, model)  # ... of folder
            model, report = stages.run(f"pass {number}", stage)
        stages.remove()
    """

    def __init__(
        self,
        folder: Path | str | None,
        description: Mapping[str, Any],
        custom_objects: Mapping[str, Any] | None = None,
    ):
        """Opens the folder.

        Args:
            folder: where to keep the stages; None keeps nothing.
            description: JSON values by which the job is known again.
            custom_objects: the user's own classes in the models.

        Raises:
            ConfigError: the folder holds the stages of another job.
        """
        self._folder = None if folder is None else Path(folder)
        self._custom_objects = dict(custom_objects or {})
        self._names: list[str] = []
        if self._folder is not None:
            self._check(self._folder / "job.json", json.loads(json.dumps(description)))

    def _check(self, path: Path, description: dict[str, Any]) -> None:
        if not path.exists():
            files.write_json(path, description)
            return
        found = json.loads(path.read_text())
        keys = sorted({*found, *description})
        differing = [key for key in keys if found.get(key) != description.get(key)]
        if differing:
            raise errors.ConfigError(
                f"{path.parent} holds the stages of another job (different "
                f"{', '.join(differing)}). Delete it or choose another backup_dir."
            )

    def run(self, name: str, stage: Stage) -> tuple[Any, dict[str, Any]]:
        """Returns what a stage makes: loaded if it is done, made and kept if not.

        Args:
            name: unique within the job; stages come in the same order every time.
            stage: called with a folder for the backup of its training (None if
                nothing is kept); returns a Keras model, without need of its
                optimizer, and a report of JSON values.

        Returns:
            The model and the report. A loaded model equals the one that was made, bit
            for bit; it is not compiled.
        """
        if name in self._names:
            raise errors.ConfigError(f"There are two stages named '{name}'.")
        self._names.append(name)
        if self._folder is None:
            return stage(None)
        slug = re.sub(r"[^\w.-]+", "-", name)
        place = self._folder / f"{len(self._names):03d}-{slug}"
        if place.exists():
            report = json.loads((place / "report.json").read_text())
            return self._load(place, report.pop("keras")), report["report"]
        training = self._folder / f"{place.name}.training"
        model, report = stage(training)
        with files.whole_folder(place) as building:
            model.save(building / "model.keras")
            kept = {"keras": graph_keras.keras_of(model), "report": report}
            files.write_json(building / "report.json", kept)
        shutil.rmtree(training, ignore_errors=True)
        return model, report

    def _load(self, place: Path, package: str) -> Any:
        if package == "keras":
            import keras as package_of
        else:
            import tf_keras as package_of
        # The file is our own: it may hold the user's Lambda layers.
        return package_of.models.load_model(
            place / "model.keras",
            custom_objects=self._custom_objects,
            compile=False,
            safe_mode=False,
        )

    def remove(self) -> None:
        """Removes all that was kept, once the job is done."""
        if self._folder is None:
            return
        for pattern in ("[0-9][0-9][0-9]-*", ".[0-9][0-9][0-9]-*"):
            for place in self._folder.glob(pattern):
                shutil.rmtree(place)
        (self._folder / "job.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # The user's own files stay.
            self._folder.rmdir()
