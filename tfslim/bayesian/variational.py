"""Scales of channels as random variables, and what their noise is worth.

A channel is multiplied by z ~ N(mean, variance), drawn for every example. Under the
log-uniform prior p(z) ~ 1 / |z| (normal-Jeffreys) the divergence of z from the prior
depends on alpha = variance / mean^2 alone and falls as alpha grows, so that training
turns a channel into noise unless the data hold it.

Only the scales are random. The paper also takes the weights as such; here they are
points, and their L2 penalty is left out.

Sources: Louizos, Ullrich and Welling, "Bayesian Compression for Deep Learning", NeurIPS
2017, https://arxiv.org/abs/1705.08665, section 4.1 (groups, the prior); Molchanov,
Ashukha and Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017,
https://arxiv.org/abs/1701.05369, equation 14 (the divergence), section 4.2 (noise that
does not grow with the mean); Kingma, Salimans and Welling, "Variational Dropout and the
Local Reparameterization Trick", NIPS 2015, https://arxiv.org/abs/1506.02557 (a draw an
example in place of one a batch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfslim.graph import ir
from tfslim.training import access

# Of the approximation of the divergence.
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
# Keeps the logarithm of a mean of zero finite.
_TINY = 1e-8
# log alpha at the start: a noise of 5%.
START = -6.0


def divergence(log_alpha: Any) -> tf.Tensor:
    """Returns the divergence of a scale from the log-uniform prior.

    It is an approximation, within 0.01 of the true one, and goes to 0 as alpha grows.

    Args:
        log_alpha: log(variance / mean^2), a tensor of any shape.

    Returns:
        A tensor of that shape, in nats.
    """
    log_alpha = tf.convert_to_tensor(log_alpha)
    held = _K1 * tf.sigmoid(_K2 + _K3 * log_alpha)
    return _K1 - held + 0.5 * tf.math.softplus(-log_alpha)


def starting_scale(channels: int, gain: float) -> ir.Array:
    """Returns means of 1 and little noise, as `VariationalScale` keeps them."""
    rows = [np.ones(channels), np.full(channels, START / gain)]
    return np.stack(rows).astype(np.float32)


class VariationalScale(tf_keras.__internal__.layers.BaseRandomLayer):
    """Multiplies each channel by a draw of its scale, in inference by the mean.

    Its one weight `scale`, float32 [2, channels], has the means, 0 or more, and the
    logarithms of the variances divided by `gain`.
    """

    def __init__(
        self,
        *,
        axis: int = -1,
        gain: float = 1.0,
        has_mean: bool = True,
        seed: int | None = None,
        **options: Any,
    ):
        """Takes the options.

        Args:
            axis: that of the channels.
            gain: how much faster the logarithms of the variances are to move than the
                optimizer moves a weight.
            has_mean: whether the means are trained; they stay 1 otherwise.
            seed: of the draws.
            **options: those of every layer.
        """
        super().__init__(seed=seed, **options)
        self.axis = axis
        self.gain = gain
        self.has_mean = has_mean
        self._seed_option = seed

    def build(self, input_shape: Any) -> None:
        """Makes the weight."""
        start = starting_scale(input_shape[self.axis], self.gain)
        self.scale = self.add_weight(
            name="scale",
            shape=start.shape,
            initializer=tf_keras.initializers.Constant(start),
            constraint=_with_means_above_zero,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Multiplies by one draw for each example and channel."""
        mean, log_variance = self._split(tf.convert_to_tensor(self.scale))
        mean = tf.cast(self._along(mean, inputs), inputs.dtype)
        if not training:
            return inputs * mean
        deviation = tf.cast(
            self._along(tf.exp(0.5 * log_variance), inputs), inputs.dtype
        )
        shape = [tf.shape(inputs)[0], *deviation.shape[1:]]
        noise = self._random_generator.random_normal(shape, dtype=inputs.dtype)
        return inputs * (mean + deviation * noise)

    def log_alpha(self, scale: Any) -> tf.Tensor:
        """Returns log(variance / mean^2) [channels] of a value of the weight."""
        mean, log_variance = self._split(tf.convert_to_tensor(scale))
        return log_variance - tf.math.log(tf.square(mean) + _TINY)

    def _split(self, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean = scale[0] if self.has_mean else tf.stop_gradient(scale[0])
        return mean, self.gain * scale[1]

    def _along(self, values: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return tf.reshape(values, shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the options as plain data."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "gain": self.gain,
            "has_mean": self.has_mean,
            "seed": self._seed_option,
        }


def _with_means_above_zero(scale: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.maximum(scale[0], 0.0), scale[1]])


class Divergence(tf_keras.callbacks.Callback):
    """Adds the divergence of all scales to the loss while a model is fitted."""

    def __init__(self, strength: float):
        """Takes what the divergence is multiplied by, 1 / examples for the bound."""
        super().__init__()
        self._strength = strength
        self._remove: Callable[[], None] | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Adds the term."""
        layers = [
            layer
            for layer in access.layers_of(self.model)
            if isinstance(layer, VariationalScale)
        ]
        owners = {id(layer.scale): layer for layer in layers}
        with self.model.distribute_strategy.scope():
            strength = tf.Variable(self._strength, trainable=False, dtype=tf.float32)
        self._remove = access.add_penalty(
            self.model,
            [layer.scale for layer in layers],
            penalty=lambda scale: tf.reduce_sum(
                divergence(owners[id(scale)].log_alpha(scale))
            ),
            strength=strength,
        )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Takes the term out."""
        if self._remove is not None:
            self._remove()
            self._remove = None
