"""What can be chosen for a model, and what a choice costs before it is made.

A choice has a pruning ratio for each group of channels and a recipe. Each group is cut
alone, once at every ratio, on the graph only; what that leaves of each layer's MACs,
weights and outputs are factors. A choice of several groups multiplies them: exact for
convolutions and dense layers, whose work is outputs times inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tfslim.graph import count, ir
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib
from tfslim.pruning import surgery

RATIOS = (0.25, 0.5, 0.75)
DIVISOR = 8
# Of a layer's time, what does not shrink with its work.
_FIXED = 0.05

_Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is made of a model.

    Attributes:
        ratios: group -> share of its channels to remove; groups that are not here stay
            whole.
        recipe: how it is quantized.
    """

    ratios: tuple[tuple[str, float], ...] = ()
    recipe: str = "int8"

    @classmethod
    def of(cls, ratios: Mapping[str, float], recipe: str = "int8") -> Choice:
        """Makes one of a mapping; ratios of 0 are left out."""
        return cls(tuple(sorted((k, r) for k, r in ratios.items() if r > 0)), recipe)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a choice is predicted to cost."""

    latency_us: float
    macs: float
    params: float
    size_bytes: float
    memory_bytes: float


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """The choices of a model and their cost.

    Attributes:
        groups: names, in the order of the graph.
        ratios: what each group can lose, besides nothing.
        layers: names, in the order of the graph.
        macs: of each layer; 0 where they are not known.
        params: of each layer.
        work_left: [groups, ratios, layers], share of a layer's work that is left.
        params_left: the same of its weights.
        times_us: recipe -> microseconds of each layer of the whole model.
        rest_us: recipe -> microseconds of what no layer is known for.
        bytes_per_param: recipe -> bytes of the file for each weight.
        memory_bytes: recipe -> what running the whole model takes.
        skipped: groups and layers that stay whole, with the reason.
    """

    groups: tuple[str, ...]
    ratios: tuple[float, ...]
    layers: tuple[str, ...]
    macs: _Array
    params: _Array
    work_left: _Array
    params_left: _Array
    times_us: Mapping[str, _Array]
    rest_us: Mapping[str, float]
    bytes_per_param: Mapping[str, float]
    memory_bytes: Mapping[str, float]
    skipped: Mapping[str, str]

    def cost(self, choice: Choice) -> Cost:
        """Predicts a choice."""
        work, weights = np.ones(len(self.layers)), np.ones(len(self.layers))
        for name, ratio in choice.ratios:
            group, place = self.groups.index(name), self.ratios.index(ratio)
            work *= self.work_left[group, place]
            weights *= self.params_left[group, place]
        params = float((self.params * weights).sum())
        times = self.times_us[choice.recipe] * (_FIXED + (1 - _FIXED) * work)
        return Cost(
            latency_us=float(times.sum()) + self.rest_us[choice.recipe],
            macs=float((self.macs * work).sum()),
            params=params,
            size_bytes=params * self.bytes_per_param[choice.recipe],
            # Weights are most of it; what else there is shrinks about as they do.
            memory_bytes=self.memory_bytes[choice.recipe]
            * params
            / max(float(self.params.sum()), 1.0),
        )

    def uniform(self, ratio: float, recipe: str = "int8") -> Choice:
        """Returns the choice of one ratio for every group."""
        return Choice.of(dict.fromkeys(self.groups, ratio), recipe)


@dataclasses.dataclass(frozen=True)
class Timed:
    """A file of the whole model.

    Attributes:
        by_layer: layer -> microseconds of the ops that compute it.
        rest_us: of the ops that no layer is known for.
        size_bytes: of the file.
        memory_bytes: growth of a process that runs it; 0: not known.
    """

    by_layer: Mapping[str, float]
    rest_us: float
    size_bytes: int
    memory_bytes: int = 0


def build_space(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    *,
    timed: Mapping[str, Timed],
    ratios: Sequence[float] = RATIOS,
    divisor: int = DIVISOR,
) -> Space:
    """Cuts every group alone at every ratio, and keeps what is left of each layer.

    Args:
        channels: of the model's graph.
        scores: which channels go first.
        timed: recipe -> the file of the whole model.
        ratios: what each group can lose.
        divisor: widths are rounded up to a multiple of it.
    """
    before = count.count(channels.graph)
    rows = _by_layer(before)
    names = tuple(rows)
    found, skipped = _all_left(
        channels, scores, before=before, ratios=ratios, divisor=divisor
    )
    shape = (len(found), len(ratios), len(names))
    params = np.array([sum(n.params for n in rows[name]) for name in names], float)
    return Space(
        groups=tuple(found),
        ratios=tuple(ratios),
        layers=names,
        macs=np.array([sum(n.macs or 0 for n in rows[name]) for name in names], float),
        params=params,
        work_left=np.array([work for work, _ in found.values()]).reshape(shape),
        params_left=np.array([left for _, left in found.values()]).reshape(shape),
        times_us={
            recipe: np.array([one.by_layer.get(name, 0.0) for name in names])
            for recipe, one in timed.items()
        },
        rest_us={recipe: one.rest_us for recipe, one in timed.items()},
        bytes_per_param={
            recipe: one.size_bytes / max(params.sum(), 1.0)
            for recipe, one in timed.items()
        },
        memory_bytes={recipe: float(one.memory_bytes) for recipe, one in timed.items()},
        skipped={**channels.skipped, **skipped},
    )


def _all_left(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    *,
    before: count.Counts,
    ratios: Sequence[float],
    divisor: int,
) -> tuple[dict[str, tuple[list[_Array], list[_Array]]], dict[str, str]]:
    """Returns group -> what each ratio leaves of the layers; and the groups left out.

    The first of the pair is of the layers' work, the second of their weights.
    """
    found, skipped = {}, {}
    names = tuple(_by_layer(before))
    for group in channels.groups:
        cuts = [
            _cut(channels, scores, group=group.name, ratio=ratio, divisor=divisor)
            for ratio in ratios
        ]
        if cuts[-1] is None:
            skipped[group.name] = f"its {len(group)} channels are too few to remove any"
            continue
        left = [
            _left(before, count.count(cut or channels.graph), names=names)
            for cut in cuts
        ]
        found[group.name] = [one[0] for one in left], [one[1] for one in left]
    return found, skipped


def keep_one(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    *,
    group: str,
    ratio: float,
    divisor: int = DIVISOR,
) -> dict[str, channels_lib.Mask]:
    """Returns the channels that stay where one group loses a share of its own."""
    size = next(len(g) for g in channels.groups if g.name == group)
    kept = {g.name: np.ones(len(g), bool) for g in channels.groups}
    if group in scores.groups:
        kept[group] = budget_lib.select_channels(
            scores.groups[group], pruning_ratio=ratio, divisor=divisor
        )
    assert len(kept[group]) == size  # noqa: S101 - scores are of these channels.
    return kept


def _cut(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    *,
    group: str,
    ratio: float,
    divisor: int,
) -> ir.Graph | None:
    keep = keep_one(channels, scores, group=group, ratio=ratio, divisor=divisor)
    if keep[group].all():
        return None
    smaller, _ = surgery.cut_channels(channels.graph, keep, channels=channels)
    return smaller


def _by_layer(counts: count.Counts) -> dict[str, list[count.NodeCount]]:
    rows: dict[str, list[count.NodeCount]] = {}
    for node in counts.nodes:
        rows.setdefault(node.name, []).append(node)
    return rows


def _left(
    before: count.Counts, after: count.Counts, *, names: Sequence[str]
) -> tuple[_Array, _Array]:
    """Returns the shares of work and of weights that are left of each layer."""
    old, new = _by_layer(before), _by_layer(after)
    work, weights = [], []
    for name in names:
        macs = [sum(n.macs or 0 for n in rows[name]) for rows in (old, new)]
        sizes = [sum(_size(n.shape) for n in rows[name]) for rows in (old, new)]
        params = [sum(n.params for n in rows[name]) for rows in (old, new)]
        first, second = macs if macs[0] else sizes
        work.append(second / first if first else 1.0)
        weights.append(params[1] / params[0] if params[0] else 1.0)
    return np.array(work), np.array(weights)


def _size(shape: ir.Shape) -> int:
    return int(np.prod([size or 1 for size in shape[1:]], dtype=np.int64))
