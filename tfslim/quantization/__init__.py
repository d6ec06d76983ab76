"""Post-training quantization of float `.tflite` files, whoever made them.

`quantize` tells the way of one file; `accurate` adds what keeps its accuracy, and
`fall_back` returns layers to float where that is not enough.
"""

from tfslim.quantization.accurate import AccurateResult, quantize_accurately
from tfslim.quantization.fall_back import FallbackResult, fall_back, keep_accuracy, rank
from tfslim.quantization.layers.layer_map import map_layers, put_layers
from tfslim.quantization.layers.plot import check_plot, plot_layers
from tfslim.quantization.layers.sensitivity import LayerError, rank_layers
from tfslim.quantization.options import IO, Options
from tfslim.quantization.quantize import QuantizeResult, check_io, quantize_tflite
from tfslim.quantization.ranges.calibration import (
    Calibration,
    GivenRanges,
    TensorRange,
    calibrate,
    method_names,
)
from tfslim.quantization.ranges.collect import Samples, collect, sized_for_first
from tfslim.quantization.ranges.histograms import histograms
from tfslim.quantization.ranges.ranges_file import read_ranges, write_ranges
from tfslim.quantization.ranges.thresholds import THRESHOLDS
from tfslim.quantization.repair.bias import correct_biases
from tfslim.quantization.repair.diagnosis import diagnose
from tfslim.quantization.repair.equalization import equalize
from tfslim.quantization.repair.equalize_graph import equalize_graph
from tfslim.quantization.repair.float_pass import FloatPasses
from tfslim.quantization.repair.improve import Improver
from tfslim.quantization.repair.rounding import round_weights
from tfslim.quantization.rules.recipe import Recipe
from tfslim.quantization.rules.recipe import get as get_recipe
from tfslim.recipe_names import names as recipe_names

__all__ = [
    "IO",
    "THRESHOLDS",
    "AccurateResult",
    "Calibration",
    "FallbackResult",
    "FloatPasses",
    "GivenRanges",
    "Improver",
    "LayerError",
    "Options",
    "QuantizeResult",
    "Recipe",
    "Samples",
    "TensorRange",
    "calibrate",
    "check_io",
    "check_plot",
    "collect",
    "correct_biases",
    "diagnose",
    "equalize",
    "equalize_graph",
    "fall_back",
    "get_recipe",
    "histograms",
    "keep_accuracy",
    "map_layers",
    "method_names",
    "plot_layers",
    "put_layers",
    "quantize_accurately",
    "quantize_tflite",
    "rank",
    "rank_layers",
    "read_ranges",
    "recipe_names",
    "round_weights",
    "sized_for_first",
    "write_ranges",
]
