"""Training a Keras 3 model: as a tf_keras copy, whose weights are set back.

Keras 3's own `fit` fails under several workers, and its batch normalization cannot
be synchronized; the bridge of `tfslim.graph` gives it all that tf_keras models have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfslim import errors
from tfslim.graph import keras as graph_keras
from tfslim.graph import keras_run
from tfslim.training import access

_HOOKS = [
    f"on_{what}_{when}"
    for what in ("epoch", "train", "test", "predict")
    for when in ("begin", "end")
] + [
    f"on_{what}_batch_{when}"
    for what in ("train", "test", "predict")
    for when in ("begin", "end")
]
# How far the copy's outputs and losses may be from the model's, relatively.
_TOLERANCE = 1e-3
# Options that tf_keras has not, with the values at which they do nothing.
_NEUTRAL = {
    "dtype": (None, "float32"),
    "gradient_accumulation_steps": (None,),
    "loss_scale_factor": (None,),
}


def is_keras3(thing: Any) -> bool:
    """Tells whether an object is of a class of Keras 3, or of one derived from it."""
    return any(
        base.__module__.partition(".")[0] == "keras" for base in type(thing).__mro__
    )


def copy_of(model: Any) -> tf_keras.Model:
    """Returns a tf_keras model with the same weights and the same frozen layers.

    Raises:
        GraphError: the model cannot be read, or has a layer that tf_keras has not.
    """
    try:
        return graph_keras.to_tf_keras(model)
    except errors.GraphError as error:
        raise errors.GraphError(
            f"fit trains a Keras 3 model as a tf_keras copy, and '{model.name}' can "
            f"have none: {error}"
        ) from error


def compute_alike(copy: tf_keras.Model) -> None:
    """Makes the copy keep the moving averages that Keras 3 would keep."""
    for layer in access.layers_of(copy):
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # The fused kernel's variance is n / (n - 1) times that of Keras 3.
            layer.fused = False


def check_copy(model: Any, copy: tf_keras.Model, *, batch: tf.data.Dataset) -> None:
    """Compares outputs and added losses on two examples of a batch of the data.

    Raises:
        GraphError: they differ, so training the copy would not train the model.
    """
    x = tf.nest.map_structure(lambda part: part[:2], next(iter(batch))[0])
    own = _seen(model)(x)
    try:
        others = _seen(copy)(x)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        # Such as a regularizer of the user's, which tf_keras knows by name only.
        raise _no_copy(model, " ".join(str(error).split())) from error
    for what, one, other in zip(("outputs", "added losses"), own, others, strict=True):
        far = _relative_error(one, other)
        if far > _TOLERANCE:
            raise _no_copy(model, f"its {what} differ by {far:.2g} of the largest")


def _seen(model: Any) -> Any:
    """Returns a function from inputs to a model's outputs and added losses."""
    return keras_run.compiled(model, lambda outputs: (outputs, sum(model.losses)))


def _no_copy(model: Any, why: str) -> errors.GraphError:
    return errors.GraphError(
        f"fit trains a Keras 3 model as a tf_keras copy, and that of '{model.name}' "
        f"does not do the same: {why}. Train it with its own fit, or build it in "
        "tf_keras."
    )


def _relative_error(own: Any, others: Any) -> float:
    found = 0.0
    for one, other in zip(tf.nest.flatten(own), tf.nest.flatten(others), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = max(np.abs(one).max(initial=0.0), 1e-6)
        found = max(found, np.abs(one - other).max(initial=0.0) / scale)
    return found


def set_back(model: Any, copy: tf_keras.Model) -> None:
    """Gives the Keras 3 model the weights of its copy."""
    trained = graph_keras.crossed(graph_keras.read(copy), "keras").layers
    for layer, weights in graph_keras.own_variables(model).items():
        for name, variable in weights.items():
            variable.assign(trained[layer].weights[name])


def to_tf_keras(thing: Any, package: Any) -> Any:
    """Returns an optimizer, loss or metric of Keras 3 as one of tf_keras.

    Args:
        thing: what may be an object of Keras 3; all else is returned as it is.
        package: where its namesake stands, such as `tf_keras.optimizers`.

    Raises:
        ConfigError: tf_keras has no such class, or not with these options.
    """
    if not is_keras3(thing):
        return thing
    name = type(thing).__name__
    config = {
        key: value
        for key, value in thing.get_config().items()
        if not (key in _NEUTRAL and value in _NEUTRAL[key])
    }
    rate = config.get("learning_rate")
    try:
        if isinstance(rate, dict):
            schedules = tf_keras.optimizers.schedules
            schedule = getattr(schedules, rate["class_name"])
            config["learning_rate"] = schedule.from_config(rate["config"])
        return getattr(package, name).from_config(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise errors.ConfigError(
            f"{name} of Keras 3 cannot be had in tf_keras, where the model is trained "
            f"({error}). Pass the one of {package.__name__} that you mean."
        ) from error


class _Adapter(tf_keras.callbacks.Callback):
    """Passes on what happens to a callback of another Keras, or of none."""

    def __init__(self, wrapped: Any):
        super().__init__()
        self.wrapped = wrapped

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.wrapped.set_model(model)

    def set_params(self, params: Any) -> None:
        super().set_params(params)
        self.wrapped.set_params(params)


def _passing_on(hook: str) -> Any:
    def call(self: _Adapter, *args: Any, **kwargs: Any) -> None:
        getattr(self.wrapped, hook)(*args, **kwargs)

    return call


for _hook in _HOOKS:
    setattr(_Adapter, _hook, _passing_on(_hook))


def adapted(callback: Any) -> tf_keras.callbacks.Callback:
    """Returns a callback that tf_keras can run."""
    if isinstance(callback, tf_keras.callbacks.Callback):
        return callback
    return _Adapter(callback)
