"""Post-training quantization of float `.tflite` files, whoever made them."""

from tfslim.quantization.accurate import (
    AccurateResult,
    Options,
    quantize_accurately,
)
from tfslim.quantization.bias import Shift, correct_biases
from tfslim.quantization.calibration import (
    Calibration,
    Ranges,
    TensorRange,
    calibrate,
    check_method,
    method_names,
)
from tfslim.quantization.collect import Samples, collect, sized_for_first
from tfslim.quantization.diagnosis import Finding, diagnose
from tfslim.quantization.equalization import Equalized, EqualizeResult, equalize
from tfslim.quantization.graph_equalization import equalize_graph
from tfslim.quantization.improve import CORRECTIONS, ROUNDINGS, Improver
from tfslim.quantization.layer_map import LayerMap, map_layers, put_layers
from tfslim.quantization.pairs import Refused
from tfslim.quantization.plot import check_plot, plot_layers
from tfslim.quantization.ptq import (
    IO,
    KeptFloat,
    QuantizeResult,
    check_io,
    quantize_tflite,
)
from tfslim.quantization.ranges_file import read_ranges, write_ranges
from tfslim.quantization.recipe import Recipe
from tfslim.quantization.recipe import get as get_recipe
from tfslim.quantization.recipe import names as recipe_names
from tfslim.quantization.rounding import Rounded, RoundResult, round_weights
from tfslim.quantization.sensitivity import (
    FallbackResult,
    LayerError,
    fall_back,
    rank_layers,
)
from tfslim.quantization.thresholds import THRESHOLDS

__all__ = [
    "CORRECTIONS",
    "IO",
    "ROUNDINGS",
    "THRESHOLDS",
    "AccurateResult",
    "Calibration",
    "EqualizeResult",
    "Equalized",
    "FallbackResult",
    "Finding",
    "Improver",
    "KeptFloat",
    "LayerError",
    "LayerMap",
    "Options",
    "QuantizeResult",
    "Ranges",
    "Recipe",
    "Refused",
    "RoundResult",
    "Rounded",
    "Samples",
    "Shift",
    "TensorRange",
    "calibrate",
    "check_io",
    "check_method",
    "check_plot",
    "collect",
    "correct_biases",
    "diagnose",
    "equalize",
    "equalize_graph",
    "fall_back",
    "get_recipe",
    "map_layers",
    "method_names",
    "plot_layers",
    "put_layers",
    "quantize_accurately",
    "quantize_tflite",
    "rank_layers",
    "read_ranges",
    "recipe_names",
    "round_weights",
    "sized_for_first",
    "write_ranges",
]
