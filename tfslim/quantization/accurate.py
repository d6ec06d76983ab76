"""All that keeps accuracy, in order, each step taken only if it helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfslim import errors, tflite
from tfslim.quantization.ptq import QuantizeResult, quantize_tflite
from tfslim.quantization.ranges import auto
from tfslim.quantization.ranges.calibration import Calibration
from tfslim.quantization.ranges.collect import Samples, sized_for_first
from tfslim.quantization.repair import improve
from tfslim.quantization.repair.equalization import equalize, is_equalized
from tfslim.quantization.repair.improve import Improver
from tfslim.quantization.rules import recipe

OnStep = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to try.

    Attributes:
        calibration: a name of `method_names()`.
        equalize: whether to balance channels first.
        rounding: one of `ROUNDINGS`.
        bias_correction: one of `CORRECTIONS`.
        io: as in `quantize_tflite`.
        layers: as in `quantize_tflite`.
    """

    calibration: str = auto.NAME
    equalize: bool = True
    rounding: str = "gptq"
    bias_correction: str = "full"
    io: str = "float"
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the names of the steps."""
        improve.check_names(self.rounding, self.bias_correction)


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
    recipe_name: str | Path | recipe.Recipe = "int8",
    *,
    samples: Samples | None = None,
    options: Options | None = None,
    ranges: Mapping[str, tuple[float, float]] | Calibration | None = None,
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
        on_step: called with a line of text before each step.

    Raises:
        ConfigError: `samples` can be read once only; ranges of an equalized model
            without samples to equalize it by.
        QuantizationError: as in `quantize_tflite`.
    """
    options = options or Options()
    chosen = recipe.get(recipe_name)
    if not chosen.needs_ranges:
        ranges = None
    given = isinstance(ranges, Calibration) and ranges.equalized
    if given and samples is None:
        raise errors.ConfigError(
            "The ranges are those of an equalized model: give the same samples to "
            "equalize it by."
        )
    if samples is None or not chosen.rules or tflite.read(model).is_quantized:
        return AccurateResult(_quantize(model, chosen, samples, options, ranges), model)
    if isinstance(samples, Iterator):
        raise errors.ConfigError(
            "samples is read several times: pass a list or another object that starts "
            "anew, not a generator."
        )
    if chosen.scheme != "static_int8":
        options = dataclasses.replace(options, equalize=False, bias_correction="none")
    model = sized_for_first(model, samples)
    sources = _sources(model, samples, options, ranges, on_step)
    return _try(model, sources, chosen, samples, options, ranges, on_step)


def _sources(
    model: bytes,
    samples: Samples,
    options: Options,
    ranges: Mapping[str, tuple[float, float]] | Calibration | None,
    on_step: OnStep,
) -> dict[str, bytes]:
    """Returns the float files to try, by step."""
    given = isinstance(ranges, Calibration) and ranges.equalized
    given = given and not is_equalized(model)
    if not given and (not options.equalize or ranges is not None):
        return {"plain": model}
    on_step("equalizing")
    balanced = equalize(model, samples)
    if given:
        return {"equalized": balanced.tflite}
    found = {"equalized": balanced.tflite} if balanced.equalized else {}
    return {"plain": model, **found}


def _try(
    model: bytes,
    sources: Mapping[str, bytes],
    chosen: recipe.Recipe,
    samples: Samples,
    options: Options,
    ranges: Mapping[str, tuple[float, float]] | Calibration | None,
    on_step: OnStep,
) -> AccurateResult:
    first = options
    if chosen.scheme == "static_int8":  # Else another io is refused there.
        first = dataclasses.replace(options, io="float")
    files = {}
    for name, source in sources.items():
        on_step(f"quantizing, {name}")
        files[name] = _quantize(source, chosen, samples, first, ranges)
    if not any(tflite.read(file.tflite).is_quantized for file in files.values()):
        if options.io != "float":  # Nothing but the borders is quantized.
            done = files["plain"]
            done = _quantize(model, chosen, None, options, done.calibration)
            return AccurateResult(done, model)
        return AccurateResult(files["plain"], model)  # float16: nothing to mend.
    improver = Improver(
        model,
        samples,
        rounding=options.rounding,
        bias_correction=options.bias_correction,
    )
    steps = {name: improver.held_out.measure(f.tflite)[0] for name, f in files.items()}
    best = _best(steps)
    done, source = files[best], sources[best]
    improved = improver(done.tflite, source, on_step=on_step)
    steps |= {n: value for n, value in improved.steps.items() if n != "plain"}
    outputs = improver.held_out.by_output(improved.tflite)
    done = dataclasses.replace(done, tflite=improved.tflite)
    if options.io != "float":
        done = _quantize(source, chosen, None, options, done.calibration)
        mended = improver.apply(done.tflite, source, improved.taken)
        done = dataclasses.replace(done, tflite=mended)
    taken = improved.taken if best == "plain" else (best, *improved.taken)
    return AccurateResult(done, source, steps, taken, outputs)


def _best(steps: Mapping[str, float]) -> str:
    """Returns the best step, the first unless another is better by more than noise."""
    first, best = next(iter(steps)), max(steps, key=lambda name: steps[name])
    return best if steps[best] > steps[first] + improve.GAIN_DB else first


def _quantize(
    source: bytes,
    chosen: recipe.Recipe,
    samples: Samples | None,
    options: Options,
    ranges: Mapping[str, tuple[float, float]] | Calibration | None,
) -> QuantizeResult:
    return quantize_tflite(
        source,
        chosen,
        samples=samples,
        calibration=options.calibration,
        ranges=ranges,
        layers=options.layers,
        io=options.io,
    )
