"""Recipes: what is quantized and how, as data in litert-quantizer's own format.

A name spells the scheme: `static_wi8_ai8` has INT8 weights (wi8) and INT8 activations
(ai8) with ranges from calibration; `dynamic` quantizes activations on the fly;
`weight_only` computes in float.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from tfslim import errors, registry

_FOLDER = Path(__file__).parent / "recipes"
# Short name -> upstream's name.
ALIASES = {"int8": "static_wi8_ai8", "dynamic_int8": "dynamic_wi8_afp32"}

_TYPES = {"regex": str, "operation": str, "algorithm_key": str, "op_config": dict}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Rules for litert-quantizer; of two that fit an op the later one holds.

    Attributes:
        name: as asked for, e.g. "int8" or "static_wi8_ai8"; a file's stem.
        rules: dicts with "regex" (searched in the op's output tensor names, each
            followed by ";"), "operation" (op name, or "*"), "algorithm_key" and
            "op_config".
    """

    name: str
    rules: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        """Checks the rules, as far as that needs no litert-quantizer."""
        for rule in self.rules:
            reason = _fault(rule)
            if reason:
                raise errors.ConfigError(
                    f"A rule of the recipe '{self.name}' is "
                    f"{json.dumps(rule, default=str)}: {reason}."
                )

    @property
    def scheme(self) -> str:
        """Which kind it is: the key of its policy rows.

        "float32" (nothing to do), "float16", "weight_only", "dynamic_int8", …,
        "static_int8" or "static_int16", after the first rule that quantizes.
        """
        for rule in self.rules:
            config = rule.get("op_config", {})
            weights = config.get("weight_tensor_config") or {}
            activations = config.get("activation_tensor_config")
            if rule["algorithm_key"] == "no_quantize":
                continue
            if rule["algorithm_key"] == "float_casting":
                return "float16"
            if activations:
                return f"static_int{activations['num_bits']}"
            if config.get("compute_precision") == "INTEGER":
                return f"dynamic_int{weights.get('num_bits')}"
            return "weight_only"
        return "float32"

    @property
    def needs_ranges(self) -> bool:
        """Whether activations need calibrated ranges."""
        return any(
            rule.get("op_config", {}).get("activation_tensor_config")
            for rule in self.rules
        )


def names() -> list[str]:
    """Returns the names of all recipes, short names included, sorted."""
    return sorted([*ALIASES, *(path.stem for path in _FOLDER.glob("*.json"))])


def get(recipe: str | Path | Recipe) -> Recipe:
    """Returns the recipe of that name, or from a JSON file at that path.

    Raises:
        ConfigError: there is none, or the file is not a list of rules.
    """
    if isinstance(recipe, Recipe):
        return recipe
    name = str(recipe)
    if name.endswith(".json"):
        return Recipe(Path(name).stem, _read(Path(name)))
    if name not in names():
        raise registry.unknown_name("recipe", name, names())
    return Recipe(name, _read(_FOLDER / f"{ALIASES.get(name, name)}.json"))


def _read(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        rules = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.ConfigError(
            f"Cannot read the recipe '{path}': {error}."
        ) from error
    if not isinstance(rules, list):
        raise errors.ConfigError(f"The recipe '{path}' is not a JSON list of rules.")
    return tuple(rules)


def _fault(rule: Any) -> str:
    """Says what is wrong with a rule, "" where nothing is."""
    if not isinstance(rule, dict):
        return "expected an object"
    needed = set(_TYPES)
    if rule.get("algorithm_key") == "no_quantize":
        needed.discard("op_config")
    if not needed <= set(rule):
        return f"expected an object with {', '.join(sorted(needed))}"
    for key in needed:
        if not isinstance(rule[key], _TYPES[key]):
            kind = "an object" if _TYPES[key] is dict else "a text"
            return f"its {key} must be {kind}"
    for key in ("weight_tensor_config", "activation_tensor_config"):
        config = rule.get("op_config", {}).get(key)
        if config is not None and not isinstance(config, dict):
            return f"its {key} must be an object"
    try:
        re.compile(rule["regex"])
    except re.error as error:
        return f"its regex cannot be read ({error})"
    return ""
