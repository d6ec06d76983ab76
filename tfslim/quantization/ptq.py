"""Post-training quantization of a `.tflite`: the room's one public step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, registry, tflite
from tfslim.quantization import guard, litert, policy, recipe
from tfslim.quantization.collect import Samples, activations, collect
from tfslim.quantization.prepare import prepare
from tfslim.quantization.thresholds import THRESHOLDS

# Tensor name -> (min, max) in the tensor's unit.
Ranges = dict[str, tuple[float, float]]

# "float" takes and gives float32 as the float model does; the others take and give
# integers by the scale and zero point that the file states for its inputs and outputs.
IO = ("float", "int8", "uint8")


@dataclasses.dataclass(frozen=True)
class KeptFloat:
    """An op that computes in float32 in the quantized file.

    Attributes:
        op: its name, e.g. "HARD_SWISH".
        tensor: name of its first output.
        reason: one sentence.
    """

    op: str
    tensor: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class QuantizeResult:
    """A quantized file, and what was done and left alone.

    Attributes:
        tflite: the file's bytes.
        recipe: what was asked for.
        rules: the rules that litert-quantizer got, exemptions and I/O included.
        ranges: (min, max) of every activation; empty if the recipe needs none.
        calibration: the method that chose `ranges`; None if they were given or not
            needed.
        num_samples: single calibration samples seen.
        kept_float: ops that stayed float, in order of execution.
    """

    tflite: bytes
    recipe: recipe.Recipe
    rules: tuple[dict[str, Any], ...] = ()
    ranges: Ranges = dataclasses.field(default_factory=dict)
    calibration: str | None = None
    num_samples: int = 0
    kept_float: tuple[KeptFloat, ...] = ()


def quantize_tflite(
    model: bytes,
    recipe_name: str | Path | recipe.Recipe = "int8",
    *,
    samples: Samples | None = None,
    calibration: str = "minmax",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    io: str = "float",
    keep_float: str = "xnnpack",
) -> QuantizeResult:
    """Quantizes a float `.tflite`; the input is not changed.

    real_value = scale * (q - zero_point). Weights: INT8 per channel, zero_point 0.
    Activations (static recipes): INT8 per tensor, from ranges that are widened to hold
    0. Biases: INT32, scale = input_scale * weight_scale. Ops that a delegate runs
    better in float stay float, and the result says which and why.
    Source: Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877, section 2; the
    LiteRT 8-bit quantization specification,
    https://ai.google.dev/edge/litert/models/quantization_spec.

    Args:
        model: the float `.tflite`.
        recipe_name: a name of `recipe.names()`, a path of a .json recipe, or a Recipe.
            "float32" gives `model` back.
        samples: arrays [n, ...], or dicts of input name -> array, in the range the
            model was trained on; about 300, read one by one. Needed by static recipes.
            Random arrays give a valid file with useless ranges.
        calibration: how ranges are chosen: a name of `THRESHOLDS`.
        ranges: ranges to use instead of `samples`: tensor name -> (min, max), for
            every activation, as in `QuantizeResult.ranges`.
        io: what static recipes make of inputs and outputs, one of `IO`. "float" costs
            a few percent of time and none of an app's code.
        keep_float: "xnnpack" leaves those ops float that XNNPACK runs faster so;
            "none" quantizes all that can be, for chips without float.

    Returns:
        The same bytes for the same arguments, whatever the order of the samples.

    Raises:
        ConfigError: an unknown name; a static recipe without samples; a sample that
            does not fit the model.
        QuantizationError: the model is quantized already, or the result does not load.
        ConversionError: `model` is no `.tflite`.
    """
    chosen = recipe.get(recipe_name)
    threshold = THRESHOLDS.get(calibration)
    if io not in IO:
        raise registry.unknown_name("io", io, IO)
    if not chosen.rules:
        tflite.read(model)
        return QuantizeResult(model, chosen)
    source = prepare(model)
    content = tflite.read(source)
    _check_request(chosen, content, samples is not None or ranges is not None, io)
    graph = content.graphs[0]
    exempt = policy.exemptions(chosen.scheme, graph, policy=keep_float)

    used: Ranges = {}
    count = 0
    if ranges is not None and chosen.needs_ranges:
        used = _given(graph, ranges)
    elif chosen.needs_ranges:
        gathered, count = collect(source, samples or (), statistic=threshold.statistic)
        used = {name: threshold.choose(seen) for name, seen in gathered.items()}
    rules = _rules(chosen, exempt, io)
    quantized = litert.quantize(source, rules, _handover(graph, used) if used else None)
    return QuantizeResult(
        tflite=quantized,
        recipe=chosen,
        rules=tuple(rules),
        ranges=used,
        calibration=calibration if count else None,
        num_samples=count,
        kept_float=_kept_float(graph, _loaded(quantized), chosen, exempt),
    )


def _check_request(
    chosen: recipe.Recipe, model: tflite.TfliteModel, has_ranges: bool, io: str
) -> None:
    if not chosen.needs_ranges:
        if io != "float":
            raise errors.ConfigError(
                f"io='{io}' needs a static recipe such as 'int8'; with '{chosen.name}' "
                "activations stay float, and so do inputs and outputs."
            )
        return
    if not has_ranges:
        raise errors.ConfigError(
            f"The recipe '{chosen.name}' quantizes activations and needs to see some: "
            "pass samples, about 300 arrays [1, ...] as the model is fed."
        )
    if len(model.graphs) > 1:
        raise errors.QuantizationError(
            f"The model has {len(model.graphs)} graphs (control flow or several "
            f"signatures); '{chosen.name}' sees the activations of the first alone. "
            "Use 'dynamic_int8', or export one graph."
        )
    if io != "float" and chosen.scheme != "static_int8":
        raise errors.ConfigError(
            f"io='{io}' needs INT8 activations; '{chosen.name}' has "
            f"{chosen.scheme.removeprefix('static_').upper()}. Use io='float'."
        )


def _rules(
    chosen: recipe.Recipe, exempt: list[policy.Exemption], io: str
) -> list[dict[str, Any]]:
    """Orders rules: the recipe's general ones, exemptions, I/O, its particular ones."""
    general = [r for r in chosen.rules if (r["regex"], r["operation"]) == (".*", "*")]
    particular = [rule for rule in chosen.rules if rule not in general]
    borders: list[dict[str, Any]] = []
    if chosen.needs_ranges and io != "int8":
        borders = [_border(operation, io) for operation in ("INPUT", "OUTPUT")]
    # One rule for each regex and operation: of two, litert-quantizer takes the later.
    ordered = [*(e.rule for e in exempt), *borders, *particular]
    last = {(rule["regex"], rule["operation"]): rule for rule in ordered}
    return [*general, *last.values()]


def _border(operation: str, io: str) -> dict[str, Any]:
    rule = {"regex": ".*", "operation": operation, "algorithm_key": "no_quantize"}
    if io == "float":
        return rule
    bits = {"num_bits": 8, "granularity": "TENSORWISE"}
    return {
        **rule,
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {
            "activation_tensor_config": {**bits, "symmetric": False, "dtype": "UINT"},
            "weight_tensor_config": {**bits, "symmetric": True, "dtype": "INT"},
            "compute_precision": "INTEGER",
            "explicit_dequantize": False,
        },
    }


def _given(graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]) -> Ranges:
    names = [tensor.name for tensor in activations(graph)]
    missing = [name for name in names if name not in ranges]
    if missing:
        raise errors.ConfigError(
            f"ranges has {len(names) - len(missing)} of the model's {len(names)} "
            f"activations; '{missing[0]}' is missing. Calibrate this very file."
        )
    for name in names:
        low, high = ranges[name]
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise errors.ConfigError(
                f"The range of '{name}' is ({low}, {high}); expected two finite "
                "numbers, the smaller first."
            )
    return {name: (float(ranges[name][0]), float(ranges[name][1])) for name in names}


def _handover(
    graph: tflite.Graph, ranges: Ranges
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Puts ranges into the shape that litert-quantizer multiplies with tensors."""
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    alive = {
        name: bounds if any(bounds) else (0.0, 1.0) for name, bounds in ranges.items()
    }
    for tensor in activations(graph):
        shape = (1,) * len(tensor.shape)
        low, high = alive[tensor.name]
        values[tensor.name] = np.full(shape, low), np.full(shape, high)
    for name, bound in guard.weight_ranges(graph, alive).items():
        values[name] = -bound, bound
    return values


def _loaded(quantized: bytes) -> tflite.TfliteModel:
    try:
        return tflite.Runner(quantized).model
    except errors.ConversionError as error:
        raise errors.QuantizationError(
            f"The quantized file does not load ({error}) This is a fault of the "
            "quantizer or the runtime with the op it names: keep that op float by a "
            "recipe of your own."
        ) from error


def _kept_float(
    before: tflite.Graph,
    after: tflite.TfliteModel,
    chosen: recipe.Recipe,
    exempt: list[policy.Exemption],
) -> tuple[KeptFloat, ...]:
    """Compares the file with the one it came from, op by op."""
    float_names = {t.name for t in after.tensors if t.dtype == "float32"}
    kept = []
    for op in before.ops:
        # Static: what it computes is float. Otherwise: the weights it reads are.
        telling = [before.tensors[i] for i in op.outputs if i >= 0]
        if not chosen.needs_ranges:
            reads = [before.tensors[i] for i in op.inputs if i >= 0]
            telling = [t for t in reads if t.is_constant and len(t.shape) > 1]
        if not any(t.dtype == "float32" and t.name in float_names for t in telling):
            continue
        scope = policy.scope(op, before)
        reasons = [e.reason for e in exempt if e.fits(op, scope)]
        kept.append(
            KeptFloat(
                op=op.name,
                tensor=before.tensors[op.outputs[0]].name,
                reason=[
                    *reasons,
                    f"The recipe or litert-quantizer has no '{chosen.name}' for it.",
                ][0],
            )
        )
    return tuple(kept)
