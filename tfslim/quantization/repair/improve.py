"""What mends a quantized file afterwards, each step kept only where it helps."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping

from tfslim import errors, tflite
from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization.options import Options
from tfslim.quantization.ranges.collect import Samples, singles
from tfslim.quantization.ranges.thresholds import Statistic
from tfslim.quantization.repair import bias, rounding, weights
from tfslim.quantization.repair.float_pass import FloatPass
from tfslim.quantization.rules.preprocess_model import prepare

# Less than this is noise of the samples.
GAIN_DB = 0.3
# Samples to decide by, and as many to fit to: the most, and of large models the least.
_NUM_SAMPLES, _LEAST = 64, 10
# Multiply-accumulates of one run from which on fewer samples must do.
_LARGE = 5e8

_Step = Callable[[bytes, bytes], bytes]


@dataclasses.dataclass(frozen=True, eq=False)
class Improved:
    """A file, what was tried and what was kept.

    Attributes:
        tflite: the file.
        steps: step -> SQNR in dB of the logits with it, in order; "plain" is the file
            as it came.
        taken: the steps that were kept.
    """

    tflite: bytes
    steps: dict[str, float]
    taken: tuple[str, ...]


def num_samples(graph: tflite.Graph) -> int:
    """Returns how many samples are worth a run of a float model, twice."""
    affordable = int(_NUM_SAMPLES * _LARGE / max(weights.macs(graph), 1))
    return min(_NUM_SAMPLES, max(_LEAST, affordable))


def is_large(graph: tflite.Graph) -> bool:
    """Whether a model is so large that each run of it counts."""
    return weights.macs(graph) > _LARGE


class Improver:
    """Rounds weights and corrects biases of files quantized from one model.

    Of the first 128 samples, of a large model fewer, every other one is what the steps
    are fitted to; the rest decides whether a step is kept.

    What the float model gives for them is taken from the pass of calibration that
    looked on, if there was one; see `FloatPass`.
    """

    def __init__(
        self, model: bytes, samples: Samples, *, options: Options | None = None
    ):
        """Reads the samples.

        Raises:
            ConfigError: there is no sample.
        """
        options = options or Options()
        self._source = prepare(model)
        content = tflite.read(self._source)
        number = num_samples(content.graphs[0])
        self._samples = list(itertools.islice(singles(samples, content), 2 * number))
        if not self._samples:
            raise errors.ConfigError(
                "There are no samples to round weights and correct biases by. Pass "
                "about 128, or None."
            )
        places = range(len(self._samples))
        self._fit, self._held_out = places[::2], places[1::2] or places
        self._passes: dict[int, FloatPass] = {}
        # File -> outputs of the layers whose weights were rounded anew.
        self._rounded: dict[int, frozenset[str]] = {}
        self._steps: dict[str, _Step] = {}
        if options.rounding != "nearest":
            self._steps[f"rounding, {options.rounding}"] = self._round
        if options.bias_correction != "none":
            self._mode = options.bias_correction
            self._steps[f"bias correction, {options.bias_correction}"] = self._correct

    @functools.cached_property
    def held_out(self) -> FileErrors:
        """Measures files on the samples held out."""
        known = self._pass_of(self._source)
        samples = [self._samples[place] for place in self._held_out]
        return FileErrors(self._source, samples, truth=known.outputs if known else None)

    def looking_on(self, source: bytes) -> Mapping[str, Statistic]:
        """Returns what is to see a pass of a float file; see `calibrate`."""
        made = FloatPass(
            source,
            self._samples,
            fit=self._fit,
            held_out=self._held_out,
            for_rounding=any("rounding" in step for step in self._steps),
        )
        self._passes[hash(source)] = made
        return made.statistics

    def _pass_of(self, source: bytes) -> FloatPass | None:
        known = self._passes.get(hash(prepare(source)))
        return known if known is not None and known.is_done else None

    def __call__(
        self,
        quantized: bytes,
        source: bytes,
        *,
        on_step: Callable[[str], None] = lambda text: None,
    ) -> Improved:
        """Tries the steps on a file with float inputs and outputs.

        Args:
            quantized: the file; it is not changed.
            source: the float file it was made from: the model, or the same equalized.
            on_step: called with a line of text before each step.
        """
        reached, _ = self.held_out.measure(quantized)
        steps, taken = {"plain": reached}, []
        for name, step in self._steps.items():
            on_step(name)
            tried = step(quantized, source)
            if tried == quantized:
                continue
            steps[name], _ = self.held_out.measure(tried)
            if steps[name] > reached + GAIN_DB:
                quantized, reached = tried, steps[name]
                taken.append(name)
        return Improved(quantized, steps, tuple(taken))

    def apply(self, quantized: bytes, source: bytes, taken: Iterable[str]) -> bytes:
        """Does the steps `taken` without measuring, on a file with any I/O."""
        for name in taken:
            quantized = self._steps[name](quantized, source)
        return quantized

    def _round(self, quantized: bytes, source: bytes) -> bytes:
        known = self._pass_of(source)
        done = rounding.round_weights(
            quantized,
            source,
            samples=self._fitting,
            known=known.moments if known else None,
        )
        if not done.rounded:
            return quantized
        self._rounded[hash(done.tflite)] = frozenset(r.tensor for r in done.rounded)
        return done.tflite

    def _correct(self, quantized: bytes, source: bytes) -> bytes:
        known = self._pass_of(source)
        # Rounding has taken out of its layers the mean that "fast" would.
        done = self._rounded.get(hash(quantized), ()) if self._mode == "fast" else ()
        changed, shifts = bias.correct_biases(
            quantized,
            source,
            samples=self._fitting,
            mode=self._mode,
            known=known.means if known else None,
            leave=done,
        )
        return changed if shifts else quantized

    @property
    def _fitting(self) -> list[tflite.Inputs]:
        return [self._samples[place] for place in self._fit]
