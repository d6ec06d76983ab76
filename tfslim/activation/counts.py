"""How often the units of a model are active on data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfslim import errors, ops
from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.training import training

# Activations of which only the positive side counts as active.
_RECTIFIERS = ops.keras("rectifier")
# What has its own nonlinearity, for which a count above zero means nothing.
_OTHERS = (
    (ops.keras("function") & ops.keras("elementwise"))
    | {"Softmax", "exponential", "log_sigmoid"}
) - _RECTIFIERS
# Ops behind an activation that leave a silent channel silent, or at least constant.
_TRANSPARENT = ops.keras(
    "pooling", "cropping", "upsampling", "padding", "moving", "idle", "silent"
)
_JOINS = ops.keras("joining")
_PRODUCTS = frozenset(["Multiply", "multiply"])


@dataclasses.dataclass(frozen=True)
class Activity:
    """How often the channels of a model were above zero on data.

    A channel whose values are read at several places, as along a residual trunk,
    counts where it is active most.

    Attributes:
        counts: group -> int64 [channels], values above zero behind the activation
            function, over samples and positions.
        rates: group -> float64 [channels], the same as shares of all values, 0..1.
        deviations: group -> float64 [channels], standard deviation of the values.
        uncounted: group -> why its channels have no count.
    """

    counts: Mapping[str, ir.Array]
    rates: Mapping[str, ir.Array]
    deviations: Mapping[str, ir.Array]
    uncounted: Mapping[str, str]


# What stays of a model, by its channels and how active they are.
Choice: TypeAlias = Callable[
    [channels_lib.Channels, Activity], Mapping[str, channels_lib.Mask]
]


def count_activations(model: Any, data: Any) -> Activity:
    """Counts, for every unit that could be removed, how often it is active.

    A unit of a Dense layer or a channel of a convolution is active where the output of
    its rectifier (such as ReLU, behind a batch normalization if there is one) is above
    zero. With a count of 0, and a ReLU, removing it changes nothing on the data.

    Source: Hu et al., "Network Trimming", 2016, https://arxiv.org/abs/1607.03250,
    whose APoZ is 1 - rate.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3.
        data: arrays (x, y) or x alone, batches of inputs or of (inputs, targets), or a
            function epoch -> batches.

    Raises:
        DataError: there are no batches.
    """
    kind = graph_keras.keras_of(model)
    channels = channels_lib.analyze(graph_keras.read(model))
    return count_channels(channels, kind, data=data)


def count_channels(
    channels: channels_lib.Channels, kind: graph_keras.KerasName, *, data: Any
) -> Activity:
    """Counts as `count_activations` does, for a graph whose channels are known."""
    places, uncounted = _places(channels)
    sums = _run(channels, kind, places=places, data=data) if places else {}
    counts, rates, deviations = np.zeros((3, channels.num_labels))
    for ref, (total, size) in sums.items():
        labels = _labels(channels, ref).reshape(-1)
        active, mean, square = total[0], total[1] / size, total[2] / size
        np.maximum.at(counts, labels, active)
        np.maximum.at(rates, labels, active / size)
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        np.maximum.at(deviations, labels, spread)
    counted = [group for group in channels.groups if group.name not in uncounted]
    return Activity(
        {group.name: counts[group.labels].astype(np.int64) for group in counted},
        {group.name: rates[group.labels] for group in counted},
        {group.name: deviations[group.labels] for group in counted},
        uncounted,
    )


def contributions(
    channels: channels_lib.Channels, activity: Activity
) -> dict[str, ir.Array]:
    """Returns each channel's part in what the next kernels see.

    It is the standard deviation of the channel's activations times the norm of the
    weights that read it, relative to its group: float64 [channels] in [0, 1]. The mean
    does not count, for a bias can replace it.
    """
    squares = np.zeros(channels.num_labels)
    for node, wiring in zip(channels.graph.nodes, channels.wirings, strict=True):
        for weight, axis in wiring.sums.items():
            labels = wiring.weights[weight][axis]
            if labels is not None:
                kernel = channels.graph.layers[node.layer].weights[weight]
                rows = np.moveaxis(kernel.astype(np.float64), axis, 0)
                rows = (rows**2).reshape(len(labels), -1).sum(axis=1)
                np.add.at(squares, labels, rows)
    found = {}
    for group in channels.groups:
        if group.name in activity.deviations:
            values = activity.deviations[group.name] * np.sqrt(squares[group.labels])
            found[group.name] = values / (np.linalg.norm(values) or 1.0)
    return found


def countable(channels: channels_lib.Channels) -> list[channels_lib.Group]:
    """Returns the groups whose activations can be counted."""
    _, uncounted = _places(channels)
    return [group for group in channels.groups if group.name not in uncounted]


def above(threshold: int | float) -> Choice:
    """Keeps the units above a threshold, and of each group the most active one."""

    def choose(
        channels: channels_lib.Channels, activity: Activity
    ) -> dict[str, channels_lib.Mask]:
        values = activity.counts if isinstance(threshold, int) else activity.rates
        keep = {name: value > threshold for name, value in values.items()}
        for name, kept in keep.items():
            kept[np.argmax(activity.rates[name])] = True
        return keep

    return choose


def without(number: int) -> Choice:
    """Keeps all but a number of units, those that contribute least."""

    def choose(
        channels: channels_lib.Channels, activity: Activity
    ) -> dict[str, channels_lib.Mask]:
        shares = contributions(channels, activity)
        keep = {name: np.ones(len(values), bool) for name, values in shares.items()}
        ranked = sorted(
            (share, name, place)
            for name, values in shares.items()
            for place, share in enumerate(values)
            if place != np.argmax(values)
        )
        for _, name, place in ranked[:number]:
            keep[name][place] = False
        return keep

    return choose


def _labels(channels: channels_lib.Channels, ref: ir.TensorRef) -> Any:
    return channels.wirings[ref.node].outputs[ref.port]


def _places(
    channels: channels_lib.Channels,
) -> tuple[list[ir.TensorRef], dict[str, str]]:
    """Returns where to count, and group -> why its channels are not counted."""
    finder = _Finder(channels.graph)
    places: dict[ir.TensorRef, None] = {}
    reasons: dict[int, str] = {}
    for node, wiring in zip(channels.graph.nodes, channels.wirings, strict=True):
        if not wiring.sums:
            continue
        for ref, reason in finder.origins(node.inputs[0]):
            if reason is None:
                places[ref] = None
            else:
                for label in _labels(channels, ref).reshape(-1).tolist():
                    reasons.setdefault(label, reason)
    seen = np.zeros(channels.num_labels, bool)
    for ref in places:
        seen[_labels(channels, ref)] = True
    uncounted = {
        group.name: next(
            (reasons[label] for label in group.labels.tolist() if label in reasons),
            "no kernel reads it behind an activation",
        )
        for group in channels.groups
        if not seen[group.labels].all() or not reasons.keys().isdisjoint(group.labels)
    }
    return list(places), uncounted


class _Finder:
    """Walks from what a kernel reads back to the activations that made it."""

    def __init__(self, graph: ir.Graph):
        self._graph = graph

    def origins(self, ref: ir.TensorRef) -> list[tuple[ir.TensorRef, str | None]]:
        """Returns tensors to count in, or tensors with the reason why not."""
        node = self._graph.nodes[ref.node]
        layer = self._graph.layer_of(node)
        name = _activation(layer)
        if name in _RECTIFIERS:
            return [(ref, None)]
        if name is not None:
            return [(ref, f"'{layer.name}' ends in {name}, not in a rectifier")]
        if layer.op in _TRANSPARENT:
            return self.origins(node.inputs[0])
        if layer.op in _JOINS:
            return [found for each in node.inputs for found in self.origins(each)]
        if layer.op in _PRODUCTS:
            # Zero times a gate is zero: one silent factor is enough.
            factors = [self.origins(each) for each in node.inputs]
            sure = [f for f in factors if all(reason is None for _, reason in f)]
            return (sure or factors)[0]
        return [(ref, f"'{layer.name}' ({layer.op}) has no activation behind it")]


def _activation(layer: ir.Layer) -> str | None:
    """Returns the nonlinearity that a layer ends in, None for none."""
    if layer.op in _RECTIFIERS | _OTHERS:
        return None if layer.op in _TRANSPARENT else layer.op
    activation = layer.config.get("activation") or "linear"
    if not isinstance(activation, str):
        return "a function of the user"
    return None if activation == "linear" else activation


def _run(
    channels: channels_lib.Channels,
    kind: graph_keras.KerasName,
    *,
    places: list[ir.TensorRef],
    data: Any,
) -> dict[ir.TensorRef, tuple[ir.Array, int]]:
    """Returns, for each place, sums [3, channels] and of how many values.

    The rows are the values above zero, the values, and their squares.
    """
    graph = channels.graph
    # The model's own outputs too: writing leaves out what no output needs.
    probe = dataclasses.replace(graph, outputs=[*graph.output_refs, *places])
    model = keras_run.write(probe, kind)
    axes = [_summed_axes(_labels(channels, ref)) for ref in places]

    def step(inputs: Any) -> Any:
        seen = model(inputs, training=False)[len(graph.output_refs) :]
        sums = []
        for tensor, summed in zip(seen, axes, strict=True):
            active = tf.math.count_nonzero(tensor > 0, axis=summed)
            tensor = tf.cast(tensor, tf.float32)
            moments = [tf.reduce_sum(each, axis=summed) for each in (tensor, tensor**2)]
            rows = [tf.cast(row, tf.float64) for row in (active, *moments)]
            rows = tf.stack([tf.reshape(row, [-1]) for row in rows])
            sums.append((rows, tf.size(tensor, tf.int64)))
        return sums

    totals: list[tuple[ir.Array, int]] = [(np.zeros((3, 1)), 0)] * len(places)
    for batch in training.batches(data):
        totals = [
            (total + rows.numpy(), size + int(number))
            for (total, size), (rows, number) in zip(
                totals, step(training.inputs_of(batch)), strict=True
            )
        ]
    if not totals[0][1]:
        raise errors.DataError("Counting activations needs data: there was no batch.")
    return {
        ref: (total, size // total.shape[1])
        for ref, (total, size) in zip(places, totals, strict=True)
    }


def _summed_axes(labels: Any) -> list[int]:
    return [axis for axis, size in enumerate(labels.shape) if size == 1]
