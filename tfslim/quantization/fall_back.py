"""The way back to float: layers return, worst first, until the accuracy is kept."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

from tfslim import errors
from tfslim.quantization.accurate import AccurateResult, OnStep, mend
from tfslim.quantization.layers.sensitivity import LayerError, rank_layers
from tfslim.quantization.options import Options
from tfslim.quantization.quantize import quantize
from tfslim.quantization.ranges.collect import Samples
from tfslim.quantization.repair.float_pass import FloatPasses
from tfslim.quantization.repair.improve import Improver

# Samples on which each layer is tried alone.
_FEW = 32


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
        accurate: the last file tried, and what mended it.
        steps: one a file tried.
        is_met: whether the last one is good enough.
    """

    accurate: AccurateResult
    steps: tuple[Step, ...]
    is_met: bool


def fall_back(
    start: AccurateResult,
    ranking: Sequence[LayerError],
    *,
    evaluate: Callable[[bytes], float],
    least: float,
    options: Options | None = None,
    improver: Improver | None = None,
    latency: Callable[[bytes], float | None] = lambda file: None,
    on_step: OnStep = lambda text: None,
) -> FallbackResult:
    """Returns layers to float, worst first, until a metric is good enough.

    Args:
        start: the file with all layers quantized, as `quantize_accurately` gives it.
        ranking: its layers, as `rank_layers` gives them.
        evaluate: a file's accuracy or agreement; larger is better.
        least: the value to reach.
        options: `io` and `layers` are taken; those layers hold from the first file on.
        improver: what else is tried on each file.
        latency: a file's latency in microseconds, for the report.
        on_step: called with a line of text after each file.

    Returns:
        The first file that reaches `least`, else the one with all layers in float.

    Raises:
        ConfigError: the file was made without ranges.
    """
    options = options or Options()
    done = start.quantized
    if done.calibration is None:
        raise errors.ConfigError(_not_int8(done.recipe.name))
    if not options.placed.allows_float:
        raise errors.ConfigError(
            f"Layers cannot return to float: the target '{options.target}' has none."
        )
    options = options.for_target(done.recipe.scheme, done.recipe.name)
    kept = dict(options.layers)
    equalized = tuple(step for step in start.taken if step == "equalized")
    steps: list[Step] = []
    for row in (None, *ranking):
        if row is not None:
            kept[row.tensor] = "float32"
        wanted = dataclasses.replace(options, layers=kept)
        plain = dataclasses.replace(wanted, io="float")
        done = quantize(
            start.source, done.recipe, options=plain, ranges=done.calibration
        )
        better = mend(done, start.source, options=wanted, improver=improver)
        file = better.quantized.tflite
        metric = evaluate(file)
        label = "" if row is None else row.layer or row.tensor
        steps.append(Step(label, metric, len(file), latency(file)))
        on_step(f"{len(kept)} layers in float: {metric:.4f}, wanted {least:.4f}")
        if metric >= least:
            break
    taken = (*equalized, *better.taken)
    better = dataclasses.replace(better, steps=start.steps, taken=taken)
    return FallbackResult(better, tuple(steps), metric >= least)


def rank(
    start: AccurateResult, samples: Samples, *, on_step: OnStep = lambda text: None
) -> list[LayerError]:
    """Ranks the layers of an INT8 file on the first 32 samples; see `rank_layers`."""
    done = start.quantized
    if done.calibration is None:
        raise errors.ConfigError(_not_int8(done.recipe.name))
    few = list(itertools.islice(samples, _FEW))
    return rank_layers(
        start.source,
        done.calibration,
        samples=few,
        recipe_name=done.recipe,
        on_step=on_step,
    )


def keep_accuracy(
    start: AccurateResult,
    model: bytes,
    *,
    samples: Samples,
    evaluate: Callable[[bytes], float],
    least: float,
    options: Options | None = None,
    ranking: Callable[[], Sequence[LayerError]] | None = None,
    latency: Callable[[bytes], float | None] = lambda file: None,
    passes: FloatPasses | None = None,
    on_step: OnStep = lambda text: None,
) -> FallbackResult:
    """Does nothing to a file that is good enough, and else falls back.

    Args:
        start: the file, as `quantize_accurately` gives it.
        model: the float `.tflite` that it was called with.
        samples: the same as there.
        evaluate: as in `fall_back`, as for `least`, `latency` and `on_step`.
        least: the value to reach.
        options: by which the file was made.
        ranking: gives its layers, the worst first; None: `rank`.
        latency: a file's latency in microseconds, for the report.
        passes: as `quantize_accurately` was given them.
        on_step: called with a line of text before each step.

    Returns:
        As `fall_back`; no steps where the file is good enough.
    """
    if evaluate(start.quantized.tflite) >= least:
        on_step("INT8 is good enough: no layer returns to float")
        return FallbackResult(start, (), True)
    return fall_back(
        start,
        rank(start, samples, on_step=on_step) if ranking is None else ranking(),
        evaluate=evaluate,
        least=least,
        options=options,
        improver=Improver(model, samples, options=options, passes=passes),
        latency=latency,
        on_step=on_step,
    )


def _not_int8(name: str) -> str:
    return f"Layers return to float from INT8; the file is '{name}'. Make it by 'int8'."
