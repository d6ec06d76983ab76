"""Low rank: layers as chains of cheaper ones, without any Keras."""

from tfslim.factorize import svd as svd
from tfslim.factorize import tucker as tucker
from tfslim.factorize.base import METHODS
from tfslim.factorize.passes import factorize_graph
from tfslim.factorize.report import FactorizationReport, LayerFactorization

__all__ = [
    "METHODS",
    "FactorizationReport",
    "LayerFactorization",
    "factorize_graph",
]
