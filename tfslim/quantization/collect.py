"""Statistics of every activation tensor, from one pass of the float model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from tfslim import errors, tflite
from tfslim.quantization.thresholds import Statistic
from tfslim.tflite.interpreter import named_inputs

S = TypeVar("S", bound=Statistic)

# One calibration sample: an array [n, ...], or input name -> array [n, ...].
Samples = Iterable[tflite.Inputs]


def activations(graph: tflite.Graph) -> list[tflite.Tensor]:
    """Lists the float tensors that a run computes, inputs included."""
    read_or_written = (
        {tensor.index for tensor in graph.inputs}
        | set(graph.producers)
        | set(graph.consumers)
    )
    return [
        tensor
        for tensor in graph.tensors
        if tensor.dtype == "float32"
        and not tensor.is_constant
        and tensor.index in read_or_written
    ]


def collect(
    model: bytes,
    samples: Samples,
    *,
    statistic: Callable[[tflite.Tensor], S],
    num_threads: int = 1,
) -> tuple[dict[str, S], int]:
    """Runs a float model over `samples` and gathers a statistic of every activation.

    Memory is that of the model's tensors and one sample, however many samples there
    are. Samples are run one at a time, so that it makes no difference how they are
    batched; whether order matters is up to the statistic.

    Args:
        model: the float `.tflite`.
        samples: arrays [n, ...] (or dicts of input name -> array) in the range the
            model was trained on; consumed once. n > 1 is cut into single samples.
        statistic: makes an empty statistic for a tensor.
        num_threads: threads of the runtime.

    Returns:
        Tensor name -> statistic, and the number of single samples seen.

    Raises:
        ConfigError: there is no sample, or one does not fit the model.
        QuantizationError: an activation is NaN; names the tensor.
    """
    runner = tflite.Runner(model, preserve_all_tensors=True, num_threads=num_threads)
    tensors = activations(runner.model.graphs[0])
    seen = [(statistic(t), runner.interpreter.tensor(t.index)) for t in tensors]
    count = 0
    for sample in singles(samples, runner.model):
        count += 1
        runner.set_inputs(sample)
        runner.invoke()
        for statistics, view in seen:
            # The view must be gone before the next run: the runtime checks.
            statistics.update(view())
    if not count:
        raise errors.ConfigError(
            "There are no calibration samples. Pass at least one; 200 to 500 that look "
            "like what the app will see are usual."
        )
    return {t.name: s for t, (s, _) in zip(tensors, seen, strict=True)}, count


def singles(samples: Samples, model: tflite.TfliteModel) -> Iterator[tflite.Inputs]:
    """Cuts batches into what `model` takes at a time, by input name."""
    names = model.input_names
    sizes = {name: model.tensors[index].shape[:1] for name, index in names.items()}
    for sample in samples:
        arrays = named_inputs(sample, names)
        lengths = {array.shape[:1] for array in arrays.values()}
        if len(lengths) != 1 or set(sizes.values()) != {(1,)} or lengths == {(1,)}:
            yield arrays
            continue
        for row in range(*next(iter(lengths))):
            yield {n: np.ascontiguousarray(a[row : row + 1]) for n, a in arrays.items()}
