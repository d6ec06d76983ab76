"""What mends a quantized file afterwards, each step kept only where it helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization.options import Options
from tfslim.quantization.ranges.collect import Samples
from tfslim.quantization.ranges.thresholds import Statistic
from tfslim.quantization.repair import bias, rounding
from tfslim.quantization.repair.float_pass import FloatPasses

# Less than this is noise of the samples.
GAIN_DB = 0.3

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


class Improver:
    """Rounds weights and corrects biases of files quantized from one model.

    What the float model gives for the samples is taken from the pass of calibration
    that looked on, if there was one; see `FloatPasses`.
    """

    def __init__(
        self,
        model: bytes,
        samples: Samples,
        *,
        options: Options | None = None,
        passes: FloatPasses | None = None,
    ):
        """Reads the samples, if `passes` has not done so before.

        Raises:
            ConfigError: there is no sample.
        """
        options = options or Options()
        self._passes = passes or FloatPasses(model, samples)
        self._fit = self._passes.fit
        # File -> outputs of the layers whose weights were rounded anew.
        self._rounded: dict[int, frozenset[str]] = {}
        self._steps: dict[str, _Step] = {}
        if options.rounding != "nearest":
            self._steps[f"rounding, {options.rounding}"] = self._round
        if options.bias_correction != "none":
            self._mode = options.bias_correction
            self._steps[f"bias correction, {options.bias_correction}"] = self._correct

    @property
    def held_out(self) -> FileErrors:
        """Measures files on the samples held out."""
        return self._passes.held_out

    def looking_on(self, source: bytes) -> Mapping[str, Statistic]:
        """Returns what is to see a pass of a float file; see `calibrate`."""
        wanted = any("rounding" in step for step in self._steps)
        return self._passes.looking_on(source, for_rounding=wanted)

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
        known = self._passes.of(source)
        done = rounding.round_weights(
            quantized,
            source,
            samples=self._fit,
            known=known.moments if known else None,
        )
        if not done.rounded:
            return quantized
        self._rounded[hash(done.tflite)] = frozenset(r.tensor for r in done.rounded)
        return done.tflite

    def _correct(self, quantized: bytes, source: bytes) -> bytes:
        known = self._passes.of(source)
        # Rounding has taken out of its layers the mean that "fast" would.
        done = self._rounded.get(hash(quantized), ()) if self._mode == "fast" else ()
        changed, shifts = bias.correct_biases(
            quantized,
            source,
            samples=self._fit,
            mode=self._mode,
            known=known.means if known else None,
            leave=done,
        )
        return changed if shifts else quantized
