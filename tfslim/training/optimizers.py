"""Optimizers by name, with a schedule that ends when the training ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras

from tfslim import errors, registry
from tfslim.training import keras3
from tfslim.training.options import FitOptions

_WARM_UP = 0.2
_START = 1 / 25
# For a function of the user's that makes the optimizer; the default of most of Keras'.
_DEFAULT_RATE = 1e-3


def _sgd(rate: Any) -> tf_keras.optimizers.Optimizer:
    return tf_keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


# Name -> (learning rate -> optimizer, default peak of the learning rate).
OPTIMIZERS: dict[str, tuple[Callable[[Any], tf_keras.optimizers.Optimizer], float]] = {
    "adam": (tf_keras.optimizers.Adam, 1e-3),
    "adamw": (tf_keras.optimizers.AdamW, 1e-3),
    "rmsprop": (tf_keras.optimizers.RMSprop, 1e-3),
    "sgd": (_sgd, 5e-2),
}


def _one_cycle(peak: float, steps: int) -> Any:
    """Smith and Topin, "Super-Convergence", 2017, https://arxiv.org/abs/1708.07120."""
    warm_up = max(1, round(steps * _WARM_UP))
    return tf_keras.optimizers.schedules.CosineDecay(
        peak * _START,
        decay_steps=max(1, steps - warm_up),
        warmup_target=peak,
        warmup_steps=warm_up,
    )


SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda peak, steps: peak,
    "cosine": tf_keras.optimizers.schedules.CosineDecay,
    "one_cycle": _one_cycle,
}


def _given(optimizer: Any) -> tf_keras.optimizers.Optimizer:
    """Returns an optimizer with the options of the given one and a state of its own."""
    optimizer = keras3.to_tf_keras(optimizer, tf_keras.optimizers)
    try:
        return type(optimizer).from_config(optimizer.get_config())
    except NotImplementedError:
        return optimizer


def build(options: FitOptions, total_steps: int) -> tf_keras.optimizers.Optimizer:
    """Makes the optimizer for a training of `total_steps` steps.

    Raises:
        ConfigError: there is no such optimizer or schedule.
    """
    make: Callable[[Any], tf_keras.optimizers.Optimizer]
    if isinstance(options.optimizer, str):
        if options.optimizer not in OPTIMIZERS:
            raise registry.unknown_name(
                "optimizer", options.optimizer, known=OPTIMIZERS
            )
        make, default = OPTIMIZERS[options.optimizer]
    elif not isinstance(options.optimizer, type) and hasattr(
        options.optimizer, "get_config"
    ):
        return _given(options.optimizer)
    elif callable(options.optimizer):
        make, default = options.optimizer, _DEFAULT_RATE
    else:
        raise errors.ConfigError(
            f"optimizer is {options.optimizer!r}; expected one of "
            f"{', '.join(OPTIMIZERS)}, an optimizer of either Keras, or a function of "
            "the learning rate."
        )
    peak = options.learning_rate or default
    return make(schedule(options.schedule, peak, total_steps=total_steps))


def schedule(name: str, peak: float, *, total_steps: int) -> Any:
    """Returns a Keras schedule, or a number if it is constant.

    Raises:
        ConfigError: there is no such schedule.
    """
    if name not in SCHEDULES:
        raise registry.unknown_name("schedule", name, known=SCHEDULES)
    return SCHEDULES[name](peak, total_steps)
