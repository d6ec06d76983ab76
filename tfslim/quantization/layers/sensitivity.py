"""Which layers lose most by quantization, and what it takes to return them to float."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from tfslim import errors, tflite
from tfslim.quantization.candidates import Candidates
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.ptq import QuantizeResult, quantize_tflite
from tfslim.quantization.ranges.calibration import Calibration, check_ranges_of
from tfslim.quantization.ranges.collect import Samples, kept_singles
from tfslim.quantization.repair.improve import Improver
from tfslim.quantization.rules import policy, recipe, rule_order
from tfslim.quantization.rules.preprocess_model import prepare

OnStep = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What quantizing one op alone does to the model's output.

    Attributes:
        op: its name, e.g. "CONV_2D".
        layer: Keras layer that it comes from, "" where the file does not tell.
        tensor: name of its first output.
        sqnr_db: of the worst output, all other ops in float; small is bad.
        worst_sample_db: the same of the worst sample.
    """

    op: str
    layer: str
    tensor: str
    sqnr_db: float
    worst_sample_db: float


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer returned to float, and all before it.

    Attributes:
        layer: Keras layer or tensor; "" for the file with all of them quantized.
        metric: what `evaluate` says of the file.
        size_bytes: of the file.
        latency_us: of one inference; None if it was not timed.
    """

    layer: str
    metric: float
    size_bytes: int
    latency_us: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class FallbackResult:
    """A file that keeps its accuracy, and the way there.

    Attributes:
        quantized: the last file tried.
        steps: one a file tried.
        is_met: whether the last one is good enough.
        taken: what mended the last one.
        outputs: output name -> its SQNR in dB with the last one; empty without an
            improver.
    """

    quantized: QuantizeResult
    steps: tuple[Step, ...]
    is_met: bool
    taken: tuple[str, ...] = ()
    outputs: dict[str, float] = dataclasses.field(default_factory=dict)


def rank_layers(
    model: bytes,
    calibration: Calibration,
    samples: Samples,
    *,
    recipe_name: str | recipe.Recipe = "int8",
    on_step: OnStep = lambda text: None,
) -> list[LayerError]:
    """Quantizes one op at a time and measures the model's output.

    Args:
        model: the float `.tflite`.
        calibration: ranges for it.
        samples: what to measure on, about 32; all are kept in memory.
        recipe_name: a static recipe.
        on_step: called with a line of text before each op.

    Returns:
        A row for each op that the recipe quantizes, the worst first.

    Raises:
        ConfigError: `calibration` is of another model, or there is no sample.
    """
    source = prepare(model)
    check_ranges_of(calibration, source)
    files = Candidates(source, kept_singles(samples, tflite.read(source)))
    chosen = recipe.get(recipe_name)
    done = quantize_tflite(source, chosen, ranges=calibration)
    stays_float = {row.tensor for row in done.kept_float}
    names = LayerNames(tflite.read(files.source))
    rows = []
    for op in files.graph.ops:
        tensor = files.graph.tensors[op.outputs[0]].name
        scope = policy.scope(op, files.graph)
        rule = rule_order.deciding(done.rules, op.name, scope)
        if tensor in stays_float or rule is None:
            continue
        on_step(f"quantizing {op.name} {op.index + 1} of {len(files.graph.ops)} alone")
        alone = {**rule, **policy.single(op, files.graph)}
        try:
            measured = files.measure(files.quantize(calibration.ranges, [alone]))
        except errors.TfslimError as error:
            # litert-quantizer or the runtime has no integers for it: it stays float.
            on_step(f"{op.name} is left out: {error}")
            continue
        rows.append(LayerError(op.name, names.first(op), tensor, *measured))
    return sorted(rows, key=lambda row: row.sqnr_db)


def fall_back(
    model: bytes,
    calibration: Calibration,
    ranking: Sequence[LayerError],
    *,
    evaluate: Callable[[bytes], float],
    least: float,
    recipe_name: str | recipe.Recipe = "int8",
    improver: Improver | None = None,
    latency: Callable[[bytes], float | None] = lambda file: None,
    io: str = "float",
    layers: Mapping[str, str] | None = None,
    on_step: OnStep = lambda text: None,
) -> FallbackResult:
    """Returns layers to float, worst first, until a metric is good enough.

    Args:
        model: the float `.tflite`.
        calibration: ranges for it.
        ranking: as `rank_layers` gives it.
        evaluate: a file's accuracy or agreement; larger is better.
        least: the value to reach.
        recipe_name: of the layers that do not return.
        improver: what else is tried on each file.
        latency: a file's latency in microseconds, for the report.
        io: as in `quantize_tflite`.
        layers: as in `quantize_tflite`, from the first file on.
        on_step: called with a line of text after each file.

    Returns:
        The first file that reaches `least`, else the one with all layers in float.
    """
    kept = dict(layers or {})
    steps: list[Step] = []
    names = [""] + [row.tensor for row in ranking]
    labels = [""] + [row.layer or row.tensor for row in ranking]
    for name, label in zip(names, labels, strict=True):
        if name:
            kept[name] = "float32"
        make = functools.partial(
            quantize_tflite, model, recipe_name, ranges=calibration, layers=kept
        )
        done, plain, taken = _improved(make, model, improver, io)
        metric = evaluate(done.tflite)
        steps.append(Step(label, metric, len(done.tflite), latency(done.tflite)))
        on_step(f"{len(kept)} layers in float: {metric:.4f}, wanted {least:.4f}")
        if metric >= least:
            break
    outputs = improver.held_out.by_output(plain) if improver is not None else {}
    return FallbackResult(done, tuple(steps), metric >= least, taken, outputs)


def _improved(
    make: Callable[..., QuantizeResult],
    model: bytes,
    improver: Improver | None,
    io: str,
) -> tuple[QuantizeResult, bytes, tuple[str, ...]]:
    """Returns a file, the same with float inputs and outputs, and what mended it."""
    done = make()
    taken: tuple[str, ...] = ()
    if improver is not None:
        improved = improver(done.tflite, model)
        done = dataclasses.replace(done, tflite=improved.tflite)
        taken = improved.taken
    plain = done.tflite
    if io != "float":
        done = make(io=io)
        if improver is not None:
            mended = improver.apply(done.tflite, model, taken)
            done = dataclasses.replace(done, tflite=mended)
    return done, plain, taken
