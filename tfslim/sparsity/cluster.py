"""Few different values in each kernel, found while a model trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras import (
    cluster_config,
    cluster_wrapper,
    clustering_algorithm,
)

from tfslim import checks
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.sparsity import kernels, wrapped

# A value's gradient is the mean over the weights that have it. TF-MOT's default is the
# sum, by which gradient descent without a rate for each variable soon diverges.
GRADIENT = cluster_config.GradientAggregation.AVG


def cluster_kernels(
    model: Any,
    *,
    clusters: int = 16,
    keep_zeros: bool = False,
    ignore: str | Iterable[str] = (),
) -> wrapped.Wrapped:
    """Gives each kernel at most `clusters` different values, trained with the model.

    Within the context, compile and fit `training.model`; after it, `training.result`
    is the plain model. Without any training the values are those of the start. A
    .tflite does not get smaller by it, a compressed one does. Source: Han, Mao and
    Dally, "Deep Compression", ICLR 2016, https://arxiv.org/abs/1510.00149, section 3.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        clusters: different values a kernel may have, at least 2 (3 with `keep_zeros`).
        keep_zeros: zeros stay zeros, one of the values is 0: for a pruned model.
        ignore: names of layers, or patterns, or one of them, to leave as they are.

    Raises:
        ConfigError: an option is out of range or unknown, or no layer can be clustered.
        GraphError: the model cannot be read.
    """
    _check_number(clusters, keep_zeros)
    graph = graph_keras.read(model)
    chosen, skipped = kernels.choose(
        graph, ignore, known=kernels.CLUSTERABLE, refusal=_refusal(clusters, keep_zeros)
    )
    copy = graph_keras.write(graph, "tf_keras")
    variables = graph_keras.variables(graph, copy)
    for name in skipped if keep_zeros else ():
        for variable in variables[name].values():
            wrapped.hold_zeros(variable)

    def wrap(native: Any) -> Any:
        if native.name not in chosen:
            return native
        return _ClusterWeights(
            native,
            clusters,
            cluster_config.CentroidInitialization.KMEANS_PLUS_PLUS,
            preserve_sparsity=keep_zeros,
            cluster_gradient_aggregation=GRADIENT,
        )

    clone = tf_keras.models.clone_model(copy, clone_function=wrap)
    wrappers = [w for w in clone.layers if isinstance(w, _ClusterWeights)]

    def finish() -> tuple[Any, wrapped.SparsityReport]:
        values = wrapped.values_of(variables)
        treated = {}
        for wrapper in wrappers:
            wrapper.update_clustered_weights_associations()
            for name in wrapper.original_clusterable_weights:
                kernel = np.asarray(wrapper.get_weight_from_layer(name))
                values[wrapper.layer.name][name] = kernel
                treated[wrapper.layer.name] = f"{len(np.unique(kernel))} values"
        result = wrapped.with_weights(graph, values, keras=graph_keras.keras_of(model))
        method = f"Clustered to {clusters} values"
        return result, wrapped.SparsityReport(method, treated, skipped)

    return wrapped.Wrapped(clone, finish)


def check_clusters(
    model: Any,
    clusters: int,
    *,
    keep_zeros: bool = False,
    ignore: str | Iterable[str] = (),
) -> None:
    """Checks the options of `cluster_kernels` on a model that is yet to be pruned.

    Raises:
        ConfigError: `clusters` is out of range, or no kernel is large enough for them.
        GraphError: the model cannot be read.
    """
    _check_number(clusters, keep_zeros)
    # Which zeros there will be is not known.
    refusal = _refusal(clusters, keep_zeros=False)
    kernels.choose(
        graph_keras.read(model), ignore, known=kernels.CLUSTERABLE, refusal=refusal
    )


def least_clusters(*, keep_zeros: bool) -> int:
    """Returns how few clusters there may be; the zero that is kept is one of them."""
    return 3 if keep_zeros else 2


def _check_number(clusters: int, keep_zeros: bool) -> None:
    checks.whole("clusters", clusters, low=least_clusters(keep_zeros=keep_zeros))


def _refusal(clusters: int, keep_zeros: bool) -> Callable[[ir.Layer], str | None]:
    """Returns what says why a layer cannot have the clusters."""

    def refusal(layer: ir.Layer) -> str | None:
        kernel = kernels.kernel_of(layer)
        if kernel.size <= clusters:
            return f"its {kernel.size} weights are no more than {clusters} clusters"
        if keep_zeros and not _fills_both_sides(kernel, clusters - 1):
            return f"too few weights are left for {clusters} clusters"
        return None

    return refusal


def _fills_both_sides(kernel: ir.Array, clusters: int) -> bool:
    """Tells whether TF-MOT's split of clusters below and above 0 has enough weights."""
    below, above = int(np.sum(kernel < 0)), int(np.sum(kernel > 0))
    if not below + above:
        return False
    negative = round(clusters * below / (below + above))
    return negative <= below and clusters - negative <= above


class Nearest(clustering_algorithm.ClusteringAlgorithm):
    """Finds the nearest centroid by bisection.

    TF-MOT compares every weight with every centroid, which takes gigabytes for the
    Dense layers of AlexNet.
    """

    def get_pulling_indices(self, weight: Any, centroids: Any = None) -> Any:
        """Returns the number of the nearest centroid of each weight."""
        values = self.cluster_centroids if centroids is None else centroids
        order = tf.argsort(values)
        values = tf.gather(values, order)
        borders = (values[1:] + values[:-1]) / 2.0
        places = tf.searchsorted(borders, tf.reshape(weight, [-1]))
        indices = tf.reshape(tf.gather(order, places), tf.shape(weight))
        return tf.cast(indices, tf.int64)


class _ClusterWeights(cluster_wrapper.ClusterWeights):
    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        for name, centroids in self.cluster_centroids.items():
            self.clustering_algorithms[name] = Nearest(
                centroids, self.cluster_gradient_aggregation, self.data_format
            )
