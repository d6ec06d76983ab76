"""Keras → `.tflite`, float, or INT8 after quantization-aware training."""

from tfslim.convert.keras import ConvertResult, convert_model, convert_quantized

__all__ = ["ConvertResult", "convert_model", "convert_quantized"]
