"""A job of several trainings that resumes after a kill."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, files
from tfslim.graph import keras as graph_keras
from tfslim.training import packing, replicas, seeds, state, workers
from tfslim.training import training as fitting
from tfslim.training.loop import TrainingResult
from tfslim.training.options import FitOptions, with_overrides

# Number of an entry, and what a training began with.
_ENTRY = re.compile(r"(\d{3,})(-[0-9a-f]{16}|\.bin)")
_HALF_WRITTEN = (".job.json.*", ".[0-9][0-9][0-9]*")


class ResumableJob:
    """Several trainings, and a folder from which they resume after a kill.

    The job is run again from its start. Cuts are cheap and come out the same; a
    training that had ended is replaced by what it ended with, the one that was killed
    resumes from its last epoch. A training is known again by its number and the
    weights it begins with. Where a cut comes out differently after all, since threads
    add up in any order or a criterion draws numbers, what was kept from there on is
    removed and trained anew. What is measured, such as a latency that decides on a
    cut, never comes out the same: `value` keeps it.

    Example:
        job = ResumableJob(options, model, {"ratio": 0.5})
        for _ in range(3):
            model, _ = prune_channels(model, pruning_ratio=0.2)
            job.train(model, Training(train=data, options=options))
        job.finish()
    """

    def __init__(
        self,
        options: FitOptions,
        model: Any = None,
        *,
        description: Mapping[str, Any] | None = None,
    ):
        """Opens the folder of a job.

        Args:
            options: `backup_dir` is the folder, None keeps nothing; with
                `keep_backup`, `finish` leaves it as it is.
            model: what the job begins with.
            description: what is done to it, by which the job is known again. Models
                count by their weights, functions by their names.

        Raises:
            ConfigError: the folder is of another job or model, or cannot be read.
        """
        self._folder = None if options.backup_dir is None else Path(options.backup_dir)
        self._is_kept = options.keep_backup
        self._seed = options.seed
        self._is_chief = True
        self._number = 0
        if self._folder is not None:
            self._strategy = replicas.resolve_strategy(options.strategy)
            self._is_chief = workers.is_chief(self._strategy)
            if self._is_chief:
                _check(self._folder, {**(description or {}), "model": model})

    def part(self, options: FitOptions, model: Any) -> FitOptions:
        """Returns the options for the next part of the job.

        Args:
            options: those without a backup.
            model: what the part, a training or a method with several, begins with.
        """
        place = self._entry(model)
        if place is None:
            return options
        return dataclasses.replace(options, backup_dir=place, keep_backup=True)

    def train(
        self,
        model: Any,
        how: fitting.Training,
        callbacks: Sequence[Any] = (),
        **overrides: Any,
    ) -> TrainingResult:
        """Trains a model in place; `overrides` are fields of `FitOptions`."""
        options = with_overrides(how.options, overrides)
        own = dataclasses.replace(how, options=self.part(options, model))
        return own.run(model, callbacks)

    def tuned(self, model: Any, fine_tune: Callable[[Any], Any]) -> Any:
        """Returns a model after a function that trains it, in place or as a new one.

        A function that was killed is called anew; only a `Training` resumes from its
        last epoch.
        """
        place = None
        if isinstance(fine_tune, fitting.Training):
            own = self.part(fine_tune.options, model)
            fine_tune = dataclasses.replace(fine_tune, options=own)
        else:
            place = self._entry(model)
        if place is not None and place.exists():
            return _load(place, model)
        result = fine_tune(model)
        if isinstance(result, str | bytes | int | float):
            raise errors.ConfigError(
                f"fine_tune returned {result!r}; expected the trained model, or None "
                "where it trains in place."
            )
        result = result if fitting.is_model(result) else model
        if place is not None and self._is_chief:
            with files.whole_folder(place) as building:
                result.save(building / f"{graph_keras.keras_of(result)}.keras")
        return result

    def value(self, make: Callable[[], Any]) -> Any:
        """Returns what `make` does, or did before the kill: JSON values and arrays."""
        path = self._entry()
        if path is None:
            return make()
        data = path.read_bytes() if self._is_chief and path.exists() else b""
        data = workers.from_chief(self._strategy, data)
        if not data:
            data = packing.pack(make())
            if self._is_chief:
                files.write_bytes(path, data)
        try:
            return packing.unpack(data)
        except ValueError as error:
            raise _unreadable(path, error) from error

    def finish(self) -> None:
        """Removes what was kept; other files in the folder stay."""
        if self._folder is None or self._is_kept or not self._is_chief:
            return
        _remove_from(self._folder, 0)
        (self._folder / "job.json").unlink(missing_ok=True)
        for pattern in _HALF_WRITTEN:
            for path in self._folder.glob(pattern):
                _remove(path)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _entry(self, model: Any = None) -> Path | None:
        """Returns the place of the next entry; without one, none after it counts."""
        if self._folder is None:
            return None
        self._number += 1
        suffix = ".bin" if model is None else f"-{_hash(model)}"
        path = self._folder / f"{self._number:03d}{suffix}"
        if self._is_chief and not path.exists():
            _remove_from(self._folder, self._number)
        # What a user's function draws must not depend on what ran before it.
        seeds.set_all(self._seed + self._number)
        return path


def options_of(
    fine_tune: Callable[[Any], Any], backup_dir: Path | str | None
) -> FitOptions:
    """Returns the options of a job whose trainings are up to the user."""
    if not callable(fine_tune):
        raise errors.ConfigError(
            f"fine_tune is {fine_tune!r}; expected a tfslim.Training, or a function "
            "that trains a model."
        )
    options = FitOptions()
    if isinstance(fine_tune, fitting.Training):
        options = fine_tune.options
    if backup_dir is not None:
        options = dataclasses.replace(options, backup_dir=backup_dir)
    return options


def _check(folder: Path, description: Mapping[str, Any]) -> None:
    """Writes down what is done in a folder, or compares it with what was."""
    own = json.loads(json.dumps(description, default=_plain))
    path = folder / "job.json"
    files.make_folder(folder, "backup_dir")
    if not path.exists() or not _entries(folder):
        files.write_json(path, own)
        return
    try:
        found = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    state.refuse_other(folder, "job", own=own, found=found)


def _unreadable(path: Path, error: Exception) -> errors.ConfigError:
    return errors.ConfigError(
        f"{path} cannot be read ({error}). Delete the folder to start anew."
    )


def _plain(value: Any) -> Any:
    """Returns what stands for a value in JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=8).hexdigest()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if fitting.is_model(value):
        return _hash(value)
    return getattr(value, "__name__", type(value).__name__)


def _hash(model: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for weight in model.get_weights():
        digest.update(repr((weight.shape, str(weight.dtype))).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _load(folder: Path, origin: Any) -> Any:
    """Loads a trained model; its own layers are those of the model it began as."""
    [path] = folder.glob("*.keras")
    layers = graph_keras.read(origin).layers.values()
    own = [layer.keras_class for layer in layers if layer.keras_class is not None]
    # The file is our own: it may hold the user's Lambda layers.
    return importlib.import_module(path.stem).models.load_model(
        path,
        custom_objects={each.__name__: each for each in own},
        compile=False,
        safe_mode=False,
    )


def _entries(folder: Path) -> dict[Path, int]:
    """Returns what is kept, with its numbers."""
    found = [(path, _ENTRY.fullmatch(path.name)) for path in folder.iterdir()]
    return {path: int(match[1]) for path, match in found if match}


def _remove_from(folder: Path, first: int) -> None:
    for path, number in _entries(folder).items():
        if number >= first:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
