"""What a factorization did, layer by layer, and what it skipped and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from tfslim import checks
from tfslim.graph import count
from tfslim.pruning import surgery


@dataclasses.dataclass(frozen=True)
class LayerFactorization:
    """One layer that became a chain.

    Attributes:
        name: the layer's name, which the last of the chain keeps.
        method: how it was factorized.
        chain: the names of the layers that stand for it.
        ranks: the chosen ranks, input side first.
        full_ranks: the largest they could have been.
        params_before: weights of the layer, bias included.
        params_after: weights of the chain.
        macs_before: multiply-accumulates of all calls, batch size 1.
        macs_after: those of the chain.
        error: norm of the kernel's change over the norm of the kernel.
    """

    name: str
    method: str
    chain: tuple[str, ...]
    ranks: tuple[int, ...]
    full_ranks: tuple[int, ...]
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    error: float


@dataclasses.dataclass(frozen=True)
class FactorizationReport:
    """The factorized layers, the others with reasons, and the sums.

    Attributes:
        layers: what became a chain, in the graph's order.
        skipped: layers with a kernel that stay, each with its reason in one line.
        before: counts of the graph that came in.
        after: counts of the graph that came out.
        energy: the share kept in every layer: as asked for, or as found for a target;
            None if the ranks were chosen otherwise.
    """

    layers: tuple[LayerFactorization, ...]
    skipped: Mapping[str, str]
    before: count.Counts
    after: count.Counts
    energy: float | None = None
    left_alone = checks.renamed("left_alone", "skipped")

    def table(self) -> Iterator[str]:
        """Yields a table, a line a layer, and the sums."""
        table = [("layer", "method", "ranks", "params", "MACs", "error")]
        for row in self.layers:
            ranks = f"{_times(row.ranks)} of {_times(row.full_ranks)}"
            params = _arrow(row.params_before, row.params_after)
            macs = _arrow(row.macs_before, row.macs_after)
            error = f"{row.error:.3f}"
            table.append((row.name, row.method, ranks, params, macs, error))
        yield from surgery.aligned(table)
        yield from surgery.sums(self.before, self.after)

    def __str__(self) -> str:
        """The table, what was skipped below it."""
        skipped = [f"skipped: {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join([*self.table(), *skipped])


def _times(ranks: tuple[int, ...]) -> str:
    return "x".join(map(str, ranks))


def _arrow(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}"
