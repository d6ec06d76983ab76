"""Low rank: layers as chains of cheaper ones, without any Keras."""

from tfslim.factorization import svd as svd
from tfslim.factorization import tucker as tucker
from tfslim.factorization.base import METHODS as METHODS
from tfslim.factorization.passes import factorize_graph as factorize_graph
from tfslim.factorization.report import FactorizationReport as FactorizationReport
from tfslim.factorization.report import LayerFactorization as LayerFactorization
