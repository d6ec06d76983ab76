"""What is wrong with a quantized file, and the line that mends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from tfslim import checks, preprocessing, tflite
from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.ranges import levels
from tfslim.quantization.ranges.calibration import Calibration, check_ranges_of, logits
from tfslim.quantization.ranges.collect import Samples, collect, kept_singles
from tfslim.quantization.ranges.statistics import ChannelExtremes
from tfslim.quantization.rules.preprocess_model import prepare

# An input range that differs by more was preprocessed in another way.
_OTHER_RANGE = 2.0
# And so was one of which more lies beyond it.
_OTHER_PLACE = 0.05
# Methods clip at most some 0.1% on purpose.
_SATURATED = 0.01
_DEAD = 0.5
_LEAST_DB = 5.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: "data", "few levels", "saturation", "dead channels", "one class",
            "error" or "integers".
        where: tensor or Keras layer.
        text: what was measured, and what to do.
    """

    kind: str
    where: str
    text: str


class _Seen(ChannelExtremes):
    """Extremes, the share beyond a range, and the channels that never move."""

    def __init__(self, tensor: tflite.Tensor, bounds: tuple[float, float]):
        super().__init__(tensor)
        self._bounds = bounds
        self._beyond = self._total = 0

    def update(self, values: np.ndarray) -> None:
        super().update(values)
        low, high = self._bounds
        # Half a percent of the range beyond its end is rounding, not clipping.
        slack = 0.005 * (high - low)
        self._beyond += int(((values < low - slack) | (values > high + slack)).sum())
        self._total += values.size

    @property
    def range(self) -> tuple[float, float]:
        return float(self.min.min()), float(self.max.max())

    @property
    def beyond(self) -> float:
        return self._beyond / max(self._total, 1)

    @property
    def still(self) -> float:
        return float((self.min == self.max).mean())


@checks.by_name
def diagnose(
    model: bytes,
    quantized: bytes,
    *,
    ranges: Mapping[str, tuple[float, float]] | Calibration,
    samples: Samples,
) -> list[Finding]:
    """Looks for the usual faults of a static INT8 file.

    Args:
        model: the float `.tflite`.
        quantized: the file made from it.
        ranges: what it was made with: tensor name -> (min, max), or a `Calibration`,
            which knows its methods, too.
        samples: inputs as the app will give them, about 32; not those calibrated
            with. All are kept in memory.

    Returns:
        The faults found, the likeliest cause first; empty for a healthy file.

    Raises:
        ConfigError: `ranges` are of another model, or there is no sample.
    """
    source = prepare(model)
    content = tflite.read(source)
    graph = content.graphs[0]
    check_ranges_of(ranges, source)
    methods = {}
    if isinstance(ranges, Calibration):
        methods = {name: found.method for name, found in ranges.tensors.items()}
        ranges = ranges.ranges
    kept = kept_singles(samples, content)
    seen, _ = collect(source, kept, statistic=lambda t: _Seen(t, ranges[t.name]))
    names = LayerNames(content)
    layers = {
        graph.tensors[i].name: names.first(op) or graph.tensors[i].name
        for i, op in graph.producers.items()
    }
    found = [*_data(graph, ranges, seen=seen)]
    # What stays float neither lacks levels nor saturates.
    is_float = _floats(tflite.read(quantized).graphs[0])
    places = {name: place for name, place in layers.items() if name not in is_float}
    # Each would be the cause of the next.
    found = found or [
        Finding("few levels", where, text)
        for where, text in levels.narrow_inputs(
            content,
            {name: one.range for name, one in seen.items() if one.min.size},
            kept_float=is_float,
        )
    ]
    found = found or _few_levels(places, ranges, seen=seen)
    found += _saturation(places, methods, seen=seen)
    found += _dead(graph, layers, seen=seen)
    found += _answers(model, quantized, samples=kept, graph=graph)
    return found or [*_errors(source, quantized, samples=kept)]


def _floats(graph: tflite.Graph) -> set[str]:
    """Names what is computed in float, which a float copy of integers is not."""
    return {
        tensor.name
        for tensor in graph.tensors
        if "float" in tensor.dtype and graph.stored(tensor.index) is tensor
    }


def _data(
    graph: tflite.Graph,
    ranges: Mapping[str, tuple[float, float]],
    *,
    seen: Mapping[str, _Seen],
) -> Iterator[Finding]:
    for name in [tensor.name for tensor in graph.inputs if tensor.name in seen]:
        (low, high), (least, most) = ranges[name], seen[name].range
        width, other = high - low, most - least
        is_wide = width / _OTHER_RANGE <= other <= width * _OTHER_RANGE
        if not is_wide or seen[name].beyond > _OTHER_PLACE:
            text = (
                f"The calibration samples span [{low:.4g}, {high:.4g}], these inputs "
                f"[{least:.4g}, {most:.4g}]: preprocess both in the same way."
            )
            yield Finding("data", name, text)


def _few_levels(
    places: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    seen: Mapping[str, _Seen],
) -> list[Finding]:
    found = []
    for name in places.keys() & seen.keys():
        low, high = seen[name].range
        if preprocessing.has_few_levels(high - low, ranges[name]):
            count = preprocessing.levels_used(high - low, ranges[name])
            text = (
                f"Its values span [{low:.4g}, {high:.4g}], {count:.0f} of 256 levels: "
                f"keep it in float, --layers={places[name]}=float32."
            )
            found.append((count, Finding("few levels", places[name], text)))
    return [finding for _, finding in sorted(found, key=lambda pair: pair[0])]


def _saturation(
    places: Mapping[str, str], methods: Mapping[str, str], *, seen: Mapping[str, _Seen]
) -> Iterator[Finding]:
    for name in sorted(filter(places.get, seen), key=lambda n: -seen[n].beyond):
        if seen[name].beyond > _SATURATED:
            wider = "" if methods.get(name) == "minmax" else ", or --calibration=minmax"
            text = (
                f"{seen[name].beyond:.1%} of its values lie beyond the calibrated "
                f"range: give more samples, like these inputs{wider}."
            )
            yield Finding("saturation", places[name], text)


def _dead(
    graph: tflite.Graph, layers: Mapping[str, str], *, seen: Mapping[str, _Seen]
) -> Iterator[Finding]:
    for op in graph.ops:
        name = graph.name_of(op)
        if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or name not in seen:
            continue
        if seen[name].still > _DEAD:
            text = (
                f"{seen[name].still:.0%} of its channels never change: the model does "
                "not use them; prune it (--prune=channels:0.5)."
            )
            yield Finding("dead channels", layers[name], text)


def _errors(
    source: bytes, quantized: bytes, *, samples: list[tflite.Inputs]
) -> Iterator[Finding]:
    if any(t.quantization for t in tflite.read(quantized).inputs):
        return
    for name, sqnr_db in FileErrors(source, samples).by_output(quantized).items():
        if sqnr_db < _LEAST_DB:
            text = (
                f"It comes to {sqnr_db:.1f} dB against the float model, zeros to 0: "
                "see what --sensitivity and --max_drop say."
            )
            yield Finding("error", name, text)


def _answers(
    model: bytes, quantized: bytes, *, samples: list[tflite.Inputs], graph: tflite.Graph
) -> list[Finding]:
    outputs = tflite.read(quantized).outputs
    found = [
        Finding(
            "integers",
            tensor.name,
            f"This output is {tensor.dtype}: an app must compute "
            f"{tensor.quantization.scale[0]:.6g} * (q - "
            f"{tensor.quantization.zero_point[0]}), or use io='float'.",
        )
        for tensor in outputs
        if tensor.quantization is not None
    ]
    takes_integers = any(t.quantization for t in tflite.read(quantized).inputs)
    if found or takes_integers or len(samples) < 8:
        return found
    first = graph.outputs[0]
    if len(first.shape) != 2 or first.shape[1] < 2 or first.name not in logits(graph):
        return found
    chosen = [
        {int(next(iter(runner(x).values())).argmax()) for x in samples}
        for runner in (tflite.Runner(model), tflite.Runner(quantized))
    ]
    if len(chosen[1]) == 1 < len(chosen[0]):
        found.append(
            Finding(
                "one class",
                first.name,
                f"It answers class {chosen[1].pop()} for every input, the float model "
                f"{len(chosen[0])} classes: look at the findings above, then use "
                "--max_drop.",
            )
        )
    return found
