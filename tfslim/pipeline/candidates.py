"""The few choices that a search trains: on the way of each recipe, and uniform ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.pipeline import measured_way
from tfslim.pipeline.trial_rows import Wanted
from tfslim.search import choose, space

# Recipes that a choice may take.
RECIPES = ("float32", "int8")
_NEIGHBOURS = 2
# Recipes whose baseline loses more points of accuracy than that are not tried.
_MOST_LOST = 0.05


@dataclasses.dataclass(frozen=True)
class _Way:
    """The steps of a recipe, at what they cost by the cuts that were timed."""

    recipe: str
    steps: list[choose.Step]
    built: space.Space
    correct: measured_way.Correct

    def cost(self, choice: space.Choice) -> space.Cost:
        """Returns what any choice costs in the recipe of this way."""
        own = dataclasses.replace(choice, recipe=self.recipe)
        return self.correct(self.built.cost(own))


def choose_candidates(
    wanted: Wanted,
    built: space.Space,
    *,
    damage: np.ndarray,
    base: Mapping[str, Mapping[str, float]],
    timed: Callable[[list[choose.Step]], measured_way.Correct],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Chooses the few that are trained.

    Args:
        wanted: the budget.
        built: the choices.
        damage: [groups, ratios], as `measure_damage` gives it.
        base: recipe -> figures of the whole model.
        timed: times cuts on a way, and returns what corrects predictions.

    Returns:
        The candidates, and recipe -> why it is not tried.

    Raises:
        BenchmarkError: none meets the budget; names the nearest.
    """
    ways, skipped = {}, {}
    top = max(row["quality"] for row in base.values())
    for recipe in RECIPES:
        if base[recipe]["quality"] >= top - _MOST_LOST:
            ways[recipe] = _way(
                wanted, built, damage=damage, recipe=recipe, timed=timed
            )
        else:
            skipped[recipe] = "the whole model loses too much by it"
    for recipe, better in _dominated(ways, base, wanted=wanted).items():
        skipped[recipe] = f"{better} is as good and faster at every width"
        del ways[recipe]
    found: list[dict[str, Any]] = []
    problem: errors.BenchmarkError | None = None
    for way in ways.values():
        try:
            picked = _picked(way.steps, wanted)
        except errors.BenchmarkError as error:
            problem = error
            continue
        found += [
            _candidate("cut", place, step=step) for place, step in enumerate(picked)
        ]
        found += _uniform(way, picked if wanted.family else picked[:1])
    if not found and problem is not None:
        raise problem
    return found, skipped


def _way(
    wanted: Wanted,
    built: space.Space,
    *,
    damage: np.ndarray,
    recipe: str,
    timed: Callable[[list[choose.Step]], measured_way.Correct],
) -> _Way:
    steps = choose.path(built, damage, recipe=recipe, goal=wanted.goal)
    # Of no use to other budgets, and a cut may be large.
    is_timed = wanted.goal.max_latency_us or wanted.family
    correct = timed(steps) if is_timed else lambda cost: cost
    steps = [dataclasses.replace(step, cost=correct(step.cost)) for step in steps]
    return _Way(recipe, steps, built, correct)


def _dominated(
    ways: Mapping[str, _Way],
    base: Mapping[str, Mapping[str, float]],
    *,
    wanted: Wanted,
) -> dict[str, str]:
    """Returns recipe -> another that is as good, and faster at every step of its way.

    What such a recipe saves is size and memory: where these count, none is left out.
    """
    if wanted.goal.max_size_bytes or wanted.goal.max_memory_bytes:
        return {}
    return {
        recipe: other
        for recipe, way in ways.items()
        for other, its in ways.items()
        if base[other]["quality"] >= base[recipe]["quality"]
        and all(
            its.cost(step.choice).latency_us < step.cost.latency_us
            for step in way.steps
        )
    }


def _picked(way: list[choose.Step], wanted: Wanted) -> list[choose.Step]:
    """Returns the best step under the goal, and the next ones: predictions err."""
    if wanted.family:
        limit = wanted.goal.max_latency_us or way[0].cost.latency_us / 8
        return choose.family(way, wanted.family, fastest_us=limit)
    best = choose.best_under(way, wanted.goal)
    if best.damage == 0:
        return [best]
    place = way.index(best)
    return way[place : place + _NEIGHBOURS + 1]


def _uniform(way: _Way, picked: list[choose.Step]) -> list[dict[str, Any]]:
    """Returns the uniform widths to hold the picked ones against."""
    found = {}
    ratios = way.built.ratios
    for step in picked:
        for ratio in ratios:
            choice = way.built.uniform(ratio, way.recipe)
            cost = way.cost(choice)
            if cost.latency_us <= step.cost.latency_us or ratio == ratios[-1]:
                row = _candidate(
                    "uniform", 0, step=choose.Step(choice, cost, float("nan"))
                )
                row["name"] = f"{way.recipe}_uniform_{ratio:g}"
                found[row["name"]] = row
                break
    return list(found.values())


def _candidate(kind: str, place: int, *, step: choose.Step) -> dict[str, Any]:
    return {
        "name": f"{step.choice.recipe}_{kind}_{place}",
        "kind": kind,
        "recipe": step.choice.recipe,
        "ratios": dict(step.choice.ratios),
        "predicted": dataclasses.asdict(step.cost),
        "damage": step.damage if np.isfinite(step.damage) else None,
    }
