"""Keras → `.tflite`, float, or INT8 after quantization-aware training."""

from tfslim.convert.finite import largest_weight, require_finite
from tfslim.convert.keras import ConvertResult, convert_model, convert_quantized
from tfslim.convert.tables import TableSplit, split_tables

__all__ = [
    "ConvertResult",
    "TableSplit",
    "convert_model",
    "convert_quantized",
    "largest_weight",
    "require_finite",
    "split_tables",
]
