"""Post-training quantization of float `.tflite` files, whoever made them."""

from tfslim.quantization.accurate import (
    AccurateResult,
    Options,
    quantize_accurately,
)
from tfslim.quantization.graph_equalization import equalize_graph
from tfslim.quantization.layers.layer_map import LayerMap, map_layers, put_layers
from tfslim.quantization.layers.plot import check_plot, plot_layers
from tfslim.quantization.layers.sensitivity import (
    FallbackResult,
    LayerError,
    fall_back,
    rank_layers,
)
from tfslim.quantization.ptq import (
    IO,
    KeptFloat,
    QuantizeResult,
    check_io,
    quantize_tflite,
)
from tfslim.quantization.ranges.calibration import (
    Calibration,
    Ranges,
    TensorRange,
    calibrate,
    check_method,
    method_names,
)
from tfslim.quantization.ranges.collect import Samples, collect, sized_for_first
from tfslim.quantization.ranges.ranges_file import read_ranges, write_ranges
from tfslim.quantization.ranges.thresholds import THRESHOLDS
from tfslim.quantization.repair.bias import Shift, correct_biases
from tfslim.quantization.repair.diagnosis import Finding, diagnose
from tfslim.quantization.repair.equalization import Equalized, EqualizeResult, equalize
from tfslim.quantization.repair.improve import CORRECTIONS, ROUNDINGS, Improver
from tfslim.quantization.repair.rounding import Rounded, RoundResult, round_weights
from tfslim.quantization.repair.scalable_pairs import Refused
from tfslim.quantization.rules.recipe import Recipe
from tfslim.quantization.rules.recipe import get as get_recipe
from tfslim.quantization.rules.recipe import names as recipe_names

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
