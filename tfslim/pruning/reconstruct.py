"""Accuracy back without training: kernels re-fitted to what the original computed."""

from __future__ import annotations

import collections
import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfslim import checks, errors
from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.training import training

_FITTED = ("Conv2D", "Dense")
# Rows of the least-squares problem per unknown: below two the fit follows noise, and
# those of one image are alike.
_ROWS_PER_UNKNOWN = 8
_MAX_ROWS = 20_000


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction did.

    Attributes:
        errors: layer -> relative error of its output against the original's on the
            samples, before and after the fit.
        skipped: layer that lost inputs -> why it was not fitted.
    """

    errors: Mapping[str, tuple[float, float]]
    skipped: Mapping[str, str]
    left_alone = checks.renamed("left_alone", "skipped")


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
    gave before the cut. The regularization is towards the cut kernel, not zero, so that
    few samples do little harm.
    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks",
    ICCV 2017, https://arxiv.org/abs/1707.06168, section 3.1, step (ii).

    Args:
        original: the model before the cut.
        smaller: what `prune_channels` made of it; not changed.
        keep: the report's `keep`.
        data: batches of inputs or `(inputs, targets)`; some hundred samples.
        ridge: weight of the regularization, in units of the mean squared input.
        seed: of the choice of positions.

    Returns:
        The fitted model, not compiled, and what was done.

    Raises:
        DataError: there are no batches.
    """
    kind = graph_keras.keras_of(smaller)
    before, after = graph_keras.read(original), graph_keras.read(smaller)
    batches = [training.inputs_of(batch) for batch in data]
    if not batches:
        raise errors.DataError("Reconstruction needs data: there was no batch.")
    kept_outputs, skipped = _layers_that_lost_inputs(before, keep)
    names = list(kept_outputs)
    problems = {
        name: _Problem(
            before.layers[name], after.layers[name], kept_outputs[name], len(batches)
        )
        for name in names
    }
    old, new = _Inputs(before, kind, names), _Inputs(after, kind, names)
    for number, batch in enumerate(batches):
        inputs = old.of_all(batch)
        for name, problem in problems.items():
            problem.add_targets(inputs[name], np.random.default_rng([seed, number]))
    changed: dict[str, ir.Layer] = {}
    found: dict[str, tuple[float, float]] = {}
    for name, problem in problems.items():
        rows = [
            problem.rows(number, new.of(name, batch))
            for number, batch in enumerate(batches)
        ]
        changed[name], found[name] = problem.solve(np.concatenate(rows), ridge)
        new.set_weights(changed[name])
    return graph_keras.write(after.with_layers(changed), kind), Reconstruction(
        found, skipped
    )


def _layers_that_lost_inputs(
    graph: ir.Graph, keep: Mapping[str, channels_lib.Mask]
) -> tuple[dict[str, channels_lib.Mask], dict[str, str]]:
    """Finds the layers whose kernels were cut on the input side.

    Returns:
        Layer to fit -> which of its outputs were kept; and layer -> why it is not.
    """
    channels = channels_lib.analyze(graph)
    mask = channels.mask(keep)
    calls = collections.Counter(node.layer for node in graph.nodes)
    fitted: dict[str, channels_lib.Mask] = {}
    skipped: dict[str, str] = {}
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        layer = graph.layer_of(node)
        summed = wiring.sums.get("kernel")
        taken = None if summed is None else wiring.weights["kernel"][summed]
        if taken is None or mask[taken].all():
            continue
        if layer.op not in _FITTED:
            skipped[layer.name] = f"{layer.op} is not fitted"
        elif layer.config.get("groups", 1) != 1:
            skipped[layer.name] = "has groups"
        elif calls[layer.name] > 1:
            skipped[layer.name] = "is called more than once"
        else:
            fitted[layer.name] = mask[wiring.weights["kernel"][-1]]
    return fitted, skipped


class _Inputs:
    """Runs a model for what reaches its layers."""

    def __init__(self, graph: ir.Graph, kind: graph_keras.KerasName, names: list[str]):
        refs = {n.layer: n.inputs[0] for n in graph.nodes if n.layer in names}
        self._names = names
        # The model's own outputs too: writing leaves out what no output needs.
        ends = [*(refs[name] for name in names), *graph.output_refs]
        probe = dataclasses.replace(graph, outputs=ends)
        self._model = keras_run.write(probe, kind)
        self._variables = graph_keras.variables(probe, self._model)
        keras = importlib.import_module(graph_keras.keras_of(self._model))
        # One for each layer: what comes behind it need not be computed.
        self._models = {
            name: keras.Model(self._model.input, output)
            for name, output in zip(names, self._model.outputs, strict=False)
        }

    def of_all(self, batch: Any) -> dict[str, ir.Array]:
        outputs = self._model(batch, training=False)
        return dict(zip(self._names, map(np.asarray, outputs), strict=False))

    def of(self, name: str, batch: Any) -> ir.Array:
        return np.asarray(self._models[name](batch, training=False))

    def set_weights(self, layer: ir.Layer) -> None:
        for weight, variable in self._variables.get(layer.name, {}).items():
            variable.assign(layer.weights[weight])


class _Problem:
    """The least squares of one layer, on positions chosen at random."""

    def __init__(
        self,
        old: ir.Layer,
        new: ir.Layer,
        outputs: channels_lib.Mask,
        num_batches: int,
    ):
        self._old, self._new, self._outputs = old, new, outputs
        unknowns = int(np.prod(new.weights["kernel"].shape[:-1])) + 1
        total = min(_MAX_ROWS, _ROWS_PER_UNKNOWN * unknowns)
        self._rows_per_batch = -(-total // num_batches)
        self._chosen: list[ir.Array] = []
        self._targets: list[ir.Array] = []

    def add_targets(self, inputs: ir.Array, random: np.random.Generator) -> None:
        """Chooses positions of a batch, and adds what the original gives there."""
        count = _num_positions(self._old, inputs)
        if count > self._rows_per_batch:
            chosen = random.choice(count, self._rows_per_batch, replace=False)
        else:
            chosen = np.arange(count)
        weights = self._old.weights
        target = _patches(self._old, inputs, chosen) @ _matrix(weights["kernel"])
        if "bias" in weights:
            target = target + weights["bias"]
        self._chosen.append(chosen)
        self._targets.append(target[:, self._outputs])

    def rows(self, batch: int, inputs: ir.Array) -> ir.Array:
        """Returns [positions, unknowns]: what reaches the chosen ones of a batch."""
        return _patches(self._new, inputs, self._chosen[batch])

    def solve(
        self, rows: ir.Array, ridge: float
    ) -> tuple[ir.Layer, tuple[float, float]]:
        """Returns the fitted layer, and its relative error before and after."""
        rows = rows.astype(np.float64)
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


def _num_positions(layer: ir.Layer, inputs: ir.Array) -> int:
    if layer.op == "Dense":
        return inputs.size // inputs.shape[-1]
    axes = [_axis(layer, inputs, axis) for axis in (0, 1)]
    return len(inputs) * int(np.prod([count for count, _ in axes]))


def _axis(layer: ir.Layer, inputs: ir.Array, axis: int) -> tuple[int, int]:
    """Returns the number of outputs along an axis, and the zeros before the first."""
    size = inputs.shape[1 + axis]
    stride, kernel, rate = (
        layer.config[name][axis] for name in ("strides", "kernel_size", "dilation_rate")
    )
    reach = (kernel - 1) * rate + 1
    if layer.config["padding"] == "valid":
        return (size - reach) // stride + 1, 0
    count = -(-size // stride)
    return count, max((count - 1) * stride + reach - size, 0) // 2


def _patches(layer: ir.Layer, inputs: ir.Array, positions: ir.Array) -> ir.Array:
    """Returns [positions, unknowns]: what each output there sums over."""
    if layer.op == "Dense":
        return inputs.reshape(-1, inputs.shape[-1])[positions]
    counts, before = zip(*(_axis(layer, inputs, axis) for axis in (0, 1)), strict=True)
    places = np.unravel_index(positions, (len(inputs), *counts))
    taken, is_inside = [], np.ones(1, bool)
    for axis in (0, 1):
        offsets = np.arange(layer.config["kernel_size"][axis])
        offsets = offsets * layer.config["dilation_rate"][axis] - before[axis]
        starts = places[1 + axis] * layer.config["strides"][axis]
        # [positions, height, 1] and [positions, 1, width].
        index = np.expand_dims(starts[:, None] + offsets, 2 - axis)
        is_inside = is_inside & (index >= 0) & (index < inputs.shape[1 + axis])
        taken.append(index.clip(0, inputs.shape[1 + axis] - 1))
    patches = inputs[places[0][:, None, None], taken[0], taken[1]]
    return np.where(is_inside[..., None], patches, 0).reshape(len(positions), -1)
