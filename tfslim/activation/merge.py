"""Units that say the same as others become one, without changing the outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfslim import errors, registry
from tfslim.activation import counts as activity_lib
from tfslim.activation.merge_paths import Path, collinear_paths, linear_paths
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import evidence, proof, surgery
from tfslim.training import training

LINEAR_FORMS = ("keep", "pair", "shift")
# A shifted unit stays above zero a little beyond the range seen in the data.
_SHIFT_MARGIN = 0.1
# Below this share of the largest, a singular value or an excursion is rounding.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class MergeReport:
    """What merging did.

    Attributes:
        merged: layer -> its units before and after.
        error: largest difference of the outputs on the data, before a softmax or
            sigmoid, relative to their largest value.
    """

    merged: Mapping[str, tuple[int, int]]
    error: float

    def __str__(self) -> str:
        """One line a layer, and the proof."""
        lines = [
            f"{n}: {old:,} -> {new:,} units" for n, (old, new) in self.merged.items()
        ]
        return "\n".join([*lines, f"proof: equal on the data within {self.error:.1e}"])


def merge_units(
    model: Any, data: Any, *, linear: str = "pair", tolerance: float = 1e-5
) -> tuple[Any, MergeReport]:
    """Merges units that others can replace exactly.

    Two kinds are found. *Collinear* units: where the weights and bias of one unit are
    `c > 0` times those of another, `relu(c z) = c relu(z)`, so one of them, with its
    outgoing weights added `c` times to the other's, does the work of both for every
    input. *Linear* units: those of a layer that are above zero on all of the data let
    everything pass there, so together they are one linear map of rank r, and need
    only as many units as that has; this holds as far as the data goes.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        data: arrays (x, y) or x alone, or batches: where units are active, and where
            the result is compared with the original.
        linear: the new form of linear units: `pair` takes relu(u) and relu(-u) for
            each direction u, without those that never fire; `shift` one relu(u + s)
            with s so large that it never leaves the linear side on the data, which
            takes half the units; `keep` leaves them.
        tolerance: sine of the angle up to which units are collinear; above the
            default, merging is an approximation, which may fail the comparison.

    Returns:
        The model with fewer units, not compiled, and the report.

    Raises:
        ConfigError: an unknown form.
        DataError: there are no batches.
        VerificationError: the outputs on the data changed by more than 1e-4.
    """
    if linear not in LINEAR_FORMS:
        raise registry.unknown_name("form of linear units", linear, LINEAR_FORMS)
    kind = graph_keras.keras_of(model)
    graph = graph_keras.read(model)
    # The data is walked over several times.
    batches = [evidence.inputs_of(batch) for batch in training.batches(data)]
    merged = graph
    if linear != "keep":
        merged = _merge_linear(merged, kind, batches, linear)
    merged = _merge_collinear(merged, tolerance)
    error = _difference(graph, merged, kind, batches)
    if not error <= proof.MAX_ERROR:
        raise errors.VerificationError(
            f"Merging changed the outputs by {error:.1e} (allowed: "
            f"{proof.MAX_ERROR:.0e}). With a tolerance of {tolerance:g} units are "
            "not collinear enough; at the default this is a fault of tfslim."
        )
    report = MergeReport(_widths(graph, merged), error)
    return graph_keras.write(merged, kind), report


def balance_units(model: Any) -> Any:
    """Returns the model with equal norms of what comes into a unit and what goes out.

    For a rectifier `relu(c z) = c relu(z)`, so weights can move from one side to the
    other without changing the outputs. Gradients of balanced layers are of one size.
    Layers with a normalization between them stay as they are.
    """
    graph = graph_keras.read(model)
    for path in collinear_paths(channels_lib.analyze(graph)):
        graph = _balanced(graph, path)
    return graph_keras.write(graph, graph_keras.keras_of(model))


def _widths(old: ir.Graph, new: ir.Graph) -> dict[str, tuple[int, int]]:
    found = {}
    for name, layer in old.layers.items():
        for size in ("units", "filters"):
            if size not in layer.config:
                continue
            before, after = layer.config[size], new.layers[name].config[size]
            if before != after:
                found[name] = (int(before), int(after))
    return found


def _difference(
    old: ir.Graph, new: ir.Graph, kind: graph_keras.KerasName, batches: list[Any]
) -> float:
    old, new = proof.exposed(old), proof.exposed(new)
    one, other = graph_keras.write(old, kind), graph_keras.write(new, kind)
    worst, scale = 0.0, 1e-30
    for batch in batches:
        inputs = proof.flat(batch)
        for a, b in zip(
            proof.run(one, old, inputs), proof.run(other, new, inputs), strict=True
        ):
            difference = float(np.abs(a - b).max(initial=0.0))
            worst = max(worst, np.inf if np.isnan(difference) else difference)
            scale = max(scale, float(np.abs(a).max(initial=0.0)))
    return worst / scale


def _merge_collinear(graph: ir.Graph, tolerance: float) -> ir.Graph:
    channels = channels_lib.analyze(graph)
    layers: dict[str, ir.Layer] = {}
    keep: dict[str, channels_lib.Mask] = {}
    for path in collinear_paths(channels):
        vectors = path.vectors
        kept = np.ones(len(vectors), bool)
        for stays, goes, factor in _collinear(vectors, tolerance):
            kept[goes] = False
            for name, positions, axis in path.readers:
                layer = layers.get(name, graph.layers[name])
                kernel = np.moveaxis(layer.weights["kernel"].copy(), axis, 0)
                kernel[positions[stays]] += factor * kernel[positions[goes]]
                weights = {**layer.weights, "kernel": np.moveaxis(kernel, 0, axis)}
                layers[name] = dataclasses.replace(layer, weights=weights)
        if not kept.all():
            keep[path.group.name] = kept
    whole = dataclasses.replace(channels, graph=graph.with_layers(layers))
    return surgery.cut_channels(whole.graph, keep, channels=whole)[0]


def _collinear(vectors: ir.Array, tolerance: float) -> Iterator[tuple[int, int, float]]:
    """Yields (stays, goes, factor) for rows that are `factor` times another."""
    norms = np.linalg.norm(vectors, axis=1)
    units = vectors / np.maximum(norms, 1e-300)[:, None]
    # What is near is near in every direction too: one sorts out nearly all pairs.
    direction = np.random.default_rng(0).normal(size=vectors.shape[1])
    heights = units @ (direction / np.linalg.norm(direction))
    order = np.argsort(heights, kind="stable")
    is_left = norms > 0
    # Of a bundle the longest stays: it has the most digits.
    for stays in np.argsort(-norms, kind="stable"):
        if not is_left[stays]:
            continue
        is_left[stays] = False
        window = heights[stays] + tolerance * np.array([-1.0, 1.0])
        low, high = np.searchsorted(heights[order], window, side="left")
        near = order[low : high + 1]
        near = near[is_left[near]]
        distances = np.linalg.norm(units[near] - units[stays], axis=1)
        for goes in near[distances <= tolerance]:
            is_left[goes] = False
            yield int(stays), int(goes), float(norms[goes] / norms[stays])


def _balanced(graph: ir.Graph, path: Path) -> ir.Graph:
    maker = graph.layers[path.maker]
    channels = len(path.vectors)
    if path.is_normalized or channels != maker.weights["kernel"].shape[path.axis]:
        return graph
    squares = np.zeros(channels)
    for name, positions, axis in path.readers:
        kernel = np.moveaxis(graph.layers[name].weights["kernel"], axis, 0)
        rows = (kernel.astype(np.float64) ** 2).reshape(len(kernel), -1).sum(axis=1)
        squares += rows[positions].sum(axis=1)
    norms = np.linalg.norm(path.vectors, axis=1)
    usable = (norms > 0) & (squares > 0)
    factors = np.ones(channels)
    factors[usable] = np.sqrt(np.sqrt(squares[usable]) / norms[usable])
    kernel = np.moveaxis(maker.weights["kernel"], path.axis, -1) * factors
    bias = maker.weights.get("bias", np.zeros(channels)) * factors
    kernel = np.moveaxis(kernel, -1, path.axis)
    changed = {maker.name: _with(maker, kernel=kernel, bias=bias)}
    for name, positions, axis in path.readers:
        layer = graph.layers[name]
        kernel = np.moveaxis(layer.weights["kernel"].copy(), axis, 0)
        for channel, places in enumerate(positions):
            kernel[places] /= factors[channel]
        weights = {**layer.weights, "kernel": np.moveaxis(kernel, 0, axis)}
        changed[name] = dataclasses.replace(layer, weights=weights)
    return graph.with_layers(changed)


def _merge_linear(
    graph: ir.Graph, kind: graph_keras.KerasName, batches: list[Any], form: str
) -> ir.Graph:
    channels = channels_lib.analyze(graph)
    paths = linear_paths(channels)
    if not paths:
        return graph
    rates = activity_lib.count_channels(
        # In a tuple each, as the inputs may be a tuple, too.
        channels,
        kind,
        [(batch,) for batch in batches],
    ).rates
    for path in paths:
        always = np.flatnonzero(rates.get(path.group.name, np.zeros(1)) == 1.0)
        if len(always) > 1:
            graph = _replace_linear(graph, kind, batches, path, always, form)
    return graph


def _replace_linear(
    graph: ir.Graph,
    kind: graph_keras.KerasName,
    batches: list[Any],
    path: Path,
    always: ir.Array,
    form: str,
) -> ir.Graph:
    """Puts few units into the places of the `always` active ones and cuts the rest."""
    maker, reader = graph.layers[path.maker], graph.layers[path.readers[0][0]]
    kernel = maker.weights["kernel"].astype(np.float64)
    outward = reader.weights["kernel"].astype(np.float64)
    bias = maker.weights.get("bias", np.zeros(kernel.shape[-1])).astype(np.float64)
    out = outward.reshape(-1, outward.shape[-1])
    inward = kernel.reshape(-1, kernel.shape[-1])
    left, size, right = np.linalg.svd(
        inward[:, always] @ out[always], full_matrices=False
    )
    rank = int((size > _ROUNDING * size[0]).sum()) if size[0] > 0 else 0
    rank = min(rank, len(always))
    root = np.sqrt(size[:rank])
    directions, targets = left[:, :rank] * root, root[:, None] * right[:rank]
    constant = bias[always] @ out[always]
    ranges = _ranges(graph, kind, batches, path, always[:rank], directions)
    units = [
        unit
        for number, (low, high) in enumerate(ranges)
        for unit in _forms(directions[:, number], targets[number], low, high, form)
    ]
    if len(units) >= len(always):
        return graph
    places = always[: len(units)]
    for place, (direction, shift, target) in zip(places, units, strict=True):
        inward[:, place], bias[place], out[place] = direction, shift, target
        constant = constant - shift * target
    gone = always[len(units) :]
    keep = np.ones(inward.shape[-1], bool)
    keep[gone] = False
    changed = graph.with_layers(
        {
            maker.name: _with(maker, kernel=inward.reshape(kernel.shape), bias=bias),
            reader.name: _with(
                reader,
                kernel=out.reshape(outward.shape),
                bias=reader.weights.get("bias", 0.0) + constant,
            ),
        }
    )
    return surgery.cut_channels(changed, {path.group.name: keep})[0]


def _forms(
    direction: ir.Array, target: ir.Array, low: float, high: float, form: str
) -> list[tuple[ir.Array, float, ir.Array]]:
    """Returns units (weights, bias, outgoing weights) that say one direction."""
    rounding = _ROUNDING * max(abs(low), abs(high))
    if low >= -rounding:
        return [(direction, 0.0, target)]
    if high <= rounding:
        return [(-direction, 0.0, -target)]
    if form == "shift":
        return [(direction, _SHIFT_MARGIN * (high - low) - low, target)]
    return [(direction, 0.0, target), (-direction, 0.0, -target)]


def _ranges(
    graph: ir.Graph,
    kind: graph_keras.KerasName,
    batches: list[Any],
    path: Path,
    places: ir.Array,
    directions: ir.Array,
) -> list[tuple[float, float]]:
    """Returns the least and largest value of each direction on the data."""
    maker = graph.layers[path.maker]
    kernel = maker.weights["kernel"].astype(np.float64)
    inward = kernel.reshape(-1, kernel.shape[-1])
    inward[:, places] = directions
    probed = _with(
        maker, kernel=inward.reshape(kernel.shape), bias=np.zeros(kernel.shape[-1])
    )
    probed = dataclasses.replace(
        probed, config={**probed.config, "activation": "linear"}
    )
    probe = dataclasses.replace(
        graph.with_layers({maker.name: probed}),
        outputs=[path.tensor, *graph.output_refs],
    )
    model = graph_keras.write(probe, kind)
    low = np.full(len(places), np.inf)
    high = np.full(len(places), -np.inf)
    for batch in batches:
        values = proof.run(model, probe, proof.flat(batch))[0][..., places]
        values = values.reshape(-1, len(places))
        low, high = np.minimum(low, values.min(0)), np.maximum(high, values.max(0))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _with(layer: ir.Layer, *, kernel: ir.Array, bias: ir.Array) -> ir.Layer:
    """Returns the layer with other weights; without a bias it gets one if needed."""
    dtype = layer.weights["kernel"].dtype
    weights = {**layer.weights, "kernel": kernel.astype(dtype)}
    config = dict(layer.config)
    if "bias" in weights or np.any(bias):
        weights["bias"] = np.asarray(bias).astype(dtype)
        config["use_bias"] = True
    return dataclasses.replace(layer, weights=weights, config=config)
