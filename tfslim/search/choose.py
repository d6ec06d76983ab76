"""The best choice under a budget, from predicted costs and measured sensitivities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfslim import errors
from tfslim.search.space import Choice, Cost, Space

# Of a budget: what a prediction may be wrong by is left free.
MARGIN = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """What a model may cost; None: as much as it will.

    Attributes:
        max_latency_us: of one run on the device.
        max_size_bytes: of the file.
        max_macs: multiply-accumulates.
        max_params: weights.
        max_memory_bytes: growth of a process that runs it.
    """

    max_latency_us: float | None = None
    max_size_bytes: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_memory_bytes: float | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not value > 0:
                raise errors.ConfigError(f"{name} must be above 0, got {value}.")

    def excess(self, cost: Cost) -> float:
        """Returns the largest cost over its limit; 1 and less: all are met."""
        pairs = [
            (cost.latency_us, self.max_latency_us),
            (cost.size_bytes, self.max_size_bytes),
            (cost.macs, self.max_macs),
            (cost.params, self.max_params),
            (cost.memory_bytes, self.max_memory_bytes),
        ]
        shares = [own / most for own, most in pairs if most is not None]
        return max(shares, default=0.0)


@dataclasses.dataclass(frozen=True)
class Step:
    """One choice on the way from the whole model to the smallest."""

    choice: Choice
    cost: Cost
    damage: float


def path(
    space: Space, damage: np.ndarray, *, recipe: str, goal: Goal | None = None
) -> list[Step]:
    """Removes, step by step, what saves most for the damage that it does.

    The order is that of a knapsack's greedy solution: at every step the group and the
    ratio that save the most cost for each unit of added damage. Its points are the
    convex front, found for all budgets at once. Source: Dantzig, "Discrete-variable
    extremum problems", 1957, https://doi.org/10.1287/opre.5.2.266.

    Args:
        space: the choices.
        damage: [groups, ratios], as `measure_damage` gives it.
        recipe: of all choices.
        goal: what is saved is what it limits; None: latency.

    Returns:
        The whole model, then a choice for each step.
    """
    damage = _steepened(damage, space.ratios)
    level = np.zeros(len(space.groups), int)
    steps = [_step(space, damage, level=level, recipe=recipe)]
    while (level < len(space.ratios)).any():
        best, move = -1.0, (0, 0)
        now = steps[-1]
        for group in np.flatnonzero(level < len(space.ratios)).tolist():
            before = int(level[group])
            # The next ratio may save nothing, where widths are rounded up.
            for to in range(before + 1, len(space.ratios) + 1):
                level[group] = to
                after = _step(space, damage, level=level, recipe=recipe)
                saved = _weight(now.cost, goal) - _weight(after.cost, goal)
                value = max(saved, 0.0) / max(after.damage - now.damage, 1e-9)
                if value > best:
                    best, move = value, (group, to)
            level[group] = before
        level[move[0]] = move[1]
        steps.append(_step(space, damage, level=level, recipe=recipe))
    return steps


def _steepened(damage: np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Lets a further cut cost something where the outputs are noise already.

    The error of a masked model does not grow any more then, though what is left of a
    group has ever less to learn by: its damage grows with the logarithm of its width.
    """
    kept = 1.0 - np.array((0.0, *ratios))
    shrunk = np.log(kept[:-1] / np.maximum(kept[1:], 1e-3))
    rises = np.diff(damage, axis=1, prepend=0.0)
    steps: np.ndarray = np.maximum(rises, damage * shrunk)
    steps[:, 0] = rises[:, 0]
    return np.cumsum(steps, axis=1)


def _weight(cost: Cost, goal: Goal | None) -> float:
    if goal is None or goal.max_latency_us or goal == Goal():
        return cost.latency_us
    if goal.max_size_bytes or goal.max_params or goal.max_memory_bytes:
        return cost.size_bytes
    return cost.macs


def _step(space: Space, damage: np.ndarray, *, level: np.ndarray, recipe: str) -> Step:
    ratios = {
        name: space.ratios[place - 1]
        for name, place in zip(space.groups, level, strict=True)
        if place
    }
    choice = Choice.of(ratios, recipe)
    lost = sum(float(damage[g, p - 1]) for g, p in enumerate(level) if p)
    return Step(choice, space.cost(choice), lost)


def best_under(steps: Sequence[Step], goal: Goal) -> Step:
    """Returns the step of least damage that meets a goal with a margin.

    Raises:
        BenchmarkError: none does; names the nearest.
    """
    fitting = [step for step in steps if goal.excess(step.cost) <= MARGIN]
    if fitting:
        return min(fitting, key=lambda step: step.damage)
    nearest = min(steps, key=lambda step: goal.excess(step.cost))
    if goal.excess(nearest.cost) <= 1:
        return nearest
    raise errors.BenchmarkError(f"The budget cannot be met: {_nearest(nearest, goal)}")


def _nearest(step: Step, goal: Goal) -> str:
    cost = step.cost
    rows = [
        ("max_latency_us", cost.latency_us, "latency {:,.0f} us, {:,.0f} asked for"),
        ("max_size_bytes", cost.size_bytes, "size {:,.0f} bytes, {:,.0f} asked for"),
        ("max_macs", cost.macs, "{:,.0f} MACs, {:,.0f} asked for"),
        ("max_params", cost.params, "{:,.0f} params, {:,.0f} asked for"),
        (
            "max_memory_bytes",
            cost.memory_bytes,
            "memory {:,.0f} bytes, {:,.0f} asked for",
        ),
    ]
    limits: Mapping[str, float | None] = dataclasses.asdict(goal)
    told = [
        text.format(own, most)
        for name, own, text in rows
        for most in [limits[name]]
        if most is not None and own > most
    ]
    return (
        f"the smallest choice has {'; '.join(told)}. Take that budget, another model "
        "or a smaller input."
    )


def family(steps: Sequence[Step], count: int, *, fastest_us: float) -> list[Step]:
    """Returns steps at latencies between the whole model and a target, evenly in log.

    Args:
        steps: as `path` gives them.
        count: how many.
        fastest_us: the least latency wanted.
    """
    first = steps[0].cost.latency_us
    low = max(fastest_us, min(step.cost.latency_us for step in steps))
    found: list[Step] = []
    for limit in np.geomspace(first, low, count + 1)[1:].tolist():
        fits = [s for s in steps if s.cost.latency_us <= limit * (1 + 1e-9)]
        step = min(fits, key=lambda s: s.damage)
        if step not in found:
            found.append(step)
    return found
