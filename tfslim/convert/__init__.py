"""Keras → float `.tflite`."""

from tfslim.convert.keras import ConvertResult, convert_model

__all__ = ["ConvertResult", "convert_model"]
