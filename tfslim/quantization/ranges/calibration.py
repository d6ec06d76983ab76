"""From samples to a range for every activation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfslim import checks, errors, ops, registry, tflite
from tfslim.quantization.ranges import auto
from tfslim.quantization.ranges.collect import Samples, activations, collect
from tfslim.quantization.ranges.statistics import Extremes, Histogram
from tfslim.quantization.ranges.thresholds import THRESHOLDS, Statistic, Threshold
from tfslim.quantization.repair.equalization import is_equalized
from tfslim.quantization.rules import masks
from tfslim.quantization.rules.preprocess_model import prepare

_WIDEST = float(np.finfo(np.float32).max)

# A prepared model -> tensor name -> a statistic of it.
Also = Callable[[bytes], Mapping[str, Statistic]]
# Tensor name -> (min, max) in the tensor's unit.
Ranges = dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class TensorRange:
    """The range of one activation, and where it comes from.

    Attributes:
        min: values below saturate.
        max: values above saturate.
        method: a name of `THRESHOLDS`, or "user".
        digest: fingerprint of the histogram; "" where there was none.
    """

    min: float
    max: float
    method: str
    digest: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges for every activation of a model; see `ranges_file` for the file.

    Attributes:
        method: as asked for.
        num_samples: single samples seen.
        tensors: tensor name -> its range.
        trials: with "auto", what each method reached on samples held out, the best
            first.
        equalized: whether they are of the model as `equalize` changes it.
    """

    method: str
    num_samples: int
    tensors: dict[str, TensorRange]
    trials: tuple[auto.Trial, ...] = ()
    equalized: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_ranges(self.ranges)

    @property
    def ranges(self) -> Ranges:
        """Tensor name -> (min, max)."""
        return {name: (t.min, t.max) for name, t in self.tensors.items()}


# What a user may give in place of samples.
GivenRanges = Mapping[str, tuple[float, float]] | Calibration


def check_ranges(ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises ConfigError unless every range is one of float32 numbers."""
    for name, bounds in ranges.items():
        try:
            low, high = map(float, bounds)
            fits = low <= high and high - low <= _WIDEST  # False for NaN, too.
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise errors.ConfigError(
                f"The range of '{name}' is {bounds!r}; expected two finite numbers of "
                "float32, the smaller first."
            )


def check_ranges_of(ranges: GivenRanges, model: bytes) -> None:
    """Raises ConfigError unless there is a range for every activation of a model.

    Args:
        ranges: those of a `Calibration` must be of this very model.
        model: the prepared float `.tflite`.
    """
    if isinstance(ranges, Calibration):
        _check_equalized(ranges, model)
        ranges = ranges.ranges
    graph = tflite.read(model).graphs[0]
    names = [tensor.name for tensor in activations(graph)]
    missing = [name for name in names if name not in ranges]
    if missing:
        raise errors.ConfigError(
            f"ranges has {len(names) - len(missing)} of the model's {len(names)} "
            f"activations; '{missing[0]}' is missing. Calibrate this very file, or "
            "give samples for the rest."
        )


def _check_equalized(ranges: Calibration, model: bytes) -> None:
    if ranges.equalized == is_equalized(model):
        return
    raise errors.ConfigError(
        f"The ranges are of a model that was {'' if ranges.equalized else 'not '}"
        f"equalized, the model was {'not' if ranges.equalized else 'so'}. Calibrate "
        "this very file, or let quantize_accurately equalize it by the same samples."
    )


def ranges_for(
    source: bytes,
    given: GivenRanges,
    *,
    samples: Samples | None,
    method: str,
    also: Also | None = None,
) -> Calibration:
    """Takes the ranges given, and chooses those that are not.

    Args:
        source: the prepared float model.
        given: for any of its activations; a `Calibration` is for all of them.
        samples: needed where an activation has no range.
        method: a name of `method_names()`.
        also: as in `calibrate`.

    Raises:
        ConfigError: ranges of another model, or too few and no samples.
    """
    names = [tensor.name for tensor in activations(tflite.read(source).graphs[0])]
    is_whole = isinstance(given, Calibration)
    if isinstance(given, Calibration):
        known = given.tensors
    else:
        check_ranges(given)
        known = {
            name: TensorRange(float(low), float(high), "user")
            for name, (low, high) in given.items()
        }
    missing = [name for name in names if name not in known]
    unknown = sorted(set(known) - set(names))
    if is_whole and (missing or unknown):
        raise errors.ConfigError(
            f"The ranges are of another model: {len(missing)} of this one's "
            f"{len(names)} activations have none, '{(missing or unknown)[0]}' is in "
            "one of the two only. Calibrate this very file."
        )
    if is_whole or samples is None:
        check_ranges_of(given, source)
    if unknown:
        raise registry.unknown_name("tensor in ranges", unknown[0], known=names)
    chosen = given if isinstance(given, Calibration) else Calibration("user", 0, {})
    if missing and samples is not None:
        chosen = calibrate(source, samples, method=method, also=also)
    merged = {name: known.get(name) or chosen.tensors[name] for name in names}
    return dataclasses.replace(chosen, tensors=merged)


def method_names() -> list[str]:
    """Returns the names that `calibrate` takes, sorted."""
    return sorted([*THRESHOLDS.names(), auto.NAME])


@checks.by_name
def calibrate(
    model: bytes,
    samples: Samples,
    *,
    method: str = "minmax",
    exact: bool = False,
    num_threads: int = 1,
    also: Also | None = None,
) -> Calibration:
    """Runs a float `.tflite` over samples and chooses a range for every activation.

    Args:
        model: the float `.tflite`.
        samples: as `collect` takes them; about 300.
        method: a name of `method_names()`. "auto" keeps every fifth sample, at most
            64, aside, tries all methods on them and then tensor by tensor; the ranges
            are then chosen from all samples.
        exact: histograms count every element, not every k-th of a large tensor.
        num_threads: threads of the runtime.
        also: the prepared model -> what is to see which tensors on the way; not with
            "auto", which does not take the samples in order.

    Raises:
        ConfigError: no such method, no samples, or a sample that does not fit.
        QuantizationError: the model is quantized already, or an activation is NaN.
    """
    if method not in method_names():
        raise registry.unknown_name("calibration", method, known=method_names())
    source = prepare(model)
    run = functools.partial(gather, source, exact=exact, num_threads=num_threads)
    if method == auto.NAME:
        held_out = auto.HeldOut(samples, tflite.read(source))
        seen, count = run(held_out, statistic=Histogram)
        ranges = {
            name: choose(source, seen, threshold=THRESHOLDS.get(name))
            for name in auto.METHODS
        }
        methods, trials = auto.search(source, ranges, samples=held_out.kept)
        # What was held out to choose the methods is as good as the rest for ranges,
        # except where it would be the last of a sequence.
        add = functools.partial(collect, source, held_out.kept, num_threads=num_threads)
        count += add(statistic=lambda tensor: seen[tensor.name])[1]
        best = _by_method(source, seen, methods=methods) | {
            name: ranges[chosen][name]
            for name, chosen in methods.items()
            if THRESHOLDS.get(chosen).follows_order
        }
    else:
        threshold = THRESHOLDS.get(method)
        onlookers = also(source) if also else None
        seen, count = run(samples, statistic=threshold.statistic, also=onlookers)
        best, trials = choose(source, seen, threshold=threshold), []
        methods = dict.fromkeys(best, method)
    digests = {name: getattr(seen[name], "digest", "") for name in best}
    found = {n: TensorRange(*b, methods[n], digests[n]) for n, b in best.items()}
    return Calibration(
        method=method,
        num_samples=count,
        tensors=found,
        trials=tuple(trials),
        equalized=is_equalized(source),
    )


def _by_method(
    source: bytes, seen: Mapping[str, Any], *, methods: Mapping[str, str]
) -> Ranges:
    """Chooses each tensor's range by the method named for it."""
    found: Ranges = {}
    for method in dict.fromkeys(methods.values()):
        own = {name: seen[name] for name in methods if methods[name] == method}
        found |= choose(source, own, threshold=THRESHOLDS.get(method))
    return {name: found[name] for name in methods}


def gather(
    source: bytes,
    samples: Samples,
    *,
    statistic: type[Extremes],
    exact: bool = False,
    num_threads: int = 1,
    also: Mapping[str, Statistic] | None = None,
) -> tuple[dict[str, Any], int]:
    """Fills `statistic` for every activation of a prepared model; see `collect`."""
    make = functools.partial(Histogram, exact=True) if exact else statistic
    return collect(
        source,
        samples,
        statistic=make if statistic is Histogram else statistic,
        also=also,
        num_threads=num_threads,
    )


def choose(source: bytes, seen: Mapping[str, Any], *, threshold: Threshold) -> Ranges:
    """Chooses a range for every tensor; outputs are spared where the method says so.

    Masks keep their true range, by which they are known. Infinities, which no range
    holds, count as masks, unless all that happens to them is a max pooling, to which
    the least level does as well.
    """
    graph = tflite.read(source).graphs[0]
    extremes = {name: _extremes(s, name, graph=graph) for name, s in seen.items()}
    spared = set(masks.masked_tensors(graph, extremes))
    if threshold.spares_outputs:
        spared |= logits(graph)
    return {
        name: extremes[name] if name in spared else threshold.choose(statistic)
        for name, statistic in seen.items()
    }


def _extremes(seen: Any, name: str, *, graph: tflite.Graph) -> tuple[float, float]:
    """Returns the true range, infinities included as `masks.MASK`."""
    below, above = seen.is_unbounded
    if below or above:
        (index,) = (t.index for t in graph.tensors if t.name == name)
        if {op.name for op in graph.consumers.get(index, [])} == {"MAX_POOL_2D"}:
            below = above = False
    low, high = seen.range
    return -masks.MASK if below else low, masks.MASK if above else high


def logits(graph: tflite.Graph) -> set[str]:
    """Returns the outputs' names, and what a softmax or sigmoid makes them of."""
    found = set()
    for tensor in graph.outputs:
        found.add(tensor.name)
        op = graph.producers.get(tensor.index)
        if op is not None and op.name in ops.tflite("probability"):
            found.add(graph.tensors[op.inputs[0]].name)
    return found
