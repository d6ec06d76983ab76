"""Scores by the error of the outputs if what reads a channel is fitted to the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors
from tfslim.graph import count, ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import least_squares, patches, places, scores, surgery
from tfslim.training import training

# The name of the criterion; it looks at readers of channels, not at their makers.
NAME = "reconstruction"
# Towards what no sample shows, in units of the mean squared unknown.
_RIDGE = 1e-3
_ROWS_PER_UNKNOWN = 12
_MAX_ROWS = 20_000
_SATURATED = ("softmax", "sigmoid")


def score(
    channels: channels_lib.Channels,
    kind: graph_keras.KerasName,
    *,
    batches: Sequence[Any],
    per: str = "macs",
) -> scores.Scores:
    """Scores channels by what their removal adds to the error of the model's outputs.

    The channels of a group are removed one by one, each time the one that is missed
    least after all layers that read the group were fitted to the rest
    (`least_squares.eliminate`). The squared error of a layer's output counts as it
    moves the model's outputs: by their squared gradient, estimated with random signs.
    A score is this error over what the removal of a channel saves, never less than that
    of a channel that goes before: comparable among all groups. Labels are not needed.

    Args:
        channels: the analysis of the model's graph.
        kind: the Keras to run it in.
        batches: of inputs or `(inputs, targets)`; some hundred samples.
        per: what is to be saved, a sum of `graph.count`: `macs`, `params` or
            `weight_bytes`.

    Raises:
        ConfigError: there are no batches.
    """
    if not batches:
        raise errors.ConfigError(
            f"The criterion '{NAME}' looks at what reaches each layer: pass data, "
            "batches of inputs; it needs no targets and no loss."
        )
    readers, unscored = _readers(channels)
    wanted = list(dict.fromkeys(name for names in readers.values() for name in names))
    problems = {name: _Reader(channels.graph, name, len(batches)) for name in wanted}
    _run(channels.graph, kind, readers=list(problems.values()), batches=batches)
    cost = getattr(count.count(channels.graph), per)
    found = {}
    for group in channels.groups:
        if group.name not in readers:
            continue
        kept = np.zeros(len(group), bool)
        kept[0] = True
        least, _ = surgery.cut_channels(
            channels.graph, {group.name: kept}, channels=channels
        )
        saved = (cost - getattr(count.count(least), per)) / max(1, len(group) - 1)
        systems = [
            problems[name].system(channels, group) for name in readers[group.name]
        ]
        found[group.name] = _removal_errors(systems, len(group)) / max(saved, 1.0)
    return scores.Scores(found, unscored)


def _readers(
    channels: channels_lib.Channels,
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Returns the layers that read each group; and groups -> why they have no score."""
    graph, calls = channels.graph, places.Places(channels.graph)
    owners = np.full(channels.num_labels, -1)
    for number, group in enumerate(channels.groups):
        owners[group.labels] = number
    found: dict[str, list[str]] = {}
    unscored: dict[str, str] = {}
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        layer = graph.layer_of(node)
        for weight, axis in wiring.sums.items():
            vector = wiring.weights[weight][axis]
            if vector is None:
                continue
            numbers = np.unique(owners[vector])
            why = patches.why_not(layer, calls)
            for number in numbers[numbers >= 0]:
                name = channels.groups[number].name
                if why is not None:
                    unscored[name] = f"'{layer.name}' reads it: {why}"
                found.setdefault(name, []).append(layer.name)
    for group in channels.groups:
        if group.name not in found:
            unscored.setdefault(group.name, "no kernel reads it")
    return {n: r for n, r in found.items() if n not in unscored}, unscored


class _Reader:
    """A layer that reads channels: its Gram matrix, and what its errors count."""

    def __init__(self, graph: ir.Graph, name: str, num_batches: int):
        self.name, self.layer = name, graph.layers[name]
        self.place = places.Places(graph).of(name)
        self._kernel = patches.matrix(self.layer.weights["kernel"])
        total = min(_MAX_ROWS, _ROWS_PER_UNKNOWN * len(self._kernel))
        self._rows_per_batch = -(-total // num_batches)
        self._gram = np.zeros((len(self._kernel),) * 2, np.float32)
        self._sum = np.zeros(len(self._kernel))
        self._rows = self._samples = 0
        self._weights = np.zeros(self._kernel.shape[1])

    def add(
        self, inputs: ir.Array, gradients: ir.Array, random: np.random.Generator
    ) -> None:
        """Adds what reaches the layer, and the gradient by what it gives."""
        positions = patches.num_positions(self.layer, inputs)
        chosen = np.arange(positions)
        if positions > self._rows_per_batch:
            chosen = random.choice(positions, self._rows_per_batch, replace=False)
        rows = patches.patches(self.layer, inputs, positions=chosen).astype(np.float32)
        self._gram += rows.T @ rows
        self._sum += rows.sum(0, np.float64)
        self._rows += len(rows)
        squares = np.square(patches.outputs(self.layer, gradients), dtype=np.float64)
        self._weights += squares.sum(axis=0)
        self._samples += len(inputs)

    def system(
        self, channels: channels_lib.Channels, group: channels_lib.Group
    ) -> tuple[ir.Array, ir.Array, list[ir.Array]]:
        """Returns Gram matrix, weighted kernel, and the unknowns of each channel."""
        middle = self._sum / self._rows
        gram = self._gram.astype(np.float64) / self._rows - np.outer(middle, middle)
        ridge = _RIDGE * np.trace(gram) / len(gram)
        gram[np.diag_indices_from(gram)] += max(ridge, 1e-12)
        weights = np.sqrt(self._weights / self._samples)
        wiring = channels.wirings[self.place.node]
        labels = np.asarray(wiring.weights["kernel"][wiring.sums["kernel"]])
        # Every position of a kernel reads the channels in the same order.
        unknowns = np.resize(labels, len(self._kernel))
        blocks = [np.flatnonzero(unknowns == label) for label in group.labels]
        return gram, self._kernel.astype(np.float64) * weights, blocks


def _removal_errors(
    systems: Sequence[tuple[ir.Array, ir.Array, list[ir.Array]]], number: int
) -> ir.Array:
    """Returns what the removal of each channel adds, at least what earlier ones add."""
    added = np.zeros(number)
    worst = 0.0
    for channel, error in least_squares.eliminate(systems):
        # Of two the one that goes first has to score less.
        worst = max(worst * (1.0 + 1e-9), error)
        added[channel] = worst
    return added


def _run(
    graph: ir.Graph,
    kind: graph_keras.KerasName,
    *,
    readers: Sequence[_Reader],
    batches: Sequence[Any],
) -> None:
    """Shows the readers every batch."""
    graph = _before_saturation(graph)
    ours = [
        *(reader.place.inputs for reader in readers),
        *(ir.TensorRef(reader.place.node) for reader in readers),
    ]
    probe = dataclasses.replace(graph, outputs=[*graph.output_refs, *ours])
    model = keras_run.write(probe, kind)
    num_outputs = len(graph.output_refs)
    for number, batch in enumerate(batches):
        random = np.random.default_rng([0, number])
        with tf.GradientTape() as tape:
            tensors = model(training.inputs_of(batch), training=False)
            ends = [t for t in tensors[:num_outputs] if t.dtype.is_floating]
            total = tf.add_n([tf.zeros(()), *(_signed(t, random) for t in ends)])
        inputs = tensors[num_outputs : num_outputs + len(readers)]
        made = tensors[num_outputs + len(readers) :]
        gradients = tape.gradient(
            total, made, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        for reader, x, gradient in zip(readers, inputs, gradients, strict=True):
            reader.add(np.asarray(x), np.asarray(gradient), random)


def _signed(output: Any, random: np.random.Generator) -> Any:
    """Returns the sum of an output times random signs, in units of its spread."""
    output = tf.cast(output, tf.float32)
    values = np.asarray(output)
    spread = float(values.std()) or 1.0
    signs = random.choice([-1.0, 1.0], values.shape) / spread
    return tf.reduce_sum(output * tf.constant(signs, tf.float32))


def _before_saturation(graph: ir.Graph) -> ir.Graph:
    """Returns the graph that ends before a softmax or sigmoid, whose slope vanishes."""
    changed, ends = {}, []
    for ref in graph.output_refs:
        node = graph.nodes[ref.node]
        layer = graph.layer_of(node)
        if layer.config.get("activation") in _SATURATED and layer.op != "Activation":
            config = {**layer.config, "activation": "linear"}
            changed[layer.name] = dataclasses.replace(layer, config=config)
        elif len(node.inputs) == 1 and (
            layer.op.lower() in _SATURATED
            or layer.config.get("activation") in _SATURATED
        ):
            ref = node.inputs[0]
        ends.append(ref)
    return dataclasses.replace(graph.with_layers(changed), outputs=ends)
