"""Proximal gradient steps: training that ends in weights which are exactly zero.

After each update the weights take the proximal step of a penalty R, in the metric D
of the step just taken:

    w <- argmin_u  1/2 (u - w)' D (u - w) + rate * strength * R(u)

There are two metrics, and they are two algorithms:

* `euclidean`: D = 1. This is Prox-SG: the threshold is `rate * strength` for all.
* `adam`: D = sqrt(v) + epsilon, bias-corrected, Adam's own scale per weight. Where
  Adam steps far, it also shrinks far; the fixed points are those of the penalized
  loss, which Adam's step followed by a Euclidean one has not.

Sources: Parikh and Boyd, "Proximal Algorithms", 2014, sections 4.2 and 6.5,
https://web.stanford.edu/~boyd/papers/pdf/prox_algs.pdf; Yuan and Lin, "Model selection
and estimation in regression with grouped variables", 2006 (the group lasso); Yun,
Lozano and Yang, "Adaptive Proximal Gradient Methods for Structured Neural Networks",
NeurIPS 2021 (Adam's metric).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from tfslim import checks, errors, fields
from tfslim.graph import keras as graph_keras
from tfslim.proximal import operators
from tfslim.training import access

PENALTIES = ("l1", "group_lasso")
METRICS = ("euclidean", "adam")


@dataclasses.dataclass(frozen=True)
class _Rule(fields.Checked):
    """What is done to which variables after an update.

    Attributes:
        strength: weight of the penalty.
        penalty: one of `PENALTIES`.
        metric: one of `METRICS`.
        share: how much of each kernel counts, its smallest weights or groups.
        kernels: by numbered short name.
    """

    strength: float = fields.field(1e-4, least=0, below=math.inf)
    penalty: str = fields.field("l1", choices=PENALTIES)
    metric: str = fields.field("euclidean", choices=METRICS)
    share: float = fields.field(1.0, above=0, most=1)
    kernels: Mapping[str, access.Kernel] = dataclasses.field(default_factory=dict)

    def step(
        self, values: tf.Tensor, rate: Any, kernel: access.Kernel, metric: Any = None
    ) -> tf.Tensor:
        """Returns the values after the step; `metric` is None or the diagonal of D."""
        moved = self._shrunk(values, rate, kernel=kernel, metric=metric)
        if self.share == 1.0:
            return moved
        axes = None if self.penalty == "l1" else kernel.axes
        return tf.where(
            operators.smallest(values, self.share, axes=axes), moved, values
        )

    def _shrunk(
        self, values: tf.Tensor, rate: Any, *, kernel: access.Kernel, metric: Any
    ) -> tf.Tensor:
        threshold = tf.cast(rate, values.dtype) * (self.strength * kernel.scale)
        if self.penalty == "l1":
            return operators.soft_threshold(
                values, threshold if metric is None else threshold / metric
            )
        if metric is None:
            return operators.group_soft_threshold(values, threshold, axes=kernel.axes)
        return operators.scaled_group_soft_threshold(
            values, threshold, axes=kernel.axes, metric=metric
        )


def _registered(made: type) -> type:
    """Lets both Keras find the class when they load a compiled model."""
    for package in (keras, tf_keras):
        package.saving.register_keras_serializable("tfslim", "ProximalOptimizer")(made)
    return made


@_registered
class ProximalOptimizer:
    """What `Proximal` adds to an optimizer's class: the step after each update.

    It runs inside the optimizer's own `update_step`, so once per update that is really
    applied: not for a step that a loss scale skips or that only accumulates gradients,
    and under a strategy after the gradients of all replicas were added up.
    """

    _rule: _Rule

    def build(self, variables: Any) -> None:
        """Finds the kernels among the optimizer's variables."""
        super().build(variables)  # type: ignore[misc]
        names = access.short_names(variables)
        kernels = [self._rule.kernels.get(name) for name in names]
        if not any(kernels):
            raise errors.ConfigError(
                "The optimizer was made for a model with the kernels "
                f"{', '.join(self._rule.kernels)}; the model it is to train has none "
                "of them. Make one for this model."
            )
        self._kernels_by_index = tuple(kernels)

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Updates a variable as the optimizer does, then takes the proximal step."""
        super().update_step(gradient, variable, *rate)  # type: ignore[misc]
        index = self._index(variable)
        kernel = self._kernels_by_index[index]
        if kernel is None:
            return
        metric = self._adam_metric(index) if self._rule.metric == "adam" else None
        learning_rate = rate[0] if rate else self.learning_rate  # type: ignore[attr-defined]
        values = tf.convert_to_tensor(variable)
        variable.assign(self._rule.step(values, learning_rate, kernel, metric))

    def _index(self, variable: Any) -> int:
        if hasattr(self, "_get_variable_index"):  # Keras 3
            return int(self._get_variable_index(variable))
        return int(self._index_dict[self._var_key(variable)])  # type: ignore[attr-defined]

    def _adam_metric(self, index: int) -> tf.Tensor:
        """Returns what Adam divides its averaged gradient by: sqrt(v) + epsilon."""
        of: Any = self
        slots = of._velocity_hats if of.amsgrad else of._velocities
        velocity = tf.convert_to_tensor(slots[index])
        step = tf.cast(tf.convert_to_tensor(of.iterations) + 1, velocity.dtype)
        correction = tf.sqrt(1.0 - tf.pow(tf.cast(of.beta_2, velocity.dtype), step))
        return (tf.sqrt(velocity) + of.epsilon) / correction

    def get_config(self) -> dict[str, Any]:
        """Returns plain data that `from_config` makes the same optimizer of."""
        return {
            "keras": graph_keras.keras_of(self),
            "optimizer": {
                "class_name": type(self).__mro__[2].__name__,
                "config": super().get_config(),  # type: ignore[misc]
            },
            "strength": self._rule.strength,
            "penalty": self._rule.penalty,
            "metric": self._rule.metric,
            "share": self._rule.share,
            "kernels": {
                name: {"axes": list(kernel.axes), "scale": kernel.scale}
                for name, kernel in self._rule.kernels.items()
            },
            "is_legacy_optimizer": False,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes the optimizer anew, without its state."""
        package = importlib.import_module(config["keras"])
        inner = package.optimizers.deserialize(
            dict(config["optimizer"]), custom_objects=custom_objects
        )
        kernels = {
            name: access.Kernel(tuple(kernel["axes"]), kernel["scale"])
            for name, kernel in config["kernels"].items()
        }
        names = ("strength", "penalty", "metric", "share")
        rule = _Rule(**{name: config[name] for name in names}, kernels=kernels)
        return _with_rule(inner, rule)


@functools.cache
def _class_over(base: type) -> type:
    """Returns the optimizer's class with the proximal step."""
    name = f"Proximal{base.__name__}"
    return _registered(type(name, (ProximalOptimizer, base), {"__module__": __name__}))


def _with_rule(optimizer: Any, rule: _Rule) -> Any:
    base: Any = type(optimizer)
    config = optimizer.get_config()
    # A schedule of the user's own need not be one that Keras can read from a config.
    if callable(optimizer._learning_rate):
        config["learning_rate"] = optimizer._learning_rate
    made = base.from_config.__func__(_class_over(base), config)
    made._rule = rule
    return made


def Proximal(
    optimizer: Any,
    model: Any,
    *,
    strength: float = 1e-4,
    penalty: str = "l1",
    metric: str = "euclidean",
    share: float = 1.0,
    layers: str | Sequence[str] = "*",
    relative: bool = False,
) -> Any:
    """Returns an optimizer like the given one that makes kernels exactly sparse.

    After every update, each kernel takes the proximal step of the penalty. The weights
    that it calls superfluous become 0.0, not merely small. Biases, normalizations and
    embeddings are left alone. Learning rate schedules, weight decay, clipping, loss
    scales and strategies work as before; make it under the strategy's scope. In a
    training loop of your own, `apply_gradients` does the same, or use `proximal_step`.

    Args:
        optimizer: a tf_keras or Keras 3 optimizer, not yet used, or its name. It is not
            changed.
        model: the built model that it is to train, or one with the same layers: it
            tells which variables are kernels and where their channels stand.
        strength: weight of the penalty, 0 or more. With momentum m, plain Prox-SG of
            `(1 - m) * strength` ends at the same weights.
        penalty: "l1" for single weights; "group_lasso" for whole filters, a filter
            being all weights of a kernel that lead to one output channel.
        metric: "euclidean", or "adam" for Adam and AdamW; see this module.
        share: which part of each kernel is penalized, in (0, 1]: at each step its
            smallest weights or filters. The others train as if there were no penalty.
        layers: names or patterns of the layers whose kernels are meant.
        relative: count `strength` in units of the mean magnitude that each kernel has
            now. Without, layers with many inputs, whose weights are small from the
            start, become empty long before others have a zero.

    Returns:
        An optimizer of the class of the given one, and of `ProximalOptimizer`.

    Raises:
        ConfigError: an option, or an optimizer that this cannot be added to.

    Example:
        optimizer = tfslim.optimizers.Proximal(Adam(1e-3), model, strength=1e-4)
        model.compile(optimizer, loss)
    """
    package = graph_keras.keras_of(model)
    graph_keras.require_tensorflow(model, "The proximal step of an optimizer")
    if isinstance(optimizer, str):
        optimizer = importlib.import_module(package).optimizers.get(optimizer)
    kernels = access.kernels_by_name(model, layers, measured=relative)
    rule = _Rule(strength, penalty, metric, share, kernels)
    _check_optimizer(optimizer, package, metric=metric)
    return _with_rule(optimizer, rule)


def ProxSGD(
    model: Any,
    learning_rate: Any = 0.01,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    **options: Any,
) -> Any:
    """Returns Prox-SG, a stochastic gradient step and then a proximal one.

    w <- prox(w - rate * gradient), with the threshold `rate * strength`; the Keras is
    that of the model.

    Args:
        model: as for `Proximal`.
        learning_rate: a number or a Keras schedule.
        momentum: of the gradient step; 0 is plain Prox-SG, as it is published.
        nesterov: whether momentum looks ahead.
        **options: `strength`, `penalty`, `share`, `layers`, `relative` of `Proximal`.

    Raises:
        ConfigError: as for `Proximal`.
    """
    package = importlib.import_module(graph_keras.keras_of(model))
    sgd = package.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)
    return Proximal(sgd, model, **options)


@checks.by_name
def proximal_step(
    model: Any,
    learning_rate: Any,
    *,
    strength: float,
    penalty: str = "l1",
    share: float = 1.0,
    layers: str | Sequence[str] = "*",
) -> None:
    """Takes the Euclidean proximal step on a model's kernels, in a loop of your own.

    Call it after the update: with any optimizer, in a `tf.function`, eagerly, or in the
    function that a strategy runs on its replicas.

    Args:
        model: a built model of tf_keras or Keras 3.
        learning_rate: that of the update just made; a number or scalar tensor.
        strength: as for `Proximal`.
        penalty: as for `Proximal`.
        share: as for `Proximal`.
        layers: as for `Proximal`.

    Raises:
        ConfigError: an option, or no kernel fits.
    """
    graph_keras.require_tensorflow(model, "proximal_step")
    rule = _Rule(strength, penalty, "euclidean", share, {})

    def step(part: Any, kernel: access.Kernel) -> None:
        values = tf.convert_to_tensor(part)
        part.assign(rule.step(values, learning_rate, kernel))

    def update(strategy: tf.distribute.Strategy) -> None:
        for kernel, axes in access.kernels_of(model, layers):
            strategy.extended.update(
                access.tensor_variable(kernel),
                step,
                args=(access.Kernel(axes),),
                group=False,
            )

    replica = tf.distribute.get_replica_context()
    if replica is None:
        update(tf.distribute.get_strategy())
    else:
        replica.merge_call(update)


def _check_optimizer(optimizer: Any, package: str, *, metric: str) -> None:
    name = type(optimizer).__name__
    if "LossScaleOptimizer" in name:
        raise errors.ConfigError(
            "A loss scale goes around: LossScaleOptimizer(Proximal(optimizer, model))."
        )
    if isinstance(optimizer, ProximalOptimizer):
        raise errors.ConfigError("The optimizer has a proximal step already.")
    if not hasattr(type(optimizer), "update_step"):
        raise errors.ConfigError(
            f"A {name} is no optimizer of today's Keras: it has no update_step. Pass "
            f"one of {package}.optimizers, not of its `legacy`."
        )
    if graph_keras.keras_of(optimizer) != package:
        raise errors.ConfigError(
            f"The optimizer is one of {graph_keras.keras_of(optimizer)}, the model one "
            f"of {package}."
        )
    if optimizer.use_ema:
        raise errors.ConfigError(
            "An average of weights over time is not exactly 0: use_ema must be False."
        )
    if metric == "adam" and not access.is_a(optimizer, "Adam", "AdamW"):
        raise errors.ConfigError(
            f"metric='adam' needs Adam or AdamW, whose scale it uses, got {name}."
        )
