"""The copy of a model that is trained: under a strategy, in another precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import errors, registry
from tfslim.training import access, packing, workers

STRATEGIES = {
    "mirrored": tf.distribute.MirroredStrategy,
    "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
    "none": tf.distribute.get_strategy,
}

# A moving average over n steps needs a momentum of about 1 - 1/n; ten times that
# lets the statistics follow the weights to the end of the training.
_STATISTICS_PER_TRAINING = 10
_MIN_MOMENTUM = 0.8

# TensorFlow joins its workers once in a process, and the collective operations of two
# mirrored strategies get into each other's way.
_started: dict[str, tf.distribute.Strategy] = {}


def start_workers(timeout_s: float = 300.0) -> tf.distribute.Strategy:
    """Joins the processes that TF_CONFIG names, for `strategy="multiworker"`.

    TensorFlow can do this only before it has made its first tensor: call it at the
    top of the script, before the model is built or loaded. Without TF_CONFIG, this
    process is the only worker.

    Args:
        timeout_s: how long to wait for the other workers, in seconds.

    Returns:
        The strategy; later calls return the same one.

    Raises:
        ConfigError: TF_CONFIG is wrong, a worker does not answer, or it is too late.
    """
    if "multiworker" not in _started:
        workers.await_peers(timeout_s)
        _started["multiworker"] = _start("multiworker")
    return _started["multiworker"]


def resolve_strategy(strategy: str | tf.distribute.Strategy) -> tf.distribute.Strategy:
    """Returns the strategy called so, or the given one.

    Raises:
        ConfigError: no such name, or TensorFlow cannot start it (any more).
    """
    if isinstance(strategy, tf.distribute.Strategy):
        return strategy
    if strategy not in STRATEGIES:
        raise registry.unknown_name("distribution strategy", strategy, known=STRATEGIES)
    if strategy == "none":  # The one of the scope around, if there is one.
        return tf.distribute.get_strategy()
    if strategy == "multiworker":
        return start_workers()
    if strategy not in _started:
        _started[strategy] = _start(strategy)
    return _started[strategy]


def is_chief(strategy: str | tf.distribute.Strategy) -> bool:
    """Tells whether this process is the one that writes files."""
    return workers.is_chief(resolve_strategy(strategy))


def _start(name: str) -> tf.distribute.Strategy:
    try:
        return STRATEGIES[name]()
    except (RuntimeError, ValueError) as error:
        hint = ""
        if "program startup" in str(error):
            hint = (
                " Call tfslim.start_workers() at the top of the script, before "
                "anything else uses TensorFlow."
            )
        raise errors.ConfigError(
            f"The strategy '{name}' cannot be started: "
            f"{' '.join(str(error).split()).rstrip('.')}.{hint}"
        ) from error


def copy_for_training(
    model: tf_keras.Model,
    strategy: tf.distribute.Strategy,
    *,
    mixed_bfloat16: bool,
    sync_batch_norm: bool,
) -> tf_keras.Model:
    """Returns `model` itself if it can be trained as it is, or else a copy.

    The variables of a model belong to the strategy under which they were made. With
    `mixed_bfloat16` all layers but the outputs compute in bfloat16; weights stay
    float32 either way, so that they can be set back into the original. All workers
    get the weights that the model has on the chief.

    Raises:
        ConfigError: the model cannot be copied.
    """
    sync_batch_norm = sync_batch_norm and strategy.num_replicas_in_sync > 1
    copy = model
    if model.distribute_strategy is not strategy or mixed_bfloat16 or sync_batch_norm:
        try:
            with strategy.scope():
                copy = _clone(model, mixed_bfloat16, sync_batch_norm=sync_batch_norm)
        except (ValueError, NotImplementedError, TypeError) as error:
            raise errors.ConfigError(
                f"The model '{model.name}' cannot be copied for a strategy or another "
                f"precision ({' '.join(str(error).split())}). Build it under the "
                "strategy's scope or under the dtype policy yourself."
            ) from error
    if workers.num_workers(strategy) > 1:
        weights = workers.from_chief(strategy, packing.pack(model.get_weights()))
        copy.set_weights(packing.unpack(weights))
    elif copy is not model:
        copy.set_weights(model.get_weights())
    return copy


def _clone(
    model: tf_keras.Model,
    mixed_bfloat16: bool,
    *,
    sync_batch_norm: bool,
    is_inner: bool = False,
) -> tf_keras.Model:
    # Outputs stay float32: a softmax in bfloat16 has two or three digits.
    kept = set() if is_inner else set(getattr(model, "output_names", ()))

    def clone_layer(layer: Any) -> Any:
        if isinstance(layer, tf_keras.Model):
            return _clone(
                layer,
                mixed_bfloat16,
                sync_batch_norm=sync_batch_norm,
                is_inner=layer.name not in kept,
            )
        config = layer.get_config()
        if (
            mixed_bfloat16
            and layer.name not in kept
            and layer.dtype_policy.name == "float32"
        ):
            config["dtype"] = "mixed_bfloat16"
        if sync_batch_norm and isinstance(layer, tf_keras.layers.BatchNormalization):
            config["synchronized"] = True
        return layer.__class__.from_config(config)

    return tf_keras.models.clone_model(model, clone_function=clone_layer)


@contextlib.contextmanager
def batch_norm_for(model: tf_keras.Model, total_steps: int) -> Iterator[None]:
    """Lowers the momentum of batch normalization while a short training lasts.

    keras.applications' 0.999 forgets its initial statistics after thousands of steps
    only; after fewer, a model that has learnt well fails at inference. The momentum
    becomes 1 - 10 / total_steps, within 0.8 and the layer's own.
    """
    momentum = max(_MIN_MOMENTUM, 1.0 - _STATISTICS_PER_TRAINING / total_steps)
    layers = [
        layer
        for layer in access.layers_of(model)
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = min(layer.momentum, momentum)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.momentum = own
        # The compiled step has the lowered momentum as a constant.
        model.train_function = None
