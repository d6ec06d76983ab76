"""The ground under everything that reads, runs or edits a `.tflite` file.

Needs numpy and ai-edge-litert, never TensorFlow.
"""

from tfslim.tflite.delegate import Coverage, coverage
from tfslim.tflite.extract import single_op
from tfslim.tflite.flatbuffer import map_file
from tfslim.tflite.interpreter import Inputs, Runner, open_file, run
from tfslim.tflite.model import (
    Graph,
    Op,
    Quantization,
    Tensor,
    TfliteModel,
    float_ops,
    read,
)
from tfslim.tflite.resize import sized_for
from tfslim.tflite.sparse import store_dense, store_sparse

__all__ = [
    "Coverage",
    "Graph",
    "Inputs",
    "Op",
    "Quantization",
    "Runner",
    "Tensor",
    "TfliteModel",
    "coverage",
    "float_ops",
    "map_file",
    "open_file",
    "read",
    "run",
    "single_op",
    "sized_for",
    "store_dense",
    "store_sparse",
]
