"""Accuracy back without training: kernels re-fitted to what the original computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.methods import evidence
from tfslim.pruning import channels as channels_lib

_FITTED = ("Conv2D", "Dense")
# Rows of the least-squares problem per unknown: below two the fit follows noise.
_ROWS_PER_UNKNOWN = 4
_MAX_ROWS = 20_000


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction did.

    Attributes:
        errors: layer -> relative error of its output against the original's on the
            samples, before and after the fit.
        left_alone: layer that lost inputs -> why it was not fitted.
    """

    errors: Mapping[str, tuple[float, float]]
    left_alone: Mapping[str, str]


def reconstruct_kernels(
    original: Any,
    smaller: Any,
    keep: Mapping[str, channels_lib.Mask],
    data: Iterable[Any],
    *,
    ridge: float = 1e-3,
    seed: int = 0,
) -> tuple[Any, Reconstruction]:
    """Re-fits every layer that lost inputs to what it gave in the original.

    Layer by layer in the order of the graph: kernel and bias are the ridge regression
    from what reaches the layer now, after the layers before it were fitted, to what it
    gave before the cut. The pull is towards the cut kernel, not towards zero, so that
    few samples do little harm.
    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks",
    ICCV 2017, https://arxiv.org/abs/1707.06168, section 3.1, step (ii).

    Args:
        original: the model before the cut.
        smaller: what `prune_channels` made of it; not changed.
        keep: the report's `keep`.
        data: batches of inputs or `(inputs, targets)`; some hundred samples.
        ridge: weight of the pull, in units of the mean squared input.
        seed: of the choice of positions.

    Returns:
        The fitted model, not compiled, and what was done.

    Raises:
        DataError: there are no batches.
    """
    kind = graph_keras.keras_of(smaller)
    before, after = graph_keras.read(original), graph_keras.read(smaller)
    batches = [evidence.inputs_of(batch) for batch in data]
    if not batches:
        raise errors.DataError("Reconstruction needs data: there was no batch.")
    lost = _layers_that_lost_inputs(before, keep)
    left = {name: why for name, why in lost.items() if why}
    names = [name for name, why in lost.items() if not why]
    old, new = _Inputs(before, kind, names), _Inputs(after, kind, names)
    kept_outputs = _kept_outputs(before, keep, names)
    changed: dict[str, ir.Layer] = {}
    found: dict[str, tuple[float, float]] = {}
    for name in names:
        problem = _Problem(before.layers[name], after.layers[name], kept_outputs[name])
        for batch in batches:
            problem.add(old.of(name, batch), new.of(name, batch), seed)
        layer, error = problem.solve(ridge)
        new.set_weights(layer)
        changed[name], found[name] = layer, error
    return graph_keras.write(after.with_layers(changed), kind), Reconstruction(
        found, left
    )


def _layers_that_lost_inputs(
    graph: ir.Graph, keep: Mapping[str, channels_lib.Mask]
) -> dict[str, str]:
    """Returns the layers whose kernels were cut on the input side, "" or why not."""
    channels = channels_lib.analyze(graph)
    mask = channels.mask(keep)
    calls: dict[str, int] = {}
    for node in graph.nodes:
        calls[node.layer] = calls.get(node.layer, 0) + 1
    lost: dict[str, str] = {}
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        layer = graph.layer_of(node)
        summed = wiring.sums.get("kernel")
        if summed is None or layer.name in lost:
            continue
        taken = wiring.weights["kernel"][summed]
        if taken is None or mask[taken].all():
            continue
        reason = ""
        if layer.op not in _FITTED:
            reason = f"{layer.op} is not fitted"
        elif layer.config.get("groups", 1) != 1:
            reason = "has groups"
        elif calls[layer.name] > 1:
            reason = "is called more than once"
        lost[layer.name] = reason
    return lost


def _kept_outputs(
    graph: ir.Graph, keep: Mapping[str, channels_lib.Mask], names: list[str]
) -> dict[str, channels_lib.Mask]:
    channels = channels_lib.analyze(graph)
    mask = channels.mask(keep)
    return {
        node.layer: mask[wiring.weights["kernel"][-1]]
        for node, wiring in zip(graph.nodes, channels.wirings, strict=True)
        if node.layer in names
    }


class _Inputs:
    """Runs a model for what reaches its layers."""

    def __init__(self, graph: ir.Graph, kind: graph_keras.KerasName, names: list[str]):
        refs = {n.layer: n.inputs[0] for n in graph.nodes if n.layer in names}
        self._names = names
        # The model's own outputs too: writing leaves out what no output needs.
        ends = [*(refs[name] for name in names), *graph.output_refs]
        probe = dataclasses.replace(graph, outputs=ends)
        self._model = graph_keras.write(probe, kind)
        self._variables = graph_keras.variables(probe, self._model)

    def of(self, name: str, batch: Any) -> ir.Array:
        outputs = self._model(batch, training=False)
        return np.asarray(outputs[self._names.index(name)])

    def set_weights(self, layer: ir.Layer) -> None:
        for weight, variable in self._variables.get(layer.name, {}).items():
            variable.assign(layer.weights[weight])


class _Problem:
    """The normal equations of one layer, in float64."""

    def __init__(self, old: ir.Layer, new: ir.Layer, outputs: channels_lib.Mask):
        self._old, self._new, self._outputs = old, new, outputs
        self._unknowns = int(np.prod(new.weights["kernel"].shape[:-1])) + 1
        self._rows: list[ir.Array] = []
        self._targets: list[ir.Array] = []

    def add(self, old_input: ir.Array, new_input: ir.Array, seed: int) -> None:
        """Adds positions of one batch, the same in both models."""
        rows = _patches(self._new, new_input)
        weights = self._old.weights
        target = _patches(self._old, old_input) @ _matrix(weights["kernel"])
        if "bias" in weights:
            target = target + weights["bias"]
        limit = min(_MAX_ROWS, _ROWS_PER_UNKNOWN * self._unknowns)
        if len(rows) > limit:
            chosen = np.random.default_rng(seed).choice(len(rows), limit, replace=False)
            rows, target = rows[chosen], target[chosen]
        self._rows.append(rows)
        self._targets.append(target[:, self._outputs])

    def solve(self, ridge: float) -> tuple[ir.Layer, tuple[float, float]]:
        rows = np.concatenate(self._rows).astype(np.float64)
        target = np.concatenate(self._targets).astype(np.float64)
        kernel = self._new.weights["kernel"]
        start = _matrix(kernel).astype(np.float64)
        bias = self._new.weights.get("bias")
        if bias is not None:
            rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
            start = np.concatenate([start, bias[None].astype(np.float64)])
        rest = target - rows @ start
        gram = rows.T @ rows
        gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
        fitted = start + np.linalg.solve(gram, rows.T @ rest)
        scale = np.linalg.norm(target) or 1.0
        error = (
            float(np.linalg.norm(rest) / scale),
            float(np.linalg.norm(target - rows @ fitted) / scale),
        )
        weights = dict(self._new.weights)
        count = len(fitted) - (bias is not None)
        weights["kernel"] = fitted[:count].reshape(kernel.shape).astype(kernel.dtype)
        if bias is not None:
            weights["bias"] = fitted[-1].astype(bias.dtype)
        return dataclasses.replace(self._new, weights=weights), error


def _matrix(kernel: ir.Array) -> ir.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _patches(layer: ir.Layer, inputs: ir.Array) -> ir.Array:
    """Returns [positions, unknowns]: what each output of the layer sums over."""
    if layer.op == "Dense":
        return inputs.reshape(-1, inputs.shape[-1])
    height, width = layer.config["kernel_size"]
    strides, rates = layer.config["strides"], layer.config["dilation_rate"]
    patches = tf.image.extract_patches(
        inputs,
        sizes=[1, height, width, 1],
        strides=[1, *strides, 1],
        rates=[1, *rates, 1],
        padding=layer.config["padding"].upper(),
    )
    return patches.numpy().reshape(-1, height * width * inputs.shape[-1])
