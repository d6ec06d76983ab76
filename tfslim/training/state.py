"""The state that a training writes after every epoch, to resume from after a kill."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import errors, files
from tfslim.training import packing, workers
from tfslim.training.options import FitOptions

# The state of Keras' own callbacks, which have no get_state; constructors set the rest.
_KNOWN_STATES = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ModelCheckpoint": ("best", "epochs_since_last_save"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
}


class EpochState(tf_keras.callbacks.Callback):
    """Writes everything that the next epoch depends on, and reads it again.

    One file holds it all and appears whole or not at all, so the state is always that
    of one epoch's end. It stands last among the callbacks: an epoch counts as done
    when everything else about it is. Only the chief of several workers writes; the
    others get what it has read.
    """

    def __init__(
        self,
        folder: Path | str,
        description: dict[str, Any],
        callbacks: Sequence[tf_keras.callbacks.Callback],
    ):
        """Prepares to keep the state.

        Args:
            folder: where to write.
            description: plain data by which a training is known again.
            callbacks: those before this one; the state of each is kept that has
                `get_state` and `set_state` or is a known one of Keras.
        """
        super().__init__()
        self._path = Path(folder) / "state.bin"
        own = [getattr(callback, "wrapped", callback) for callback in callbacks]
        stateful = [callback for callback in own if _access(callback) is not None]
        self._callbacks = {
            f"{index}: {type(callback).__name__}": _access(callback)
            for index, callback in enumerate(stateful)
        }
        self._description = {**description, "callbacks": list(self._callbacks)}
        self._states: dict[str, Any] | None = None
        self._epochs = 0
        self._has_ended = False
        self.is_stopped = False

    def load(self, model: tf_keras.Model) -> int:
        """Sets the variables of a compiled model; returns how many epochs are done.

        Raises:
            ConfigError: the file is of another training or cannot be read.
        """
        strategy = model.distribute_strategy
        data = b""
        if workers.is_chief(strategy):
            files.make_folder(self._path.parent, "backup_dir")
        if workers.is_chief(strategy) and self._path.exists():
            data = self._path.read_bytes()
        data = workers.from_chief(strategy, data)
        if not data:
            return 0
        state = self._checked(data)
        self._has_ended = state["has_ended"]
        variables = _variables(model, is_trained=not self._has_ended)
        if len(variables) != len(state["variables"]):
            raise errors.ConfigError(
                f"{self._path} has {len(state['variables'])} variables and the model "
                f"has {len(variables)}: a layer or optimizer makes some only while it "
                "is trained. Make them in `build`, or train without backup_dir."
            )
        for variable, value in zip(variables, state["variables"], strict=True):
            variable.assign(value)
        self._states, self.is_stopped = state["callbacks"], state["is_stopped"]
        self._epochs = int(state["epochs"])
        return self._epochs

    def _checked(self, data: bytes) -> Any:
        try:
            state = packing.unpack(data)
            found = state["description"]
        except (ValueError, KeyError, TypeError) as error:
            raise errors.ConfigError(
                f"{self._path} cannot be read ({error}). Delete it to start anew."
            ) from error
        own = packing.unpack(packing.pack(self._description))
        refuse_other(self._path.parent, "training", own=own, found=found)
        return state

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Gives the callbacks their states; most forget them as a training begins."""
        if self._states is not None:
            for name, (_, set_state) in self._callbacks.items():
                set_state(self._states[name])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the state."""
        self._epochs = epoch + 1
        self._write(is_stopped=bool(self.model.stop_training))

    def _write(self, *, is_stopped: bool) -> None:
        variables = _variables(self.model, is_trained=not self._has_ended)
        # All workers must read: statistics are averaged over them.
        state = {
            "epochs": self._epochs,
            "is_stopped": is_stopped,
            "has_ended": self._has_ended,
            "description": self._description,
            "variables": [variable.numpy() for variable in variables],
            "callbacks": {
                name: get_state() for name, (get_state, _) in self._callbacks.items()
            },
        }
        try:
            data = packing.pack(state)
        except TypeError as error:
            raise errors.ConfigError(
                f"The state of a callback cannot be kept: {error}. get_state must "
                "return JSON values and numpy arrays."
            ) from error
        if workers.is_chief(self.model.distribute_strategy):
            files.write_bytes(self._path, data)

    def finish(self, *, keep: bool) -> None:
        """Writes down what the training ended with, or removes what was written.

        Args:
            keep: whether the same training is to be loaded the next time. If not, the
                folder goes too, if nothing else is in it.
        """
        if keep and not self._has_ended:
            self._has_ended = True
            self._write(is_stopped=True)
        elif not keep and workers.is_chief(self.model.distribute_strategy):
            self._path.unlink(missing_ok=True)
            for half_written in self._path.parent.glob(f".{self._path.name}.*"):
                half_written.unlink()
            with contextlib.suppress(OSError):
                self._path.parent.rmdir()


def describe(
    model: tf_keras.Model, options: FitOptions, *, steps: int, monitor: str
) -> dict[str, Any]:
    """Returns by what the training of a compiled model is known again."""
    optimizer = model.optimizer
    names = (
        "epochs batch_size learning_rate schedule patience best_from_epoch "
        "sync_batch_norm mixed_precision seed"
    )
    return {name: getattr(options, name) for name in names.split()} | {
        "steps_per_epoch": steps,
        "optimizer": f"{type(optimizer).__name__} {optimizer.get_config()}",
        "monitor": monitor,
        "weights": [list(weight.shape) for weight in model.weights],
    }


def _variables(model: tf_keras.Model, *, is_trained: bool) -> list[tf.Variable]:
    """Returns the variables of a model, each once, in a stable order.

    Args:
        model: a compiled model.
        is_trained: whether it is trained on, and the optimizer's count too.
    """
    found, owners = list(model.weights), list(model.layers)
    if is_trained:
        optimizer = model.optimizer
        with model.distribute_strategy.scope():
            if hasattr(optimizer, "build"):
                optimizer.build(model.trainable_variables)
            else:  # tf_keras.optimizers.legacy
                optimizer._create_all_weights(model.trainable_variables)
        found += optimizer.variables()
        owners.append(optimizer)
    # What is in neither list: random generators of layers, the learning rate.
    for owner in owners:
        parts = tf.train.TrackableView(owner).descendants()
        found += [part for part in parts if isinstance(part, tf.Variable)]
    return list({id(variable): variable for variable in found}.values())


def _access(callback: Any) -> Any:
    """Returns functions that get and set the state of a callback, None for none."""
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return callback.get_state, callback.set_state
    names: tuple[str, ...] = ()
    for base in type(callback).__mro__:
        if base.__module__.partition(".")[0] in ("keras", "tf_keras"):
            names = _KNOWN_STATES.get(base.__name__, ())
            break

    def get_state() -> dict[str, Any]:
        return {n: getattr(callback, n) for n in names if hasattr(callback, n)}

    def set_state(state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(callback, name, value)

    return (get_state, set_state) if names else None


def refuse_other(
    folder: Path, kind: str, *, own: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Raises ConfigError where a folder has the state of other work than this.

    Args:
        folder: of the state.
        kind: of work, for the message.
        own: what is to be done, as plain data.
        found: what the folder says that was.
    """
    differing = [key for key in own if found.get(key) != own[key]]
    if differing:
        raise errors.ConfigError(
            f"{folder} holds the state of another {kind} (different "
            f"{', '.join(differing)}). Delete it or choose another backup_dir."
        )
