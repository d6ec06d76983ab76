"""The kinds of steps there are, and the order in which a config asks for them."""

from __future__ import annotations

from collections.abc import Callable

import ml_collections

from tfslim import config as config_lib
from tfslim import errors, registry
from tfslim.pipeline.steps.base import Step

# Its section of the config, with the options of this one step, and the config.
Plan = Callable[[ml_collections.ConfigDict, ml_collections.ConfigDict], Step]

STEPS: registry.Registry[Plan] = registry.Registry("step")
STEPS.register_lazy("cluster", "tfslim.pipeline.steps.sparsify:plan_clusters")
STEPS.register_lazy("distil", "tfslim.pipeline.steps.distil:plan")
STEPS.register_lazy("factorize", "tfslim.pipeline.steps.factorize:plan")
STEPS.register_lazy("prune", "tfslim.pipeline.steps.cut:plan_pruning")
STEPS.register_lazy("quantize", "tfslim.pipeline.steps.sparsify:plan_quantization")
STEPS.register_lazy("slim", "tfslim.pipeline.steps.slim:plan")
STEPS.register_lazy("sparsify", "tfslim.pipeline.steps.sparsify:plan_sparsity")
STEPS.register_lazy("width", "tfslim.pipeline.steps.cut:plan_width")

# The option that a value without a name sets: "width:0.5".
_FIRST = {
    "cluster": "num_clusters",
    "distil": "temperature",
    "factorize": "energy",
    "prune": "ratio",
    "quantize": "keep",
    "slim": "ratio",
    "sparsify": "sparsity",
    "width": "alpha",
}


def plan(config: ml_collections.ConfigDict) -> list[Step]:
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


def _plan_one(text: str, config: ml_collections.ConfigDict) -> Step:
    name, _, options = text.partition(":")
    planner = STEPS.get(name)
    own = config.copy_and_resolve_references()
    parsed = config_lib.parse_options(options, name, first=_FIRST[name])
    config_lib.merge(own, {name: parsed})
    return planner(own[name], own)
