"""The kinds of steps there are, and the order in which a config asks for them."""

from __future__ import annotations

from collections.abc import Callable

from tfslim import config as config_lib
from tfslim import errors, registry
from tfslim.pipeline.steps.base import Config, Step

# Its section of the config, with the options of this one step, and the config.
Plan = Callable[[Config, Config], Step]

# Name -> where it is planned, and the option that a value without a name sets:
# "width:0.5".
_STEPS = {
    "cluster": ("sparsify:plan_clusters", "num_clusters"),
    "distill": ("distill:plan", "temperature"),
    "factorize": ("factorize:plan", "energy"),
    "prune": ("prune:plan_pruning", "ratio"),
    "quantize": ("sparsify:plan_quantization", "keep"),
    "slim": ("slim:plan", "ratio"),
    "sparsify": ("sparsify:plan_sparsity", "sparsity"),
    "width": ("prune:plan_width", "alpha"),
}
STEPS: registry.Registry[Plan] = registry.Registry("step")
for _name, (_place, _) in _STEPS.items():
    STEPS.register_lazy(_name, f"tfslim.pipeline.steps.{_place}")


def plan(config: Config) -> list[Step]:
    """Looks up the steps that a config asks for, in their order.

    Raises:
        ConfigError: a wrong name or number.
    """
    texts = config.steps or [
        name for name in ("prune", "factorize") if config[name].method
    ]
    planned = [_plan_one(text, config) for text in texts]
    names = [text.partition(":")[0] for text in texts]
    if "quantize" in names[:-1]:
        raise errors.ConfigError(
            f"The step 'quantize' must be the last one, got '{' '.join(texts)}': what "
            "comes after it would not know of INT8."
        )
    return planned


def _plan_one(text: str, config: Config) -> Step:
    name, _, options = text.partition(":")
    name = config_lib.today(name)
    planner = STEPS.get(name)
    own = config.copy_and_resolve_references()
    parsed = config_lib.parse_options(options, name, first=_STEPS[name][1])
    config_lib.merge(own, {name: parsed})
    return planner(own[name], own)
