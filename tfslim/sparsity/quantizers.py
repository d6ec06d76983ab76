"""Quantizers for what TF-MOT's do not do."""

from __future__ import annotations

import types
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quantizers
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (  # noqa: E501
    cluster_preserve_quantize_registry as cluster_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (  # noqa: E501
    prune_preserve_quantize_registry as prune_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantizers,
)

from tfslim.sparsity.cluster import GRADIENT, Nearest

_SLOWEST = 0.01
# TF-MOT keeps the clusters of a kernel that has no more values than this.
MAX_CLUSTERS = 1024


class RunningRange(quantizers.MovingAverageQuantizer):
    """Takes an activation's range from the batches alone.

    TF-MOT's moving average starts at -6..6 and moves by a thousandth a step: after a
    hundred steps the range is still the start's. This one is the mean over the
    batches so far, and after a hundred of them moves by a hundredth.
    """

    def __init__(self) -> None:
        """Makes a quantizer of 8 bits, asymmetric, per tensor."""
        super().__init__(
            num_bits=8, per_axis=False, symmetric=False, narrow_range=False
        )

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Creates the range and the number of batches seen."""
        count = layer.add_weight(
            f"{name}_batches",
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        return {**super().build(tensor_shape, name, layer), "batches": count}

    def __call__(
        self, inputs: Any, training: bool, weights: dict[str, Any], **_: Any
    ) -> Any:
        """Fake-quantizes `inputs`, in training after it has moved the range."""
        low, high = weights["min_var"], weights["max_var"]
        if training:
            decay = 1.0 - tf.maximum(1.0 / (weights["batches"] + 1.0), _SLOWEST)
            average = tf.__internal__.train.assign_moving_average
            # 0 must be among the values: padding and ReLU make it.
            smallest = tf.minimum(tf.reduce_min(inputs), 0.0)
            largest = tf.maximum(tf.reduce_max(inputs), 0.0)
            low = average(low, smallest, decay, zero_debias=False)
            high = average(high, largest, decay, zero_debias=False)
            weights["batches"].assign_add(1.0)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)


class _OneTable:
    """Keeps clusters with one table of values a tensor.

    TF-MOT's way for convolutions, one table a channel, is a graph of several ops a
    channel: minutes for a MobileNet. One a tensor is what the clustering made.
    """

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        kernel = getattr(layer.layer, name)
        if not np.any(kernel.numpy() == 0.0):
            self.preserve_sparsity = False
        # TF-MOT chooses by the class of the layer that it is shown.
        shown = types.SimpleNamespace(
            layer=types.SimpleNamespace(**{name: kernel, "data_format": None}),
            add_weight=layer.add_weight,
            name=layer.name,
        )
        with warnings.catch_warnings():
            # Our report says which layers have no clusters.
            warnings.filterwarnings("ignore", message="No clustering performed")
            built: dict[str, Any] = super().build(  # type: ignore[misc]
                tensor_shape, name, shown
            )
        if cluster_preserve.CLUSTERING_IMPL in built:
            built[cluster_preserve.CLUSTERING_IMPL] = Nearest(
                built[cluster_preserve.CLUSTER_CENTROIDS],
                GRADIENT,
            )
        return built


class DenseClusters(
    _OneTable, cluster_preserve.ClusterPreserveDefault8BitWeightsQuantizer
):
    """Quantizes a Dense kernel, one scale, and keeps its clusters."""


class ConvClusters(
    _OneTable, cluster_preserve.ClusterPreserveDefault8BitConvWeightsQuantizer
):
    """Quantizes a convolution's kernel, a scale a channel, and keeps its clusters."""


class TransposedZeros(prune_preserve.PrunePreserveDefault8BitWeightsQuantizer):
    """Quantizes a transposed convolution's kernel, one scale, and keeps its zeros."""

    def __call__(
        self, inputs: Any, training: bool, weights: dict[str, Any], **options: Any
    ) -> Any:
        """Fake-quantizes the masked kernel."""
        quantize = default_8bit_quantizers.Default8BitConvTransposeWeightsQuantizer()
        return quantize(inputs * weights["sparsity_mask"], training, weights, **options)


DenseZeros = prune_preserve.PrunePreserveDefault8BitWeightsQuantizer
ConvZeros = prune_preserve.PrunePreserveDefault8BitConvWeightsQuantizer


def stop_training_kernels(wrapper: Any) -> None:
    """Takes clustered kernels out of what a wrapper trains.

    Their centroids are trained; the optimizer would warn of a kernel without gradient
    at every step that it traces.
    """
    for kernel, _, weights in wrapper._weight_vars:
        if cluster_preserve.CLUSTERING_IMPL in weights:
            for holder in (wrapper, wrapper.layer):
                trained = [w for w in holder._trainable_weights if w is not kernel]
                holder._trainable_weights = trained
            wrapper._non_trainable_weights.append(kernel)


def keep_frozen(wrapper: Any) -> None:
    """Takes all weights of a frozen layer's wrapper out of training, centroids too.

    TF-MOT's wrapper trains the kernel even so.
    """
    if wrapper.layer.trainable:
        return
    wrapper._non_trainable_weights.extend(wrapper._trainable_weights)
    wrapper._trainable_weights = []
