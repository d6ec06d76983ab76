"""TF-MOT: pruning, clustering and quantization while a model trains.

The only place that imports tensorflow_model_optimization. Each method is a context
that wraps a copy of the model and gives back a plain one.
"""

from tfslim.sparsity.cluster import check_clusters, cluster_kernels, least_clusters
from tfslim.sparsity.prune import (
    prune_blocks,
    prune_for_xnnpack,
    prune_m_by_n,
    prune_magnitude,
)
from tfslim.sparsity.quantize import quantize_aware
from tfslim.sparsity.schemes import KEEP
from tfslim.sparsity.wrapped import SparsityReport, Wrapped

__all__ = [
    "KEEP",
    "SparsityReport",
    "Wrapped",
    "check_clusters",
    "cluster_kernels",
    "least_clusters",
    "prune_blocks",
    "prune_for_xnnpack",
    "prune_m_by_n",
    "prune_magnitude",
    "quantize_aware",
]
