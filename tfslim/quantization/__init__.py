"""Post-training quantization of float `.tflite` files, whoever made them."""

from tfslim.quantization.collect import Samples, collect
from tfslim.quantization.ptq import (
    IO,
    KeptFloat,
    QuantizeResult,
    Ranges,
    quantize_tflite,
)
from tfslim.quantization.recipe import Recipe
from tfslim.quantization.recipe import get as get_recipe
from tfslim.quantization.recipe import names as recipe_names
from tfslim.quantization.thresholds import THRESHOLDS

__all__ = [
    "IO",
    "THRESHOLDS",
    "KeptFloat",
    "QuantizeResult",
    "Ranges",
    "Recipe",
    "Samples",
    "collect",
    "get_recipe",
    "quantize_tflite",
    "recipe_names",
]
