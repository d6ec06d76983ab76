"""Times of a few cuts of a model, measured before anything is trained.

How long a run takes depends on the widths, not on the weights: a model is cut, made a
file and timed in seconds. Predictions from the whole model's ops miss what only smaller
models do, such as staying in the processor's cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfslim import benchmark, convert, errors, quantization
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib
from tfslim.pruning import surgery
from tfslim.quantization.quantize import quantize
from tfslim.search import choose, space

OnStep = Callable[[str], None]
# A predicted cost -> the same with the latency that was measured of such.
Correct = Callable[[space.Cost], space.Cost]

# Steps of a way that are timed, the whole model and the smallest included.
_POINTS = 5
# Samples that integer files are calibrated with.
_SAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Cutter:
    """Makes files of choices, untrained.

    Attributes:
        channels: of the model's graph.
        scores: which channels go first.
        kind: the model's Keras.
        inputs: arrays [n, ...], one an input.
        options: of timing.
    """

    channels: channels_lib.Channels
    scores: scores_lib.Scores
    kind: graph_keras.KerasName
    inputs: Sequence[np.ndarray]
    options: benchmark.Options

    def file(self, choice: space.Choice) -> bytes:
        """Returns the `.tflite` of a choice.

        Raises:
            TfslimError: it cannot be made.
        """
        ratios = dict(choice.ratios)
        keep = {
            name: budget_lib.select_channels(
                scores, pruning_ratio=ratios.get(name, 0.0), divisor=space.DIVISOR
            )
            for name, scores in self.scores.groups.items()
        }
        graph = self.channels.graph
        smaller, _ = surgery.cut_channels(graph, keep, channels=self.channels)
        model = graph_keras.write(smaller, self.kind)
        content = convert.convert_model(model).tflite
        if choice.recipe == "float32":
            return content
        columns = [x[:_SAMPLES, np.newaxis] for x in self.inputs]
        rows: list[Any] = list(zip(*columns, strict=True))
        samples = [row[0] for row in rows] if len(columns) == 1 else rows
        # Not `quantize_tflite`, which warns of the samples for each cut anew.
        return quantize(
            content,
            quantization.get_recipe(choice.recipe),
            options=quantization.Options(),
            samples=samples,
        ).tflite


def correction(
    way: Sequence[choose.Step], cutter: Cutter, *, on_step: OnStep
) -> Correct:
    """Times some steps of a way, and returns what turns predictions into measurements.

    Between the steps timed, the ratio of measured to predicted latency is interpolated
    over the logarithm of the predicted one. Where nothing can be made, predictions stay
    as they are, and `on_step` is told why.

    Args:
        way: as `choose.path` gives it.
        cutter: makes and times files.
        on_step: called with a line of text before it, and where it fails.
    """
    predicted = np.array([step.cost.latency_us for step in way])
    wanted = np.geomspace(predicted.max(), predicted.min(), _POINTS)
    places = sorted({int(np.abs(predicted - us).argmin()) for us in wanted})
    on_step(f"timing {len(places)} cuts in {way[0].choice.recipe}, untrained")
    try:
        made = {str(place): cutter.file(way[place].choice) for place in places}
        found = benchmark.run_host(made, cutter.options)
    except errors.TfslimError as error:
        on_step(f"they could not be timed, predictions stay as they are: {error}")
        return lambda cost: cost
    measured = {int(row.name): row.latency.p50 for row in found if row.latency.p50}
    if not measured:
        return lambda cost: cost
    return interpolated(predicted[list(measured)], list(measured.values()))


def interpolated(predicted: np.ndarray, measured: Sequence[float]) -> Correct:
    """Returns what corrects a predicted latency by those that were measured.

    Args:
        predicted: latencies of a few costs, in microseconds.
        measured: what they took.
    """
    order = np.argsort(predicted)
    at = np.log(predicted[order])
    factors = np.log(np.asarray(measured)[order]) - at

    def corrected(cost: space.Cost) -> space.Cost:
        factor = float(np.exp(np.interp(np.log(cost.latency_us), at, factors)))
        return dataclasses.replace(cost, latency_us=cost.latency_us * factor)

    return corrected
