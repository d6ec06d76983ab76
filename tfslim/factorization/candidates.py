"""The layers of a graph that a method can take, and the ranks that pay."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from tfslim import errors
from tfslim.factorization import base, rewrite
from tfslim.factorization.spectrum import Spectrum
from tfslim.factorization.vbmf import vbmf
from tfslim.graph import count, ir

# Pattern of layer names -> ranks, one for all sides or one each; the first that
# matches a layer counts.
RanksByName: TypeAlias = Mapping[str, int | Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A layer that can be factorized.

    The ways to choose its ranks return them, or why it stays as it is.

    Attributes:
        layer: the layer.
        method: the name of the method that takes it.
        positions: how often its parts are computed.
        macs: multiply-accumulates of all its calls.
    """

    layer: ir.Layer
    method: str
    positions: base.Positions
    macs: int

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        """One for each rank."""
        return base.METHODS.get(self.method).spectra(self.layer)

    @property
    def full_ranks(self) -> base.Ranks:
        """The largest ranks there are."""
        return tuple(spectrum.size for spectrum in self.spectra)

    def macs_at(self, ranks: base.Ranks) -> int:
        """Returns the multiply-accumulates of the chain with these ranks."""
        method = base.METHODS.get(self.method)
        return method.macs(self.layer, ranks, self.positions)

    def by_energy(self, energy: float, divisor: int) -> base.Ranks | str:
        """Chooses the cheapest ranks that keep a share of the squared weights."""
        method = base.METHODS.get(self.method)
        options = method.ranks_for_energy(self.spectra, energy)
        return self._cheapest(self._round(ranks, divisor) for ranks in options)

    def by_vbmf(self, divisor: int) -> base.Ranks | str:
        """Chooses the ranks that variational Bayes takes for signal, or full ones."""
        signal = tuple(vbmf(s.energies, s.columns).rank for s in self.spectra)
        if 0 in signal:
            return "variational Bayes takes its kernel for noise"
        full = self.full_ranks
        # One side at full rank drops a layer, which can be cheaper.
        options = {signal} | {
            (*full[:i], signal[i], *full[i + 1 :]) for i in range(len(full))
        }
        return self._cheapest(self._round(ranks, divisor) for ranks in sorted(options))

    def by_name(self, given: RanksByName) -> base.Ranks | str:
        """Takes the ranks that are given for the layer, or its full ones if lower.

        Raises:
            ConfigError: they are not as many as the layer takes, or below 1.
        """
        name = self.layer.name
        asked = [r for p, r in given.items() if fnmatch.fnmatchcase(name, p)]
        if not asked:
            return "no ranks are given for it"
        full = self.full_ranks
        ranks = asked[0] if isinstance(asked[0], Sequence) else (asked[0],) * len(full)
        if len(ranks) != len(full) or min(ranks) < 1:
            raise errors.ConfigError(
                f"Layer '{name}' takes {len(full)} rank(s) ({self.method}), each at "
                f"least 1, got {', '.join(map(str, ranks))}."
            )
        return self._cheapest([tuple(map(min, zip(ranks, full, strict=True)))])

    def _round(self, ranks: base.Ranks, divisor: int) -> base.Ranks:
        return tuple(
            min(most, -(-rank // divisor) * divisor)
            for rank, most in zip(ranks, self.full_ranks, strict=True)
        )

    def _cheapest(self, options: Iterable[base.Ranks]) -> base.Ranks | str:
        ranks = min(options, key=self.macs_at)
        macs = self.macs_at(ranks)
        if macs < self.macs:
            return ranks
        shown = "x".join(map(str, ranks))
        return f"at rank {shown} it would take {macs:,} MACs, not {self.macs:,}"


def find(
    graph: ir.Graph,
    counts: count.Counts,
    *,
    methods: Sequence[str],
    ignore: Sequence[str],
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Returns the candidates by name, and why other layers with a kernel are none."""
    candidates, skipped = {}, {}
    for name, layer in graph.layers.items():
        if not any(weight.endswith("kernel") for weight in layer.weights):
            continue
        refusals = {m: base.METHODS.get(m).refusal(layer) for m in methods}
        takers = [m for m, refusal in refusals.items() if refusal is None]
        calls = [i for i, node in enumerate(graph.nodes) if node.layer == name]
        macs = [counts.nodes[i].macs for i in calls]
        known = [m for m in macs if m is not None]
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore):
            skipped[name] = "to be ignored"
        elif not takers:
            skipped[name] = str(refusals[methods[0]])
        elif len(known) < len(macs):
            skipped[name] = (
                "its cost is not known: give the model an input of fixed size"
            )
        elif not 0.0 < np.linalg.norm(layer.weights["kernel"]) < math.inf:
            skipped[name] = "its kernel is all zeros, or not finite"
        else:
            positions = _positions(graph, layer, calls=calls, macs=sum(known))
            candidates[name] = Candidate(layer, takers[0], positions, sum(known))
    return candidates, skipped


def _positions(
    graph: ir.Graph, layer: ir.Layer, *, calls: Sequence[int], macs: int
) -> base.Positions:
    nodes = [graph.nodes[i] for i in calls]
    return base.Positions(
        input=sum(_size(graph.shape(node.inputs[0]), layer) for node in nodes),
        output=sum(_size(node.shapes[0], layer) for node in nodes),
        kernel=macs // layer.weights["kernel"].size,
    )


def _size(shape: ir.Shape, layer: ir.Layer) -> int:
    """Returns the number of positions; known, as the MACs are."""
    sizes = list(shape)
    del sizes[rewrite.channel_axis(layer)]
    return math.prod(size or 0 for size in sizes[1:])
