"""What rounds of pruning leave behind, so that none is repeated after a kill."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, files
from tfslim.graph import keras as graph_keras


class Backup:
    """A folder with the model after the last finished round, and a record of all.

    `rounds.json` is written last and names its model, so that a kill at any time
    leaves the state after one round or the next.
    """

    def __init__(self, folder: Path | str, model: Any, job: Mapping[str, Any]):
        """Opens a folder for a job on a model.

        Args:
            folder: made if it is not there.
            model: what the rounds begin with.
            job: what is done to it, plain data.

        Raises:
            ConfigError: the folder holds the rounds of another job or model.
        """
        self._folder = Path(folder)
        self._keras = importlib.import_module(graph_keras.keras_of(model))
        # As JSON gives it back: tuples as lists.
        self._job = json.loads(json.dumps({**job, "model": _fingerprint(model)}))
        self._state: dict[str, Any] | None = None
        if self._index.exists():
            self._state = self._read()

    @property
    def training(self) -> Path:
        """Where a training inside a round may keep its own state."""
        return self._folder / "training"

    @property
    def state(self) -> Any:
        """What `save` was given last, None before the first."""
        return None if self._state is None else self._state["state"]

    @property
    def _index(self) -> Path:
        return self._folder / "rounds.json"

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._index.read_text())
            job = found["job"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise errors.ConfigError(
                f"{self._index} cannot be read ({error}). Delete the folder to start "
                "anew."
            ) from error
        differing = [k for k in self._job if job.get(k) != self._job[k]]
        if differing:
            raise errors.ConfigError(
                f"{self._folder} holds the rounds of another job (different "
                f"{', '.join(differing)}). Delete it or choose another backup_dir."
            )
        return found

    def load(self) -> Any:
        """Returns the model after the last finished round, None before the first."""
        if self._state is None:
            return None
        path = self._folder / self._state["file"]
        return self._keras.models.load_model(path, compile=False)

    def save(self, model: Any, state: Any) -> None:
        """Keeps a model and what is known of the rounds so far (plain data)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as temporary:
            path = Path(temporary) / "model.keras"
            model.save(path)
            content = path.read_bytes()
        name = f"{hashlib.blake2b(content, digest_size=8).hexdigest()}.keras"
        files.write_bytes(self._folder / name, content)
        self._state = {"job": self._job, "state": state, "file": name}
        files.write_json(self._index, self._state)
        for old in self._folder.glob("*.keras"):
            if old.name != name:
                old.unlink()

    def clear(self) -> None:
        """Removes what was kept; other files in the folder stay."""
        self._index.unlink(missing_ok=True)
        for old in self._folder.glob("*.keras"):
            old.unlink()
        shutil.rmtree(self.training, ignore_errors=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()


def _fingerprint(model: Any) -> str:
    """Returns a hash of a model's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.get_weights():
        digest.update(repr((weight.shape, str(weight.dtype))).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
