"""What mends a quantized file afterwards, each step kept only where it helps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable

from tfslim import errors, tflite
from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization.options import Options
from tfslim.quantization.ranges.collect import Samples, singles
from tfslim.quantization.repair import bias, rounding, weights
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

    Attributes:
        held_out: measures files on the samples held out.
    """

    def __init__(
        self, model: bytes, samples: Samples, *, options: Options | None = None
    ):
        """Reads the samples and runs the float model over those held out.

        Raises:
            ConfigError: there is no sample.
        """
        options = options or Options()
        source = prepare(model)
        content = tflite.read(source)
        number = num_samples(content.graphs[0])
        kept = list(itertools.islice(singles(samples, content), 2 * number))
        if not kept:
            raise errors.ConfigError(
                "There are no samples to round weights and correct biases by. Pass "
                "about 128, or None."
            )
        self._fit = kept[::2]
        self.held_out = FileErrors(source, kept[1::2] or kept)
        self._steps: dict[str, _Step] = {}
        if options.rounding != "nearest":
            self._steps[f"rounding, {options.rounding}"] = self._round
        if options.bias_correction != "none":
            self._mode = options.bias_correction
            self._steps[f"bias correction, {options.bias_correction}"] = self._correct

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
        done = rounding.round_weights(quantized, source, samples=self._fit)
        return done.tflite if done.rounded else quantized

    def _correct(self, quantized: bytes, source: bytes) -> bytes:
        changed, shifts = bias.correct_biases(
            quantized, source, samples=self._fit, mode=self._mode
        )
        return changed if shifts else quantized
