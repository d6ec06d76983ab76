"""Statistics of every activation tensor, from one pass of the float model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import threadpoolctl

from tfslim import errors, tflite
from tfslim.quantization.ranges import cell_states
from tfslim.quantization.ranges.batching import readable, take_groups
from tfslim.quantization.ranges.dense_tail import Tail, split_tail
from tfslim.quantization.ranges.thresholds import Statistic
from tfslim.tflite.interpreter import named_inputs

S = TypeVar("S", bound=Statistic)

# Samples that a tail of dense layers runs at a time.
_TOGETHER = 64

_NO_SAMPLES = (
    "There are no calibration samples. Pass at least one; 200 to 500 that look like "
    "what the app will see are usual."
)

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
    also: Mapping[str, Statistic] | None = None,
    num_threads: int = 1,
) -> tuple[dict[str, S], int]:
    """Runs a float model over `samples` and gathers a statistic of every activation.

    Memory is that of the model's tensors and one sample, however many samples there
    are. It makes no difference how they are batched: they are cut and run in groups
    of our own: small networks, of which the runtime then computes the same bits as of
    each alone, and large dense layers at the end. Whether order matters is up to the
    statistic.

    Args:
        model: the float `.tflite`.
        samples: arrays [n, ...] (or dicts of input name -> array) in the range the
            model was trained on; consumed once. n > 1 is cut into single samples.
        statistic: makes an empty statistic for a tensor.
        also: tensor -> what sees its values besides.
        num_threads: threads of the runtime, and of BLAS.

    Returns:
        Tensor name -> statistic, and the number of single samples seen.

    Raises:
        ConfigError: there is no sample, or one does not fit the model.
        QuantizationError: an activation is NaN; names the tensor.
    """
    head, tail = split_tail(model)
    load = functools.partial(
        tflite.Runner, head, preserve_all_tensors=True, num_threads=num_threads
    )
    runner = load()
    if not take_groups(runner, activations(runner.model.graphs[0])):
        runner = load()
    graph = runner.model.graphs[0] if tail is None else tail.graph
    seen = {tensor.index: statistic(tensor) for tensor in activations(graph)}
    also = also or {}
    names = {tensor.index: tensor.name for tensor in graph.tensors}
    fed: dict[int, list[Statistic]] = {
        index: [found, *([also[names[index]]] if names[index] in also else [])]
        for index, found in seen.items()
    }
    behind = _Behind(tail, fed) if tail is not None else None
    front = _Front(runner, fed, behind)
    count = 0
    # More threads of BLAS would spin while the runtime has its turn.
    with threadpoolctl.threadpool_limits(num_threads, user_api="blas"):
        for sample in singles(samples, runner.model):
            count += 1
            front.add(sample)
        front.flush()
        if behind is not None:
            behind.flush()
    if not count:
        raise errors.ConfigError(_NO_SAMPLES)
    return {graph.tensors[index].name: found for index, found in seen.items()}, count


def kept_singles(samples: Samples, model: tflite.TfliteModel) -> list[tflite.Inputs]:
    """Returns all of `singles`, in memory.

    Raises:
        ConfigError: there is no sample.
    """
    kept = list(singles(samples, model))
    if not kept:
        raise errors.ConfigError(_NO_SAMPLES)
    return kept


def sized_for_first(model: bytes, samples: Samples) -> bytes:
    """Gives a file that leaves sizes open those of the first sample.

    Samples that can be read once only are left alone, and so is the file.
    """
    content = tflite.read(model)
    if not content.is_dynamic or isinstance(samples, Iterator):
        return model
    first = next(singles(samples, content), None)
    return model if first is None else tflite.sized_for(model, first)


class _Behind:
    """Keeps what a tail reads until there are enough samples to run it."""

    def __init__(self, tail: Tail, seen: Mapping[int, Sequence[Statistic]]):
        self.source = tail.source.index
        self._tail = tail
        self._statistics = [seen[tensor.index] for tensor in tail.tensors]
        self._kept: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        self._kept += np.split(values, len(values))
        if len(self._kept) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        if not self._kept:
            return
        written = self._tail(np.concatenate(self._kept))
        for statistics, values in zip(self._statistics, written, strict=True):
            for statistic in statistics:
                statistic.update(values[:, np.newaxis])
        self._kept = []


class _Front:
    """Runs the file, or what comes before a tail, on as many samples as it takes."""

    def __init__(
        self,
        runner: tflite.Runner,
        seen: Mapping[int, Sequence[Statistic]],
        behind: _Behind | None,
    ):
        self._runner = runner
        self._seen = seen
        self._views: (
            list[tuple[Sequence[Statistic], Callable[[], np.ndarray]]] | None
        ) = None
        self._behind = behind
        self._filled = 0

    def add(self, sample: tflite.Inputs) -> None:
        self._runner.set_inputs(sample, self._filled)
        self._filled += 1
        if self._filled == self._runner.batch:
            self.flush()

    def _view(self, tensor: tflite.Tensor) -> Callable[[], np.ndarray]:
        steps = cell_states.reader(self._runner, tensor)
        return steps or self._runner.interpreter.tensor(tensor.index)

    def flush(self) -> None:
        if not self._filled:
            return
        self._runner.invoke()
        if self._views is None:
            found = readable(self._runner, activations(self._runner.model.graphs[0]))
            self._views = [
                (self._seen[t.index], self._view(t))
                for t in found
                if t.index in self._seen and t.size  # GRUs may have empty ones.
            ]
        # In rows that are not filled lies what was there before.
        each = np.s_[: self._filled, np.newaxis] if self._runner.batch > 1 else None
        for statistics, view in self._views:
            # The view must be gone before the next run: the runtime checks.
            for statistic in statistics:
                statistic.update(view()[each])
        if self._behind is not None:
            values = self._runner.interpreter.get_tensor(self._behind.source)
            self._behind.add(values[: self._filled])
        self._filled = 0


def singles(samples: Samples, model: tflite.TfliteModel) -> Iterator[tflite.Inputs]:
    """Cuts batches into what `model` takes at a time, by input name.

    An array or a dict in place of the list of them counts as one batch. Of what Keras'
    `fit` takes, tuples (x, y) and (x, y, sample_weight), x is taken.
    """
    names = model.input_names
    sizes = {model.tensors[index].shape[:1] for index in names.values()}
    if isinstance(samples, np.ndarray | Mapping):
        samples = [samples]
    if isinstance(samples, tuple) and _are_arrays_of_fit(samples):
        samples = samples[:1]
    if not isinstance(samples, Iterable):
        raise errors.ConfigError(
            f"samples is {samples!r}; expected arrays [n, ...], or dicts of such."
        )
    for sample in samples:
        arrays = named_inputs(_without_labels(sample, names), names)
        lengths = {array.shape[:1] for array in arrays.values()}
        if len(lengths) != 1 or sizes != {(1,)} or lengths <= {(1,), ()}:
            yield arrays
            continue
        for row in range(*next(iter(lengths))):
            yield {n: np.ascontiguousarray(a[row : row + 1]) for n, a in arrays.items()}


def _are_arrays_of_fit(samples: tuple[Any, ...]) -> bool:
    """Whether it is (x, y) or (x, y, sample_weight), not a tuple of two or three x."""
    if len(samples) not in (2, 3):
        return False
    x, *others = samples
    return all(map(_is_array, samples)) and all(
        other.shape[:1] == x.shape[:1] and other.ndim < x.ndim for other in others
    )


def _without_labels(sample: Any, names: Mapping[str, int]) -> tflite.Inputs:
    """Returns the inputs of what a data set gives, by name where there are several.

    As Keras has it: a tuple is (x,), (x, y) or (x, y, sample_weight). But a tuple, or a
    list, of as many arrays as the model has inputs, two or more, is these.
    """
    if isinstance(sample, Mapping):
        return sample
    is_listed = isinstance(sample, list | tuple) and len(sample) == len(names)
    if len(names) == 1:
        is_pair = isinstance(sample, tuple) and 1 <= len(sample) <= 3
        is_single = is_listed and _is_array(sample[0])
        x = sample[0] if is_pair or is_single else sample
        while isinstance(x, tuple) and len(x) == 1:
            x = x[0]
        return x if isinstance(x, Mapping) else _array(x)
    if is_listed and not any(
        isinstance(part, Mapping | list | tuple) for part in sample
    ):
        return dict(zip(names, map(_array, sample), strict=True))
    if isinstance(sample, tuple) and 1 <= len(sample) <= 3:
        x = sample[0]
        if isinstance(x, Mapping):
            return x
        if isinstance(x, list | tuple) and len(x) == len(names):
            return dict(zip(names, map(_array, x), strict=True))
    given = f"{type(sample).__name__}"
    if isinstance(sample, list | tuple):
        given += f" of {len(sample)}"
    raise errors.ConfigError(
        f"A sample is a {given}; the model has {len(names)} inputs "
        f"({', '.join(names)}). Give dicts of input name -> array, tuples of an array "
        "each, or (inputs, y)."
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # Ragged lists, sparse tensors.
        raise errors.ConfigError(
            f"A sample cannot be made an array ({error}); expected arrays [n, ...] of "
            "numbers, or (x, y) for samples with labels."
        ) from error
