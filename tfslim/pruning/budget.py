"""How many channels each group keeps: ratios, targets, limits and schedules."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfslim import checks, errors, fields
from tfslim.graph import count, ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import surgery
from tfslim.pruning.channels import Mask
from tfslim.pruning.scores import Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget(fields.Checked):
    """How much to remove and what to spare.

    Exactly one of `pruning_ratio` and the `max_*` limits is given; with a limit, the
    smallest ratio that meets it is searched.

    Attributes:
        pruning_ratio: share of channels to remove, in [0, 1).
        max_params: weights that may be left, all counted.
        max_macs: multiply-accumulates (1 MAC = 2 FLOPs) at batch 1.
        max_weight_bytes: memory of the weights.
        max_cost: what `cost` may give, e.g. a measured latency in microseconds.
        cost: a function of the cut graph, called about ten times.
        scope: `uniform` removes the share from every group, `global` removes the
            least important channels of the whole graph.
        ratios: name or pattern of a group -> its own ratio, in place of the general
            one; the first that fits counts.
        min_channels: channels that every group keeps at least.
        divisor: widths are rounded up to a multiple of it. 16 is where the cost of
            XNNPACK's kernels steps: 65 channels cost as much as 72.
        ignore: names or patterns of layers whose outputs stay whole.
        cut_layer_norms: cut through layer normalizations, whose statistics change
            with it; without, the channels that reach one stay whole.
    """

    pruning_ratio: float | None = None
    max_params: float | None = None
    max_macs: float | None = None
    max_weight_bytes: float | None = None
    max_cost: float | None = None
    cost: Callable[[ir.Graph], float] | None = None
    scope: str = fields.field("uniform", choices=("uniform", "global"))
    ratios: Mapping[str, float] = dataclasses.field(default_factory=dict)
    min_channels: int = fields.field(1, least=1)
    divisor: int = fields.field(16, least=1)
    ignore: Sequence[str] = ()
    cut_layer_norms: bool = False

    def __post_init__(self) -> None:
        """Checks what can be checked without a graph."""
        super().__post_init__()
        given = [n for n in ("pruning_ratio", *LIMITS) if getattr(self, n) is not None]
        if len(given) > 1 or not (given or self.ratios):
            raise errors.ConfigError(
                f"A budget needs one of pruning_ratio, {', '.join(LIMITS)}; got "
                f"{', '.join(given) or 'none'}."
            )
        if (self.max_cost is None) != (self.cost is None):
            raise errors.ConfigError("max_cost and cost are given together or not.")
        for ratio in (self.pruning_ratio or 0.0, *self.ratios.values()):
            check_ratio(ratio)


CURVES = ("cubic", "geometric", "linear")
LIMITS = ("max_params", "max_macs", "max_weight_bytes", "max_cost")


def check_ratio(ratio: float, name: str = "pruning_ratio") -> None:
    """Raises ConfigError unless a share of channels can be removed."""
    checks.number(name, ratio, span="[0, 1)", hint="0.3 removes 30% of the channels.")


def analyze(graph: ir.Graph, budget: Budget) -> channels_lib.Channels:
    """Returns the channels of a graph that a budget lets go."""
    return channels_lib.analyze(
        graph, ignore=budget.ignore, cut_layer_norms=budget.cut_layer_norms
    )


def select_channels(
    scores: ir.Array, *, pruning_ratio: float, divisor: int = 16, min_channels: int = 1
) -> Mask:
    """Chooses the channels of one group to keep.

    The number is rounded up to a multiple of `divisor`: mobile kernels work on blocks
    of channels, so an odd width may run slower than the wider layer.

    Args:
        scores: float array [channels], importance; larger is kept.
        pruning_ratio: share of channels to remove, in [0, 1).
        divisor: block size in channels, >= 1.
        min_channels: the least number that stays.

    Returns:
        bool array [channels], true for those that stay; never all false.

    Raises:
        ConfigError: `pruning_ratio` is out of range.

    Example:
        >>> select_channels(np.array([.1, .9, .5, .7]), pruning_ratio=0.5, divisor=1)
        array([False,  True, False,  True])
    """
    check_ratio(pruning_ratio)
    return _best(
        scores,
        _width(len(scores), pruning_ratio),
        divisor=divisor,
        min_channels=min_channels,
    )


def _best(scores: ir.Array, wanted: int, *, divisor: int, min_channels: int) -> Mask:
    wanted = max(1, min_channels, wanted)
    kept = min(len(scores), -(-wanted // divisor) * divisor)
    # A stable sort makes ties, hence exported files, reproducible.
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(-scores, kind="stable")[:kept]] = True
    return mask


def plan(
    channels: channels_lib.Channels, scores: Scores, *, budget: Budget
) -> dict[str, Mask]:
    """Chooses the channels to keep.

    Args:
        channels: the groups of the graph.
        scores: the importance of their channels; groups without stay whole.
        budget: how much to remove.

    Returns:
        For each scored group a bool array, as `cut_channels` takes it.

    Raises:
        ConfigError: a pattern of `ratios` fits no group, or the limit cannot be met.
    """
    checks.matching("channel group", budget.ratios, names=scores.groups)
    limit = limit_of(budget)
    if limit is None:
        return _plan_at(scores, budget, ratio=budget.pruning_ratio or 0.0)

    def cost(ratio: float) -> float:
        keep = _plan_at(scores, budget, ratio=ratio)
        graph, _ = surgery.cut_channels(channels.graph, keep, channels=channels)
        return cost_of(graph, budget)

    ratio = search_ratio(cost, getattr(budget, limit), noun=limit)
    return _plan_at(scores, budget, ratio=ratio)


def limit_of(budget: Budget) -> str | None:
    """Returns the name of the limit that a budget sets, None for a ratio."""
    return next((n for n in LIMITS if getattr(budget, n) is not None), None)


def cost_of(graph: ir.Graph, budget: Budget) -> float:
    """Returns what a graph has of that which a budget limits.

    Raises:
        ConfigError: the budget has a ratio, not a limit.
    """
    limit = limit_of(budget)
    if limit is None:
        raise errors.ConfigError("A budget with a pruning_ratio limits no cost.")
    if budget.cost is not None:
        return budget.cost(graph)
    return float(getattr(count.count(graph), limit.removeprefix("max_")))


def search_ratio(
    cost: Callable[[float], float], limit: float, *, noun: str = "cost", steps: int = 9
) -> float:
    """Returns the smallest ratio whose cost meets a limit, to 1 / 2**`steps`.

    Args:
        cost: what is left at a ratio; falls as the ratio grows.
        limit: the most that is allowed.
        noun: what the cost is, for the message.
        steps: number of halvings, each one call of `cost`.

    Raises:
        ConfigError: even the largest ratio costs more.
    """
    if cost(0.0) <= limit:
        return 0.0
    low, high = 0.0, 1.0 - 1e-6
    least = cost(high)
    if least > limit:
        raise errors.ConfigError(
            f"{noun}={limit:,.0f} cannot be met: {least:,.0f} are left with the fewest "
            "channels that min_channels and divisor allow. Raise the limit or lower "
            "these."
        )
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return high


def _plan_at(scores: Scores, budget: Budget, *, ratio: float) -> dict[str, Mask]:
    own = {name: ratio_of(budget, name) for name in scores.groups}
    kept = {}
    if budget.scope == "global":
        general = {n: s for n, s in scores.groups.items() if own[n] is None}
        kept = _global_widths(general, ratio)
    keep = {}
    for name, values in scores.groups.items():
        each = own[name]
        wanted = kept.get(name)
        if wanted is None:
            wanted = _width(len(values), ratio if each is None else each)
        divisor = max(1, budget.divisor // scores.sizes.get(name, 1))
        keep[name] = _best(
            values, wanted, divisor=divisor, min_channels=budget.min_channels
        )
    return keep


def ratio_of(budget: Budget, name: str) -> float | None:
    """Returns the own ratio of a group, None where the general one counts."""
    ratios = budget.ratios
    return next((r for p, r in ratios.items() if fnmatch.fnmatchcase(name, p)), None)


def _width(channels: int, ratio: float) -> int:
    # 100 * 0.29 is 28.999...: the epsilon keeps whole numbers whole.
    return channels - int(channels * ratio + 1e-9)


def _global_widths(scores: Mapping[str, ir.Array], ratio: float) -> dict[str, int]:
    """Returns how many channels stay if the least important of all are removed."""
    if not scores:
        return {}
    everything = np.concatenate(list(scores.values()))
    removed = np.zeros(len(everything), bool)
    number = int(len(everything) * ratio + 1e-9)
    removed[np.argsort(everything, kind="stable")[:number]] = True
    ends = np.cumsum([len(values) for values in scores.values()])[:-1]
    parts = np.split(removed, ends)
    return {n: int((~p).sum()) for n, p in zip(scores, parts, strict=True)}


def schedule(
    pruning_ratio: float, steps: int, *, curve: str = "geometric"
) -> tuple[float, ...]:
    """Returns the ratios, all relative to the whole model, of iterative pruning.

    Args:
        pruning_ratio: where the last step ends, in [0, 1).
        steps: number of prunings.
        curve: `geometric` removes the same share of what is left each time, `linear`
            the same number, `cubic` much at first (Zhu & Gupta, "To prune, or not to
            prune", 2017, https://arxiv.org/abs/1710.01878).

    Example:
        >>> [round(r, 3) for r in schedule(0.75, 2)]
        [0.5, 0.75]
    """
    check_ratio(pruning_ratio)
    checks.whole("steps", steps)
    checks.choice("curve", curve, known=CURVES)
    done = np.arange(1, steps + 1) / steps
    ratios = {
        "cubic": pruning_ratio * (1 - (1 - done) ** 3),
        "geometric": 1 - (1 - pruning_ratio) ** done,
        "linear": pruning_ratio * done,
    }
    return tuple(float(ratio) for ratio in ratios[curve])
