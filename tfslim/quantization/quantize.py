"""Post-training quantization of a `.tflite`, from the float file to the one that loads.

Ranges (`ranges/`), rules (`rules/`), litert-quantizer (`backend`), the runtime
(`make_file`); `accurate` repairs what comes of it.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, targets, tflite
from tfslim.quantization import recurrent, tables
from tfslim.quantization.integer import complete
from tfslim.quantization.make_file import Made, make_file
from tfslim.quantization.options import Options
from tfslim.quantization.ranges import levels
from tfslim.quantization.ranges.calibration import (
    Also,
    Calibration,
    GivenRanges,
    ranges_for,
)
from tfslim.quantization.ranges.collect import Samples, sized_for_first
from tfslim.quantization.ranges.pixels import with_pixels
from tfslim.quantization.rules import graph_outputs, kept_float, plan, recipe
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.quantization.rules.refused import require_runnable
from tfslim.quantization.rules.rewrite import fixed, rewrite, without_floats

_HALVES_NOTE = (
    "The weights are float16 already: the file is passed on as it is, as another copy "
    "would be no smaller."
)


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
        calibration: the range of every activation; None if the recipe needs none.
        kept_float: ops that stayed float, in order of execution.
        note: why the file is the one that was given, "" where it is not.
        doubts: what is wrong with the samples, by the ranges that they gave.
    """

    tflite: bytes
    recipe: recipe.Recipe
    rules: tuple[dict[str, Any], ...] = ()
    calibration: Calibration | None = None
    kept_float: tuple[KeptFloat, ...] = ()
    note: str = ""
    doubts: tuple[str, ...] = ()


def quantize_tflite(
    model: bytes,
    recipe_name: str | Path | recipe.Recipe | None = None,
    *,
    samples: Samples | None = None,
    calibration: str = Options.calibration,
    ranges: GivenRanges | None = None,
    layers: Mapping[str, str] | None = None,
    target: str | Path = Options.target,
    io: str | None = Options.io,
    keep_float: str = Options.keep_float,
) -> QuantizeResult:
    """Quantizes a float `.tflite`; the input is not changed.

    A file that holds integers already comes back as it is, with a note: whoever made
    it chose its scales, in training perhaps. Half-precision weights are widened first,
    but a file that has nothing left to halve comes back as it is with "float16".

    real_value = scale * (q - zero_point). Weights: INT8 per channel, zero_point 0.
    Activations (static recipes): INT8 per tensor, from ranges that are widened to hold
    0. Biases: INT32, scale = input_scale * weight_scale. Ops that a delegate runs
    better in float stay float, and the result says which and why.
    Source: Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877, section 2; the
    LiteRT 8-bit quantization specification,
    https://ai.google.dev/edge/litert/models/quantization_spec.

    Args:
        model: the float `.tflite`.
        recipe_name: a name of `recipe_names()`, a path of a .json recipe, or a Recipe;
            None: the target's, "int8" by default. "float32" gives `model` back.
        samples: arrays [n, ...], or dicts of input name -> array, in the range the
            model was trained on; about 300, read one by one. Needed by static recipes.
            Random arrays give a valid file with useless ranges. What `fit` takes does,
            too: of (x, y) and (x, y, sample_weight) the x is taken.
        calibration: how ranges are chosen: a name of `method_names()`. 16-bit
            activations, which have levels to spare, take "minmax" in any case.
        ranges: ranges to use, tensor name -> (min, max) or a whole `Calibration`;
            they need no `samples` if they cover every activation.
        layers: Keras layer name, or pattern such as "block_1*" -> "float32", or the
            recipe that this layer takes instead.
        target: where the file is to run: "xnnpack", "full_integer", "gpu", or the path
            of a .json of your own; see docs/targets.md.
        io: what static recipes make of inputs and outputs, one of `IO`; None: what the
            target takes, "float" by default. It costs a few percent of time and none
            of an app's code.
        keep_float: "xnnpack" leaves those ops float that the target runs better so;
            "none" quantizes all that can be.

    Returns:
        The same bytes for the same arguments, whatever the order of the samples.

    Warns:
        TfslimWarning: the samples leave an input few of INT8's levels, as they do where
            they are normalized twice.

    Raises:
        ConfigError: an unknown name; a static recipe without samples; a sample that
            does not fit the model; a recipe or an `io` that the target does not take.
        QuantizationError: the result does not load, or an op cannot be what the target
            wants; names each with its layer.
        ConversionError: `model` is no `.tflite`.
    """
    options = Options(
        calibration=calibration,
        target=str(target),
        io=io,
        layers=layers or {},
        keep_float=keep_float,
    )
    chosen = recipe.get(recipe_name or targets.get(target).recipes[-1])
    options = options.for_target(chosen.scheme, chosen.name)
    done = quantize(model, chosen, options=options, samples=samples, ranges=ranges)
    for doubt in done.doubts:
        warnings.warn(doubt, errors.TfslimWarning, stacklevel=2)
    return done


def quantize(
    model: bytes,
    chosen: recipe.Recipe,
    *,
    options: Options,
    samples: Samples | None = None,
    ranges: GivenRanges | None = None,
    also: Also | None = None,
) -> QuantizeResult:
    """Does what `quantize_tflite` says; of the options those that it has.

    `also` sees what calibration sees, see `calibrate`.
    """
    if not chosen.rules:
        return QuantizeResult(model, chosen)
    given = tflite.read(model)
    if given.is_quantized:
        return _as_it_is(model, given, chosen=chosen, options=options)
    target, io = options.placed, options.io or "float"
    check_io(chosen, io)
    source = _source(model, chosen, target=target, samples=samples)
    has_ranges = samples is not None or ranges is not None
    _check_request(chosen, tflite.read(source), has_ranges=has_ranges)
    _check_layers(chosen, options.layers)
    wanted = functools.partial(
        plan.request,
        chosen,
        io=io if target.allows_float else "float",
        layers=options.layers,
        target=target,
    )
    request = wanted(tflite.read(source))
    used = None
    if chosen.needs_ranges:
        method = options.calibration if chosen.scheme == "static_int8" else "minmax"
        used = ranges_for(
            source, ranges or {}, samples=samples, method=method, also=also
        )
        if io != "float":
            used = with_pixels(used, source)
        source, bounds = without_floats(source, used.ranges, target=target)
        request = dataclasses.replace(wanted(tflite.read(source)), ranges=bounds)
    made = make_file(source, request)
    if chosen.needs_ranges and not target.allows_float:
        made = _without_float(made, source, io=io)
    is_halved = chosen.scheme == "float16" and not request.single.takes
    if is_halved and _has_halves(given) and _stored(made.model) >= _stored(given):
        return QuantizeResult(model, chosen, note=_HALVES_NOTE)
    return _result(made, source, used=used)


def _result(made: Made, source: bytes, *, used: Calibration | None) -> QuantizeResult:
    chosen, kept = made.request.recipe, _kept_float(made)
    return QuantizeResult(
        tflite=graph_outputs.keep_names(made.content, made.request.graph),
        recipe=chosen,
        rules=tuple(made.plan.rules),
        calibration=used,
        kept_float=kept,
        doubts=_doubts(source, chosen, used=used, kept=kept),
    )


def _doubts(
    source: bytes,
    chosen: recipe.Recipe,
    *,
    used: Calibration | None,
    kept: Sequence[KeptFloat],
) -> tuple[str, ...]:
    if used is None or chosen.scheme != "static_int8":
        return ()
    floats = {one.tensor for one in kept}
    found = levels.narrow_inputs(tflite.read(source), used.ranges, kept_float=floats)
    return tuple(text for _, text in found)


def _source(
    model: bytes,
    chosen: recipe.Recipe,
    *,
    target: targets.Target,
    samples: Samples | None,
) -> bytes:
    """Returns the float file in the form that is quantized."""
    source = prepare(model)
    if chosen.scheme.startswith(("dynamic", "weight_only")):
        source = tables.looked_up(source)
    if samples is not None:
        source = sized_for_first(source, samples)
    source = fixed(source, target, is_sized=samples is not None)
    source = rewrite(source, target)
    require_runnable(source, target)
    return source


def _without_float(made: Made, source: bytes, *, io: str) -> Made:
    """Holds a file to having no float, and gives it integer inputs and outputs.

    With `io` "float", as files have it while they are mended, the ends stay.
    """
    content = complete.take_integers(made.content)
    complete.require_integers(content, source, request=made.request, plan=made.plan)
    content = complete.set_ends(content, io, request=made.request)
    return dataclasses.replace(
        made, content=content, model=tflite.Runner(content).model
    )


def _has_halves(content: tflite.TfliteModel) -> bool:
    return any(t.is_constant and t.dtype == "float16" for t in content.tensors)


def _stored(content: tflite.TfliteModel) -> int:
    """Returns the bytes of a file's constants, shared ones once."""
    raws = [t.raw for g in content.graphs for t in g.tensors if t.raw is not None]
    return sum({raw.ctypes.data: raw.nbytes for raw in raws}.values())


def _as_it_is(
    model: bytes,
    content: tflite.TfliteModel,
    *,
    chosen: recipe.Recipe,
    options: Options,
) -> QuantizeResult:
    """Passes a quantized file on."""
    if options.layers:
        layer = next(iter(options.layers))
        raise errors.ConfigError(
            f"The model is quantized already, and so is layer '{layer}' or not. Give "
            "the float32 .tflite that it was made from to choose."
        )
    floats = {t.name for g in content.graphs for t in g.tensors if "float" in t.dtype}
    if floats and not options.placed.allows_float:
        raise errors.QuantizationError(
            f"The model is quantized already and has {len(floats)} float tensors, such "
            f"as '{sorted(floats)[0]}'; the target '{options.placed.name}' has no "
            "float. Give the float32 .tflite that it was made from."
        )
    graph = content.graphs[0]
    kept = tuple(
        KeptFloat(op.name, tensor.name, "It is float in the file that was given.")
        for op in graph.ops
        for tensor in [graph.tensors[i] for i in op.outputs[:1]]
        if tensor.dtype == "float32" and op.name != "DEQUANTIZE"
    )
    ends = ", ".join(t.dtype for t in (*content.inputs, *content.outputs))
    note = (
        "The file is quantized already and is passed on as it is, inputs and outputs "
        f"({ends}) included. For another recipe give the float32 .tflite it was made "
        "from."
    )
    return QuantizeResult(model, chosen, kept_float=kept, note=note)


def check_io(chosen: recipe.Recipe, io: str) -> None:
    """Raises ConfigError unless a recipe can have such inputs and outputs."""
    if io == "float" or chosen.scheme == "static_int8":
        return
    if not chosen.needs_ranges:
        raise errors.ConfigError(
            f"io='{io}' needs a static recipe such as 'int8'; with '{chosen.name}' "
            "activations stay float, and so do inputs and outputs."
        )
    raise errors.ConfigError(
        f"io='{io}' needs INT8 activations; '{chosen.name}' has "
        f"{chosen.scheme.removeprefix('static_').upper()}. Use io='float'."
    )


def _check_request(
    chosen: recipe.Recipe, model: tflite.TfliteModel, *, has_ranges: bool
) -> None:
    if not chosen.needs_ranges:
        return
    if not has_ranges:
        raise errors.ConfigError(
            f"The recipe '{chosen.name}' quantizes activations and needs to see some: "
            "pass samples, about 300 arrays [1, ...] as the model is fed (--data)."
        )
    if len(model.graphs) > 1:
        raise errors.QuantizationError(
            f"The model has {len(model.graphs)} graphs ({_why_graphs(model)}); "
            f"'{chosen.name}' sees the activations of the first alone. Use "
            "'dynamic_int8', or export one graph: a recurrent layer that is built "
            "with unroll=True is no loop."
        )


def _why_graphs(model: tflite.TfliteModel) -> str:
    """Names the loops of the main graph, by what they give."""
    graph = model.graphs[0]
    loops = [graph.name_of(op) for op in graph.ops if op.name in ("WHILE", "IF")]
    if not loops:
        return "several signatures, or control flow"
    return f"{len(loops)} loops or branches, the first gives '{loops[0]}'"


def _check_layers(chosen: recipe.Recipe, layers: Mapping[str, str]) -> None:
    for layer, name in layers.items():
        if recipe.get(name).needs_ranges and not chosen.needs_ranges:
            raise errors.ConfigError(
                f"Layer '{layer}' is to take '{name}', whose activations need ranges; "
                f"'{chosen.name}' has none. Take '{name}' for the model, and another "
                "recipe for the other layers."
            )


def _kept_float(made: Made) -> tuple[KeptFloat, ...]:
    """Looks which ops are float in the file, and takes the plan's reason for each."""
    before, after, single = made.request.graph, made.model, made.request.single
    chosen = made.request.recipe
    writers = {after.tensors[i].name: op for op in after.ops for i in op.outputs}
    kept = []
    for op in before.ops:
        name = before.name_of(op)
        is_static = single.takes.get(name, chosen).needs_ranges
        if name in writers and _is_float(writers[name], after, is_static=is_static):
            reason = kept_float.reason_of(op, before, exempt=made.plan.exempt)
            if reason is None and op.name in recurrent.OPS:
                reason = recurrent.SMALL
                if is_static:
                    reason = recurrent.reason(
                        op, before, ranges=made.request.ranges or {}
                    )
            default = f"The recipe or litert-quantizer has no '{chosen.name}' for it."
            kept.append(KeptFloat(op.name, name, reason or default))
    return tuple(kept)


def _is_float(op: tflite.Op, model: tflite.TfliteModel, *, is_static: bool) -> bool:
    """Static: what it computes is float. Otherwise: the weights it reads are."""
    telling = [model.tensors[i] for i in op.outputs if i >= 0]
    if not is_static:
        reads = [model.tensors[i] for i in op.inputs if i >= 0]
        telling = [t for t in reads if t.is_constant and len(t.shape) > 1]
    return any(tensor.dtype == "float32" for tensor in telling)
