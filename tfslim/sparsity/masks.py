"""Patterns of zeros that TF-MOT lacks, as masks in its own pruning wrapper.

TF-MOT takes blocks for matrices only, and where they do not divide the matrix it
weighs other blocks than it masks; its m by n masks group a transposed convolution
along its outputs. Here every kernel is brought to [positions, inputs,
outputs] first; schedule, step counting and masking stay TF-MOT's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_impl,
    pruning_utils,
    pruning_wrapper,
)


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights are zeroed together.

    With `m_by_n`, m of every n consecutive inputs of an output are zero; else blocks
    of `block` = (inputs, outputs) weights of one kernel position go as a whole, those
    with the smallest mean magnitude first. A group or block at the edge may be
    smaller.
    """

    m_by_n: tuple[int, int] | None = None
    block: tuple[int, int] = (1, 1)


def _is_transposed(layer: Any) -> bool:
    """Tells whether the kernel is [..., outputs, inputs]."""
    return isinstance(
        layer,
        tf_keras.layers.Conv1DTranspose
        | tf_keras.layers.Conv2DTranspose
        | tf_keras.layers.Conv3DTranspose,
    )


class _Pruning(pruning_impl.Pruning):
    """Updates masks of one layer, whatever the rank of its kernels."""

    def __init__(self, *, pattern: Pattern, transposed: bool, **options: Any):
        super().__init__(
            block_size=(1, 1),
            block_pooling_type="AVG",
            sparsity_m_by_n=pattern.m_by_n,
            **options,
        )
        self._pattern = pattern
        self._transposed = transposed

    def _update_mask_sparsity_m_by_n(
        self, weights: Any, m_by_n: tuple[int, int] = (2, 4)
    ) -> Any:
        kernel = self._canonical(weights)
        positions, inputs, outputs = kernel.shape
        rows = tf.reshape(tf.transpose(kernel, (0, 2, 1)), (-1, inputs))
        mask = pruning_utils.generate_m_by_n_mask(rows, m_by_n)
        mask = tf.reshape(mask, (positions, outputs, inputs))
        return self._restored(tf.transpose(mask, (0, 2, 1)), weights)

    def _maybe_update_block_mask(self, weights: Any) -> tuple[Any, Any]:
        if self._pattern.m_by_n is not None:
            return super()._maybe_update_block_mask(weights)
        kernel = self._canonical(weights)
        _, inputs, outputs = kernel.shape
        height, width = self._pattern.block
        threshold, kept = self._update_mask(
            _block_means(tf.abs(kernel), height, width=width)
        )
        mask = tf.repeat(tf.repeat(kept, height, axis=1), width, axis=2)
        return threshold, self._restored(mask[:, :inputs, :outputs], weights)

    def _canonical(self, weights: Any) -> Any:
        """Returns a kernel as [positions, inputs, outputs]."""
        if self._transposed:
            weights = tf.linalg.matrix_transpose(weights)
        return tf.reshape(weights, (-1, *weights.shape[-2:]))

    def _restored(self, mask: Any, weights: Any) -> Any:
        if self._transposed:
            mask = tf.linalg.matrix_transpose(mask)
        return tf.cast(tf.reshape(mask, weights.shape), weights.dtype)


def _block_means(kernel: Any, height: int, *, width: int) -> Any:
    """Averages [positions, inputs, outputs] over blocks, smaller ones at the edges."""

    def sums(values: Any) -> Any:
        positions, inputs, outputs = values.shape
        padding = [[0, 0], [0, -inputs % height], [0, -outputs % width]]
        padded = tf.pad(values, padding)
        rows, columns = padded.shape[1] // height, padded.shape[2] // width
        blocks = tf.reshape(padded, (positions, rows, height, columns, width))
        return tf.reduce_sum(blocks, axis=(2, 4))

    return sums(kernel) / sums(tf.ones_like(kernel))


class PatternPruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):
    """TF-MOT's pruning wrapper with a `Pattern`, for kernels of any rank."""

    def __init__(self, layer: Any, *, pattern: Pattern, **options: Any):
        """Wraps a built layer; `options` are those of `PruneLowMagnitude`."""
        super().__init__(layer, **options)
        self.pattern = pattern

    def build(self, input_shape: Any) -> None:
        """Creates masks and step as TF-MOT does, and our own way to update them."""
        super().build(input_shape)
        self.pruning_obj = _Pruning(
            pattern=self.pattern,
            transposed=_is_transposed(self.layer),
            training_step_fn=lambda: self.pruning_step,
            pruning_vars=self.pruning_vars,
            pruning_schedule=self.pruning_schedule,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the config with the pattern, which a copy must keep."""
        return {**super().get_config(), "pattern": dataclasses.asdict(self.pattern)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PatternPruneLowMagnitude:
        """Rebuilds the wrapper."""
        pattern: dict[str, Any] = {
            key: None if value is None else tuple(value)
            for key, value in config["pattern"].items()
        }
        return super().from_config({**config, "pattern": Pattern(**pattern)})
