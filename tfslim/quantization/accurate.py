"""All that keeps accuracy, in order, each step taken only if it helps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfslim import errors, targets, tflite
from tfslim.quantization.options import Options
from tfslim.quantization.quantize import QuantizeResult, quantize
from tfslim.quantization.ranges.calibration import Calibration, GivenRanges
from tfslim.quantization.ranges.collect import Samples, sized_for_first
from tfslim.quantization.repair.equalization import (
    equalize,
    is_equalized,
    unevenness,
)
from tfslim.quantization.repair.float_pass import FloatPasses, is_large
from tfslim.quantization.repair.improve import GAIN_DB, Improved, Improver
from tfslim.quantization.rules import recipe

# The largest factor of a channel against the others, by the weights: from here on
# another file is worth a trial; of a large model, each run of which counts, the second.
_EQUAL, _UNEQUAL = 1.25, 16.0

OnStep = Callable[[str], None]


@dataclasses.dataclass(frozen=True, eq=False)
class AccurateResult:
    """A file, and which steps it took.

    Attributes:
        quantized: the file.
        source: the float file it was made from: the model, or the model equalized.
        steps: what was tried -> SQNR in dB of the worst output, in order; the mean
            over at most 64 samples that rounding and correction were not fitted to. The
            ranges were chosen from all samples, these included.
        taken: the steps that helped.
        outputs: output name -> its own SQNR in dB with the file, on the same samples.
    """

    quantized: QuantizeResult
    source: bytes
    steps: dict[str, float] = dataclasses.field(default_factory=dict)
    taken: tuple[str, ...] = ()
    outputs: dict[str, float] = dataclasses.field(default_factory=dict)


def quantize_accurately(
    model: bytes,
    recipe_name: str | Path | recipe.Recipe | None = None,
    *,
    samples: Samples | None = None,
    options: Options | None = None,
    ranges: GivenRanges | None = None,
    passes: FloatPasses | None = None,
    on_step: OnStep = lambda text: None,
) -> AccurateResult:
    """Quantizes a float `.tflite`, with all that helps to keep its accuracy.

    Equalization and bias correction are for static INT8, rounding for all recipes with
    INT8 or INT4 weights; they need samples, without which files go through
    `quantize_tflite` alone.

    Args:
        model: the float `.tflite`.
        recipe_name: as in `quantize_tflite`.
        samples: as in `quantize_tflite`; passed over several times, so no generator.
        options: what to try.
        ranges: as in `quantize_tflite`.
        passes: of this model and these samples, kept for other recipes and
            `keep_accuracy`; None: new ones.
        on_step: called with a line of text before each step.

    Raises:
        ConfigError: `samples` can be read once only; ranges of an equalized model
            without samples to equalize it by.
        QuantizationError: as in `quantize_tflite`.
    """
    options = options or Options()
    chosen = recipe.get(recipe_name or targets.get(options.target).recipes[-1])
    options = options.for_target(chosen.scheme, chosen.name)
    if not chosen.needs_ranges:
        ranges = None
    given = isinstance(ranges, Calibration) and ranges.equalized
    if given and samples is None:
        raise errors.ConfigError(
            "The ranges are those of an equalized model: give the same samples to "
            "equalize it by."
        )
    if samples is None or not chosen.rules or tflite.read(model).is_quantized:
        done = quantize(model, chosen, options=options, samples=samples, ranges=ranges)
        return AccurateResult(done, model)
    if isinstance(samples, Iterator):
        raise errors.ConfigError(
            "samples is read several times: pass a list or another object that starts "
            "anew, not a generator."
        )
    if chosen.scheme != "static_int8":
        options = dataclasses.replace(options, equalize=False, bias_correction="none")
    model = sized_for_first(model, samples)
    # With another recipe than static INT8 another io is refused there.
    ends = "float" if chosen.scheme == "static_int8" else options.io
    plain = dataclasses.replace(options, io=ends)
    improver = Improver(model, samples, options=options, passes=passes)
    sources = _sources(model, samples, options=options, ranges=ranges, on_step=on_step)
    made = functools.partial(quantize, options=plain, samples=samples, ranges=ranges)
    files = {}
    for name, source in sources.items():
        on_step(f"quantizing, {name}")
        files[name] = made(source, chosen, also=improver.looking_on)
    if not any(tflite.read(file.tflite).is_quantized for file in files.values()):
        done = files["plain"]  # In float16 nothing is to be mended.
        if options.io != "float":  # Nothing but the borders is quantized.
            done = quantize(model, chosen, options=options, ranges=done.calibration)
        return AccurateResult(done, model)
    return _repaired(
        files, sources, options=options, improver=improver, on_step=on_step
    )


def _sources(
    model: bytes,
    samples: Samples,
    *,
    options: Options,
    ranges: GivenRanges | None,
    on_step: OnStep,
) -> dict[str, bytes]:
    """Returns the float files to try, by step."""
    given = isinstance(ranges, Calibration) and ranges.equalized
    given = given and not is_equalized(model)
    if not given and (not options.equalize or ranges is not None):
        return {"plain": model}
    on_step("equalizing")
    graph = tflite.read(model).graphs[0]
    least = _UNEQUAL if is_large(graph) else _EQUAL
    if not given and unevenness(model) < least:
        # By the weights alone, before any run: there is nothing to balance.
        return {"plain": model}
    balanced = equalize(model, samples)
    if given:
        return {"equalized": balanced.tflite}
    found = {"equalized": balanced.tflite} if balanced.equalized else {}
    return {"plain": model, **found}


def _repaired(
    files: Mapping[str, QuantizeResult],
    sources: Mapping[str, bytes],
    *,
    options: Options,
    improver: Improver,
    on_step: OnStep,
) -> AccurateResult:
    """Takes the first file, unless another is better by more than noise; mends it."""
    steps = {name: improver.held_out.measure(f.tflite)[0] for name, f in files.items()}
    first, best = next(iter(steps)), max(steps, key=lambda name: steps[name])
    best = best if steps[best] > steps[first] + GAIN_DB else first
    mended = mend(
        files[best],
        sources[best],
        options=options,
        improver=improver,
        on_step=on_step,
    )
    steps |= {n: value for n, value in mended.steps.items() if n != "plain"}
    taken = mended.taken if best == "plain" else (best, *mended.taken)
    return dataclasses.replace(mended, steps=steps, taken=taken)


def mend(
    done: QuantizeResult,
    source: bytes,
    *,
    options: Options,
    improver: Improver | None,
    on_step: OnStep = lambda text: None,
) -> AccurateResult:
    """Improves a file with float inputs and outputs, then gives it those wanted.

    Args:
        done: the file.
        source: the float file that it was made from.
        options: it was made by them, except the inputs and outputs.
        improver: rounds and corrects; None: nothing does.
        on_step: called with a line of text before each step.
    """
    improved, outputs = Improved(done.tflite, {}, ()), {}
    if improver is not None:
        improved = improver(done.tflite, source, on_step=on_step)
        outputs = improver.held_out.by_output(improved.tflite)
    file = improved.tflite
    if options.io != "float":
        done = quantize(source, done.recipe, options=options, ranges=done.calibration)
        file = done.tflite
        if improver is not None:
            file = improver.apply(file, source, improved.taken)
    done = dataclasses.replace(done, tflite=file)
    return AccurateResult(done, source, improved.steps, improved.taken, outputs)
