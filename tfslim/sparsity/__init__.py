"""TF-MOT: pruning, clustering and quantization while a model trains.

The only place that imports tensorflow_model_optimization. Each method is a context
that wraps a copy of the model and gives back a plain one.
"""

from tfslim.sparsity import library as library  # First: the others import TF-MOT.
from tfslim.sparsity.cluster import check_clusters as check_clusters
from tfslim.sparsity.cluster import cluster_kernels as cluster_kernels
from tfslim.sparsity.cluster import least_clusters as least_clusters
from tfslim.sparsity.prune import prune_blocks as prune_blocks
from tfslim.sparsity.prune import prune_for_xnnpack as prune_for_xnnpack
from tfslim.sparsity.prune import prune_m_by_n as prune_m_by_n
from tfslim.sparsity.prune import prune_magnitude as prune_magnitude
from tfslim.sparsity.quantize import quantize_aware as quantize_aware
from tfslim.sparsity.schemes import KEEP as KEEP
from tfslim.sparsity.wrapped import SparsityReport as SparsityReport
from tfslim.sparsity.wrapped import Wrapped as Wrapped
