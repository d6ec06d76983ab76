"""Why a `.tflite` is as fast and as large as it is."""

from tfslim.analysis.analyze_file import Wanted, analyze_file
from tfslim.analysis.sparsity import (
    KernelSparsity,
    SparsityAdvice,
    advise_sparsity,
    read_sparsity,
)

__all__ = [
    "KernelSparsity",
    "SparsityAdvice",
    "Wanted",
    "advise_sparsity",
    "analyze_file",
    "read_sparsity",
]
