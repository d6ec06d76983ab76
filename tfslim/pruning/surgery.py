"""Cutting channels out of a graph, and the graph that it must be equal to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import count, ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import reference
from tfslim.pruning.rules import base


@dataclasses.dataclass(frozen=True)
class LayerCut:
    """What a cut did to one layer: output shapes, params, MACs before and after."""

    name: str
    op: str
    shape_before: ir.Shape
    shape_after: ir.Shape
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None


@dataclasses.dataclass(frozen=True)
class CutReport:
    """What a cut removed, layer by layer, and what it skipped and why.

    `before` and `after` have the sums; `skipped` maps layers to reasons.
    """

    before: count.Counts
    after: count.Counts
    skipped: Mapping[str, str]

    @property
    def layers(self) -> tuple[LayerCut, ...]:
        """One row per call of a layer that has weights."""
        return tuple(
            LayerCut(
                old.name,
                old.op,
                old.shape,
                new.shape,
                old.params,
                new.params,
                old.macs,
                new.macs,
            )
            for old, new in zip(self.before.nodes, self.after.nodes, strict=True)
            if old.params or old.macs
        )

    def lines(self) -> Iterator[str]:
        """Yields the report as a table of columns, what was skipped below it."""
        table = [("layer", "output", "params", "MACs")]
        for row in self.layers:
            shape = _arrow(row.shape_before[-1], row.shape_after[-1])
            params = _arrow(row.params_before, row.params_after)
            macs = _arrow(row.macs_before, row.macs_after)
            table.append((row.name, shape, params, macs))
        yield from aligned(table)
        yield from sums(self.before, self.after)
        for name, reason in self.skipped.items():
            yield f"skipped: {name}: {reason}"

    def __str__(self) -> str:
        """The table, what was skipped below it."""
        return "\n".join(self.lines())


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields lines in columns as wide as their cells, the first aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [
            cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)
        ]
        yield "  ".join([first.ljust(widths[0]), *cells])


def sums(before: count.Counts, after: count.Counts) -> Iterator[str]:
    """Yields a line for each sum of two counts, and its change."""
    for noun in ("params", "macs", "weight_bytes"):
        old, new = getattr(before, noun), getattr(after, noun)
        share = f" ({new / old - 1:+.1%})" if old else ""
        yield f"{noun}: {old:,} -> {new:,}{share}"


def _arrow(before: int | None, after: int | None) -> str:
    if before == after:
        return f"{before:,}" if before is not None else "?"
    return f"{before:,} -> {after:,}"


def cut_channels(
    graph: ir.Graph,
    keep: Mapping[str, channels_lib.Mask],
    *,
    channels: channels_lib.Channels | None = None,
) -> tuple[ir.Graph, CutReport]:
    """Removes channels from a graph; the graph itself is not changed.

    The result computes what the graph computes with those channels set to zero
    wherever a kernel sums over them: `mask_channels` is that graph.

    Args:
        graph: what to cut.
        keep: for each group by name, one bool per channel (`analyze` has the groups);
            groups that are not named stay whole.
        channels: the graph's analysis, if it is at hand.

    Returns:
        The smaller graph and the report.

    Raises:
        ConfigError: `keep` does not fit the groups.
    """
    channels = channels or channels_lib.analyze(graph)
    mask = channels.mask(keep)
    layers = dict(graph.layers)
    nodes = []
    done: set[str] = set()
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        if node.layer not in done:
            layers[node.layer] = _cut_layer(graph.layer_of(node), wiring, mask=mask)
            done.add(node.layer)
        shapes = tuple(
            _cut_shape(shape, labels, mask=mask)
            for shape, labels in zip(node.shapes, wiring.outputs, strict=True)
        )
        nodes.append(dataclasses.replace(node, shapes=shapes))
    smaller = dataclasses.replace(graph, layers=layers, nodes=tuple(nodes))
    report = CutReport(count.count(graph), count.count(smaller), channels.skipped)
    return smaller, report


def _cut_layer(
    layer: ir.Layer, wiring: base.Wiring, *, mask: channels_lib.Mask
) -> ir.Layer:
    def kept(leaf: Any) -> Any:
        return int(mask[leaf].sum()) if isinstance(leaf, np.ndarray) else leaf

    weights = dict(layer.weights)
    for name, axes in wiring.weights.items():
        for axis, vector in enumerate(axes):
            if name in weights and vector is not None and not mask[vector].all():
                weights[name] = np.compress(mask[vector], weights[name], axis=axis)
    config = {**layer.config, **ir.map_leaves(kept, wiring.sizes)}
    return dataclasses.replace(layer, config=config, weights=weights)


def _cut_shape(
    shape: ir.Shape, labels: np.ndarray[Any, Any], *, mask: channels_lib.Mask
) -> ir.Shape:
    return tuple(
        int(mask[labels].sum()) if axis in base.varying(labels) else size
        for axis, size in enumerate(shape)
    )


def mask_channels(
    graph: ir.Graph,
    keep: Mapping[str, channels_lib.Mask],
    *,
    channels: channels_lib.Channels | None = None,
) -> ir.Graph:
    """Returns the whole graph with channels masked where kernels sum over them.

    It has the shapes of the original and the outputs of the cut graph: the reference
    that proves a cut. Masking at the consumer is exact even where a masked producer
    would not be silent, as behind a batch normalization's shift. A layer
    normalization that is cut takes its statistics over the channels that stay.

    Args:
        graph: what is to be cut.
        keep: as for `cut_channels`.
        channels: the graph's analysis, if it is at hand.
    """
    channels = channels or channels_lib.analyze(graph)
    mask = channels.mask(keep)
    changed: dict[str, ir.Layer] = {}
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        layer = graph.layer_of(node)
        weights = dict(layer.weights)
        for name, axis in wiring.sums.items():
            vector = wiring.weights[name][axis]
            if vector is not None and not mask[vector].all():
                shape = [1] * weights[name].ndim
                shape[axis] = -1
                kept = mask[vector].astype(weights[name].dtype).reshape(shape)
                weights[name] = weights[name] * kept
                changed[layer.name] = dataclasses.replace(layer, weights=weights)
    masked = graph.with_layers(changed)
    return reference.reduce_layer_norms(masked, channels.wirings, mask=mask)


def relative_error(
    wanted: Sequence[np.ndarray[Any, Any]], got: Sequence[np.ndarray[Any, Any]]
) -> float:
    """Returns the largest difference of outputs, relative to their largest value."""
    worst = 0.0
    for one, other in zip(wanted, got, strict=True):
        if one.shape != other.shape:
            raise errors.VerificationError(
                f"The cut model gives shape {other.shape} where the original gives "
                f"{one.shape}."
            )
        scale = max(float(np.abs(one).max(initial=0.0)), 1e-30)
        difference = float(np.abs(one - other).max(initial=0.0)) / scale
        # A NaN is worse than any number.
        worst = max(worst, np.inf if np.isnan(difference) else difference)
    return worst
