"""Keras → `.tflite`, float, or INT8 after quantization-aware training."""

from tfslim.convert.finite import largest_weight, require_finite
from tfslim.convert.keras import ConvertResult, convert_model, convert_quantized

__all__ = [
    "ConvertResult",
    "convert_model",
    "convert_quantized",
    "largest_weight",
    "require_finite",
]
