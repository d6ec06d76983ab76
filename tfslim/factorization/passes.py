"""The pass: which layers of a graph to factorize, at which ranks, and doing it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from tfslim import checks, errors
from tfslim.factorization import base, rewrite
from tfslim.factorization.candidates import Candidate, RanksByName, find
from tfslim.factorization.report import FactorizationReport, LayerFactorization
from tfslim.graph import count, ir


def factorize_graph(
    graph: ir.Graph,
    *,
    method: str = "tucker+svd",
    energy: float | None = None,
    ranks: Literal["vbmf"] | RanksByName | None = None,
    target: float | None = None,
    divisor: int = 8,
    ignore: Sequence[str] = (),
) -> tuple[ir.Graph, FactorizationReport]:
    """Replaces layers by chains of cheaper ones that compute nearly the same.

    A layer becomes a chain only where that saves multiply-accumulates. The ranks come
    from exactly one of `energy`, `ranks` and `target`.

    Args:
        graph: what to factorize.
        method: `tucker` for convolutions, `svd` for Dense layers and 1x1 convolutions,
            or both, joined by "+".
        energy: share of the sum of squared weights that each layer keeps at least, in
            (0, 1]. 0.9 changes a kernel by at most sqrt(0.1) of its norm.
        ranks: `vbmf`, to keep what variational Bayes takes for signal; or the ranks
            themselves by pattern of layer names, `{"fc*": 64, "conv2": (16, 32)}`,
            input side first; one number is for both sides.
        target: MACs of the result over those of the graph, in (0, 1): keeps the most
            energy, the same share in all layers, that reaches it.
        divisor: chosen ranks are rounded up to a multiple: mobile kernels work on
            blocks of channels, so that much accuracy costs no time. Ranks given by
            name stay as they are.
        ignore: patterns of names of layers to leave alone.

    Returns:
        The new graph, and what was done to each layer with a kernel.

    Raises:
        ConfigError: an option is out of range, a pattern matches no layer, ranks do
            not fit a layer, or the target is out of reach.
    """
    _check(energy, ranks, target=target, divisor=divisor)
    named = ranks if isinstance(ranks, Mapping) else ()
    checks.matching("layer", [*ignore, *named], names=graph.layers)
    before = count.count(graph)
    candidates, skipped = find(graph, before, methods=method.split("+"), ignore=ignore)
    if target is not None:
        energy = _energy_for(
            target, candidates.values(), macs=before.macs, divisor=divisor
        )
    chosen: dict[str, base.Ranks] = {}
    for name, candidate in candidates.items():
        if energy is not None:
            choice = candidate.by_energy(energy, divisor)
        elif isinstance(ranks, Mapping):
            choice = candidate.by_name(ranks)
        else:
            choice = candidate.by_vbmf(divisor)
        if isinstance(choice, str):
            skipped[name] = choice
        else:
            chosen[name] = choice
    chains, rows = _factorize(graph, candidates, chosen=chosen)
    result = rewrite.replace_layers(graph, chains)
    ordered = {name: skipped[name] for name in graph.layers if name in skipped}
    report = FactorizationReport(rows, ordered, before, count.count(result), energy)
    return result, report


def _factorize(
    graph: ir.Graph,
    candidates: Mapping[str, Candidate],
    *,
    chosen: Mapping[str, base.Ranks],
) -> tuple[dict[str, list[base.Link]], tuple[LayerFactorization, ...]]:
    links, changes = {}, {}
    for name, ranks in chosen.items():
        candidate = candidates[name]
        method = base.METHODS.get(candidate.method)
        links[name], kernel = method.chain(candidate.layer, candidate.spectra, ranks)
        whole = candidate.layer.weights["kernel"]
        changes[name] = base.relative_error(whole, kernel)
    chains = rewrite.with_free_names(graph, links)
    rows = []
    for name, ranks in chosen.items():
        candidate = candidates[name]
        layers = [link.layer for link in chains[name]]
        row = LayerFactorization(
            name=name,
            method=candidate.method,
            chain=tuple(layer.name for layer in layers),
            ranks=ranks,
            full_ranks=candidate.full_ranks,
            params_before=_params([candidate.layer]),
            params_after=_params(layers),
            macs_before=candidate.macs,
            macs_after=candidate.macs_at(ranks),
            error=changes[name],
        )
        rows.append(row)
    return chains, tuple(rows)


def _params(layers: Iterable[ir.Layer]) -> int:
    return sum(w.size for layer in layers for w in layer.weights.values())


def _energy_for(
    target: float, candidates: Collection[Candidate], *, macs: int, divisor: int
) -> float:
    """Returns the largest energy at which the graph takes `target` of its MACs."""

    def share(energy: float) -> float:
        saved = 0
        for candidate in candidates:
            ranks = candidate.by_energy(energy, divisor)
            if not isinstance(ranks, str):
                saved += candidate.macs - candidate.macs_at(ranks)
        return 1.0 - saved / macs

    if not candidates or share(0.0) > target:
        reach = f"{share(0.0):.3f} of its MACs" if candidates else "no layer to take"
        raise errors.ConfigError(
            f"target={target} is out of reach: at its lowest ranks (multiples of "
            f"{divisor}) the model has {reach}."
        )
    # On the logarithm of what is lost: the steps are finest next to energy 1.
    kept, lost = -12.0, 0.0
    for _ in range(40):
        middle = (kept + lost) / 2.0
        if share(1.0 - 10.0**middle) > target:
            kept = middle
        else:
            lost = middle
    return 1.0 - 10.0**lost


def _check(
    energy: float | None,
    ranks: Literal["vbmf"] | RanksByName | None,
    *,
    target: float | None,
    divisor: int,
) -> None:
    ways = {"energy": energy, "ranks": ranks, "target": target}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise errors.ConfigError(
            "The ranks come from exactly one of energy, ranks and target; got "
            f"{' and '.join(given) or 'none'}. Try energy=0.9."
        )
    if energy is not None:
        hint = "0.9 keeps 90% of the sum of squared weights."
        checks.number("energy", energy, span="(0, 1]", hint=hint)
    if target is not None:
        checks.number("target", target, span="(0, 1)", hint="0.5 halves the MACs.")
    if isinstance(ranks, str):
        checks.choice("way to choose ranks", ranks, known=["vbmf"])
    checks.whole("divisor", divisor)
