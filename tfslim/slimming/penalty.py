"""Network slimming: an L1 penalty on the scales of batch normalization.

A channel whose scale (gamma) is driven to zero is constant and can be removed; the
ranking of what is left is the criterion `bn_scale`.

Sources: Liu et al., "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017, https://arxiv.org/abs/1708.06519; `share`: Yun et al., "Trimming
the l1 Regularizer", ICML 2019, https://arxiv.org/abs/1805.07495.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from tfslim import checks, errors
from tfslim.graph import keras as graph_keras
from tfslim.training import access

# Epoch from 0, number of epochs -> share of the strength.
SCHEDULES: Mapping[str, Callable[[int, int], float]] = {
    "constant": lambda epoch, epochs: 1.0,
    "linear": lambda epoch, epochs: min(1.0, (epoch + 1) / epochs),
}
_CLASSES = ("BatchNormalization", "BatchNormalizationBase")
# Upper ends of the bins of |gamma|; what is larger falls into one more.
_EDGES = np.linspace(0.0, 1.0, 21)


class NetworkSlimming(tf_keras.callbacks.Callback):
    """Adds `strength * sum |gamma|` to the loss while a model is fitted.

    It works in the `fit` of tf_keras and of Keras 3, also under a `tf.distribute`
    strategy, where the penalty counts once. The penalty is a part of the loss, so
    gradients, optimizers and loss scales treat it as such, and `loss` and `val_loss`
    contain it. When the training ends, it is taken out: the model is as plain as
    before.

    The logs of every epoch get `gamma_sparsity`, the share of gammas whose magnitude
    is below `threshold`, and `gamma_penalty`. In a training loop of your own,
    callbacks do nothing: add `slimming_penalty` to the loss there.

    Attributes:
        history: one dict per finished epoch: `epoch`, `strength`, `penalty`,
            `sparsity` and `histogram` (see `gamma_histogram`).
        skipped: normalizations that were left out, with the reason.

    Example:
        model.fit(x, y, callbacks=[tfslim.callbacks.NetworkSlimming(1e-4)])
        smaller, report = tfslim.prune_channels(
            model,
            criterion=tfslim.Scoring(criterion="bn_scale", normalization="none"),
            budget=tfslim.Budget(pruning_ratio=0.5, scope="global"),
        )
    """

    def __init__(
        self,
        strength: float = 1e-4,
        *,
        share: float = 1.0,
        layers: str | Sequence[str] = "*",
        schedule: str | Callable[[int], float] = "constant",
        threshold: float = 0.01,
        log_dir: Path | str | None = None,
    ):
        """Prepares to penalize.

        Args:
            strength: weight of the penalty. The paper takes 1e-5 to 1e-4 for 160
                epochs; a shorter training needs more, since `strength` times the sum
                of all learning rates is how far SGD can move a gamma.
            share: which part of all gammas is penalized, in (0, 1]: at each step the
                smallest ones. The others train as if there were no penalty, so a
                strong one does not shrink what will stay.
            layers: names or patterns of batch normalizations.
            schedule: "constant"; "linear", which grows evenly to `strength` in the
                last epoch; or a function of the epoch, from 0, that gives the
                strength itself.
            threshold: below this magnitude a gamma counts as zero in the logs.
            log_dir: where to write the figures and the histogram for TensorBoard.

        Raises:
            ConfigError: a value is out of range, or there is no such schedule.
        """
        super().__init__()
        _check_strength(strength)
        _check_share(share)
        if not callable(schedule):
            checks.choice("schedule of the strength", schedule, known=SCHEDULES)
        checks.number("threshold", threshold, span="(0, inf)")
        if log_dir is not None and importlib.util.find_spec("tensorboard") is None:
            raise errors.MissingExtraError(
                "tensorboard", extra="tensorflow", needed_for="log_dir"
            )
        self.strength = strength
        self.share = share
        self.layers = layers
        self.schedule = schedule
        self.threshold = threshold
        self.history: list[dict[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self._log_dir = log_dir
        self._writer: Any = None
        self._gammas: list[Any] = []
        # In variables, since the step that `fit` runs is traced once.
        self._current: tf.Variable | None = None
        self._counted: tf.Variable | None = None
        # Where each gamma's part of it begins.
        self._starts: dict[int, int] = {}
        self._remove: Callable[[], None] | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Adds the penalty to the model.

        Raises:
            ConfigError: no trainable batch normalization with a scale fits `layers`.
        """
        self.remove()
        graph_keras.require_tensorflow(self.model, "NetworkSlimming")
        gammas, self.skipped = _choose(self.model, self.layers)
        self._gammas = list(gammas.values())
        sizes = [math.prod(gamma.shape) for gamma in self._gammas]
        starts = itertools.accumulate(sizes, initial=0)
        self._starts = dict(zip(map(id, self._gammas), starts, strict=False))
        with self.model.distribute_strategy.scope():
            self._current = tf.Variable(0.0, trainable=False, name="slimming_strength")
            self._counted = tf.Variable(
                tf.ones(sum(sizes)), trainable=False, name="slimming_counted"
            )
        self._remove = access.add_penalty(
            self.model, self._gammas, penalty=self._penalty, strength=self._current
        )
        if self._log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(self._log_dir))

    def _penalty(self, gamma: Any) -> tf.Tensor:
        if self.share == 1.0:
            return _l1(gamma)
        start, magnitudes = self._starts[id(gamma)], tf.abs(_flat(gamma))
        counted = tf.convert_to_tensor(self._counted)
        return tf.reduce_sum(magnitudes * counted[start : start + magnitudes.shape[0]])

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Finds which gammas are the smallest at this step."""
        if self.share < 1.0 and self._counted is not None:
            magnitudes = np.abs(self._values())
            ranked = _spread(len(magnitudes))
            ranked = ranked[np.argsort(magnitudes[ranked], kind="stable")]
            counted = np.zeros(len(magnitudes), np.float32)
            counted[ranked[: _count(self.share, len(magnitudes))]] = 1.0
            self._counted.assign(counted)

    def _values(self) -> np.ndarray:
        return np.concatenate([np.ravel(_array(gamma)) for gamma in self._gammas])

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the strength of the epoch."""
        strength = self.strength_at(epoch, int((self.params or {}).get("epochs") or 1))
        if self._current is not None:
            self._current.assign(strength)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measures the gammas and writes it down."""
        gammas = self._values()
        strength = 0.0 if self._current is None else float(self._current.numpy())
        measured: dict[str, Any] = {
            "epoch": epoch,
            "strength": strength,
            "penalty": strength * _smallest_sum(gammas, self.share),
            "sparsity": float((np.abs(gammas) < self.threshold).mean()),
            "histogram": _histogram(gammas),
        }
        self.history.append(measured)
        if logs is not None:
            logs["gamma_sparsity"] = measured["sparsity"]
            logs["gamma_penalty"] = measured["penalty"]
        if self._writer is not None:
            with self._writer.as_default(step=epoch):
                tf.summary.histogram("slimming/gamma", gammas)
                for name in ("sparsity", "penalty", "strength"):
                    tf.summary.scalar(f"slimming/{name}", measured[name])

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Takes the penalty out of the model."""
        self.remove()

    def remove(self) -> None:
        """Takes the penalty out; for a training that broke off without an end."""
        if self._remove is not None:
            self._remove()
            self._remove = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def strength_at(self, epoch: int, epochs: int) -> float:
        """Returns the strength of an epoch, counted from 0, out of `epochs`.

        Raises:
            ConfigError: the schedule gives a number below zero or none.
        """
        if callable(self.schedule):
            strength = float(self.schedule(epoch))
            _check_strength(strength)
            return strength
        return self.strength * SCHEDULES[self.schedule](epoch, epochs)

    def get_state(self) -> dict[str, Any]:
        """Returns what a resumed training needs, as plain data."""
        return {"history": self.history}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `get_state` gave; the strength follows from the epoch."""
        self.history = [dict(epoch) for epoch in state["history"]]


def slimming_penalty(
    model: Any,
    strength: float,
    *,
    share: float = 1.0,
    layers: str | Sequence[str] = "*",
) -> tf.Tensor:
    """Returns `strength * sum |gamma|`, to be added to the loss of your own step.

    Works eagerly and in a `tf.function`. Under a strategy, scale it as regularization
    is scaled (`tf.nn.scale_regularization_loss`), or it counts once per replica.

    Args:
        model: a built model of tf_keras or Keras 3.
        strength: weight of the penalty, 0 or more; a number or a scalar tensor.
        share: which part of all gammas counts, in (0, 1]: the smallest ones.
        layers: names or patterns of batch normalizations.

    Returns:
        A scalar float32 tensor. Frozen layers do not count.

    Raises:
        ConfigError: no trainable batch normalization with a scale fits `layers`, or a
            number is out of range.

    Example:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
            loss += tfslim.callbacks.slimming_penalty(model, 1e-4)
    """
    _check_share(share)
    graph_keras.require_tensorflow(model, "slimming_penalty")
    known = tf.get_static_value(strength) if tf.is_tensor(strength) else strength
    if known is not None:
        _check_strength(float(known))
    gammas = [_flat(gamma) for gamma in _choose(model, layers)[0].values()]
    if share == 1.0:
        return strength * tf.add_n([_l1(gamma) for gamma in gammas])
    every = tf.abs(tf.concat(gammas, axis=0))
    total = int(every.shape[0])
    ranked = tf.sort(tf.gather(every, _spread(total)))
    return strength * tf.reduce_sum(ranked[: _count(share, total)])


def gamma_histogram(
    model: Any, *, layers: str | Sequence[str] = "*"
) -> dict[str, list[float]]:
    """Returns how many gammas of a model have which magnitude.

    Returns:
        `edges`: the 21 ends of 20 bins of |gamma| from 0 to 1; `counts`: 21 numbers,
        one per bin and one for all that is above 1.

    Raises:
        ConfigError: no trainable batch normalization with a scale fits `layers`.
    """
    return _histogram(_values(model, layers))


def mean_scale(model: Any, *, layers: str | Sequence[str] = "*") -> float:
    """Returns the mean magnitude of a model's gammas.

    Raises:
        ConfigError: no trainable batch normalization with a scale fits `layers`.
    """
    return float(np.abs(_values(model, layers)).mean())


def _values(model: Any, layers: str | Sequence[str]) -> np.ndarray:
    gammas, _ = _choose(model, layers)
    return np.concatenate([np.ravel(_array(gamma)) for gamma in gammas.values()])


def _choose(
    model: Any, patterns: str | Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the gammas to penalize, by layer, and why others are not."""
    chosen = access.choose_layers(
        model, patterns, kind="batch normalization", classes=_CLASSES
    )
    gammas, skipped = {}, {}
    for name, layer in chosen.items():
        gamma = getattr(layer, "gamma", None)
        if not layer.built:
            skipped[name] = "is not built yet"
        elif gamma is None:
            skipped[name] = "has no scale (scale=False)"
        elif not (layer.trainable and gamma.trainable):
            skipped[name] = "is frozen (trainable=False)"
        else:
            gammas[name] = gamma
    if not gammas:
        listed = "; ".join(f"{name} {why}" for name, why in skipped.items())
        raise errors.ConfigError(
            f"No batch normalization of '{model.name}' has a scale to penalize: "
            f"{listed}. Build them with scale=True, leave them trainable, and call the "
            "model once on a batch if it has no weights yet."
        )
    return gammas, skipped


def _l1(gamma: Any) -> tf.Tensor:
    return tf.reduce_sum(tf.abs(tf.convert_to_tensor(gamma)))


def _flat(gamma: Any) -> tf.Tensor:
    return tf.reshape(tf.convert_to_tensor(gamma), [-1])


def _spread(total: int) -> np.ndarray:
    """Returns the order in which equal scales count: any first part is from all layers.

    In a new network all are 1. What is penalized first stays the smallest, so that in
    the order of the layers the first ones would be emptied.
    """
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    return np.argsort(np.arange(total) * golden % 1.0, kind="stable")


def _smallest_sum(gammas: np.ndarray, share: float) -> float:
    magnitudes = np.sort(np.abs(gammas))
    return float(magnitudes[: _count(share, len(magnitudes))].sum())


def _count(share: float, total: int) -> int:
    return max(1, round(share * total))


def _array(variable: Any) -> np.ndarray:
    if isinstance(variable, keras.Variable) and graph_keras.backend() != "tensorflow":
        return np.asarray(keras.ops.convert_to_numpy(variable))
    return np.asarray(access.tensor_variable(variable).numpy())


def _histogram(gammas: np.ndarray) -> dict[str, list[float]]:
    edges = [*_EDGES, math.inf]
    counts, _ = np.histogram(np.abs(gammas), bins=edges)
    return {"edges": _EDGES.tolist(), "counts": counts.tolist()}


def _check_share(share: float) -> None:
    hint = "0.6 penalizes the smaller 60% of the scales."
    checks.number("share", share, span="(0, 1]", hint=hint)


def _check_strength(strength: float) -> None:
    hint = "1e-4 is usual for a long training."
    checks.number("The strength of the penalty", strength, span="[0, inf)", hint=hint)
