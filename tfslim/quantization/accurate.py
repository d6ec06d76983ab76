"""All that keeps accuracy, in order, each step taken only if it helps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfslim import errors, registry, tflite
from tfslim.quantization import auto, bias, recipe
from tfslim.quantization.calibration import Calibration
from tfslim.quantization.collect import Samples, singles
from tfslim.quantization.equalization import equalize
from tfslim.quantization.judge import Judge
from tfslim.quantization.prepare import prepare
from tfslim.quantization.ptq import QuantizeResult, quantize_tflite

CORRECTIONS = ("none", *bias.MODES)
OnStep = Callable[[str], None]

# Samples that decide whether a step helps, and that the corrected means are of.
_NUM_SAMPLES = 64
_GAIN_DB = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to try.

    Attributes:
        calibration: a name of `method_names()`.
        equalize: whether to balance channels first.
        bias_correction: one of `CORRECTIONS`.
        io: as in `quantize_tflite`.
        layers: as in `quantize_tflite`.
    """

    calibration: str = auto.NAME
    equalize: bool = True
    bias_correction: str = "full"
    io: str = "float"
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the name of the correction."""
        if self.bias_correction not in CORRECTIONS:
            raise registry.unknown_name(
                "bias correction", self.bias_correction, CORRECTIONS
            )


@dataclasses.dataclass(frozen=True, eq=False)
class AccurateResult:
    """A file, and which steps it took.

    Attributes:
        quantized: the file.
        source: the float file it was made from: the model, or the model equalized.
        steps: what was tried -> SQNR in dB of the logits, in order; the mean over 64
            of the samples.
        taken: the steps that helped.
    """

    quantized: QuantizeResult
    source: bytes
    steps: dict[str, float]
    taken: tuple[str, ...]


def quantize_accurately(
    model: bytes,
    recipe_name: str | Path | recipe.Recipe = "int8",
    *,
    samples: Samples | None = None,
    options: Options | None = None,
    ranges: Mapping[str, tuple[float, float]] | Calibration | None = None,
    on_step: OnStep = lambda text: None,
) -> AccurateResult:
    """Quantizes a float `.tflite` with equalization and bias correction.

    Both are for static INT8 and need samples; other recipes, and files without
    samples, go through `quantize_tflite` alone.

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
    given = isinstance(ranges, Calibration) and ranges.equalized
    if given and samples is None:
        raise errors.ConfigError(
            "The ranges are those of an equalized model: give the same samples to "
            "equalize it by."
        )
    if chosen.scheme != "static_int8" or samples is None:
        done = _quantize(model, chosen, samples, options, ranges)
        return AccurateResult(done, model, {}, ())
    if isinstance(samples, Iterator):
        raise errors.ConfigError(
            "samples is read several times: pass a list or another object that starts "
            "anew, not a generator."
        )
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
    content = tflite.read(prepare(model))
    few = list(itertools.islice(singles(samples, content), _NUM_SAMPLES))
    judge = Judge(prepare(model), few)
    by_float = dataclasses.replace(options, io="float")
    files, steps = {}, {}
    for name, source in sources.items():
        on_step(f"quantizing, {name}")
        files[name] = _quantize(source, chosen, samples, by_float, ranges)
        steps[name], _ = judge.measure(files[name].tflite)
    best = _best(steps)
    done, source, taken = files[best], sources[best], [best]
    if options.bias_correction != "none":
        name = f"bias correction, {options.bias_correction}"
        on_step(name)
        fixed = _correct(done, source, few, options)
        steps[name], _ = judge.measure(fixed.tflite)
        if steps[name] > steps[best] + _GAIN_DB:
            done = fixed
            taken.append(name)
    if options.io != "float":
        done = _quantize(source, chosen, None, options, done.calibration)
        if len(taken) > 1:
            done = _correct(done, source, few, options)
    if best == "equalized" and done.calibration is not None:
        noted = dataclasses.replace(done.calibration, equalized=True)
        done = dataclasses.replace(done, calibration=noted)
    helped = tuple(name for name in taken if name != "plain")
    return AccurateResult(done, source, steps, helped)


def _best(steps: Mapping[str, float]) -> str:
    """Returns the best step, the first unless another is better by more than noise."""
    first, best = next(iter(steps)), max(steps, key=lambda name: steps[name])
    return best if steps[best] > steps[first] + _GAIN_DB else first


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


def _correct(
    done: QuantizeResult, source: bytes, samples: Samples, options: Options
) -> QuantizeResult:
    fixed, _ = bias.correct_biases(
        done.tflite, source, samples, mode=options.bias_correction
    )
    return dataclasses.replace(done, tflite=fixed)
