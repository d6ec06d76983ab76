"""Why a `.tflite` is as fast and as large as it is."""

from tfslim.analysis.sparsity import (
    KernelSparsity,
    SparsityAdvice,
    advise_sparsity,
    read_sparsity,
)

__all__ = ["KernelSparsity", "SparsityAdvice", "advise_sparsity", "read_sparsity"]
