"""Recipes: what is quantized and how, as data in litert-quantizer's own format.

A name spells the scheme: `static_wi8_ai8` has INT8 weights (wi8) and INT8 activations
(ai8) with ranges from calibration; `dynamic` quantizes activations on the fly;
`weight_only` computes in float.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, files, recipe_names, registry
from tfslim.quantization import backend

_FOLDER = Path(__file__).parent / "recipes"

# Field -> what it must be, in words, and the test for it. Other fields of a tensor's
# config are parameters of the algorithm.
_Fields = dict[str, tuple[str, Callable[[Any], bool]]]


def _one_of(*values: Any) -> tuple[str, Callable[[Any], bool]]:
    # True equals 1, and 8.0 equals 8.
    shown = ", ".join(map(str, values))
    types = {type(value) for value in values}
    return f"one of {shown}", lambda v: type(v) in types and v in values


_TEXT = ("a text", lambda v: isinstance(v, str))
_OBJECT = ("an object", lambda v: isinstance(v, dict))
_SWITCH = ("true or false", lambda v: isinstance(v, bool))
_RULE: _Fields = {
    "regex": _TEXT,
    "operation": _TEXT,
    "algorithm_key": _TEXT,
    "op_config": _OBJECT,
}
_OP: _Fields = {
    "weight_tensor_config": _OBJECT,
    "activation_tensor_config": _OBJECT,
    "compute_precision": _one_of("INTEGER", "FLOAT"),
    "explicit_dequantize": _SWITCH,
    "skip_checks": _SWITCH,
    "min_weight_elements": (
        "a whole number from 0",
        lambda v: type(v) is int and 0 <= v < 2**63,
    ),
}
_TENSOR: _Fields = {
    "num_bits": _one_of(2, 4, 8, 16, 32),
    "symmetric": _SWITCH,
    "granularity": _one_of(
        "TENSORWISE", "CHANNELWISE", *(f"BLOCKWISE_{n}" for n in (32, 64, 128, 256))
    ),
    "dtype": _one_of("INT", "UINT", "FLOAT"),
    "algorithm_params": _OBJECT,
    "block_size": _one_of(0, 32, 64, 128, 256),
}


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
        """Checks the rules before any work is done by them."""
        for rule in self.rules:
            reason = _fault(rule)
            if reason:
                raise errors.ConfigError(
                    f"A rule of the recipe '{self.name}' is "
                    f"{json.dumps(rule, default=str)[:500]}: {reason}."
                )
        backend.check(self.rules)

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
    if name not in recipe_names.names():
        raise registry.unknown_name("recipe", name, known=recipe_names.names())
    return Recipe(name, _read(_FOLDER / f"{recipe_names.ALIASES.get(name, name)}.json"))


def deciding(
    rules: backend.Rules, operation: str, *, scope: str
) -> Mapping[str, Any] | None:
    """Returns the rule that holds for an op, None if it stays float.

    The last that fits; but rules of one regex stand where the first of them does.

    Args:
        rules: in litert-quantizer's order.
        operation: the op's name.
        scope: what the regex is searched in, see `kept_float.scope`.
    """
    by_regex: dict[str, list[Mapping[str, Any]]] = {}
    for rule in rules:
        by_regex.setdefault(rule["regex"], []).append(rule)
    fitting = [
        rule
        for regex, own in by_regex.items()
        if re.search(regex, scope)
        for rule in own
        if backend.is_op(rule["operation"], operation)
    ]
    if not fitting or fitting[-1]["algorithm_key"] == "no_quantize":
        return None
    return fitting[-1]


def _read(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        rules = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
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
    needed = ["regex", "operation", "algorithm_key"]
    is_float = rule.get("algorithm_key") == "no_quantize"
    if not is_float:
        needed.append("op_config")
    fault = _fields_fault(rule, _RULE, needed=needed)
    if fault:
        return fault
    try:
        re.compile(rule["regex"])
    except (re.error, RecursionError, OverflowError) as error:
        return f"its regex cannot be read ({error})"
    config = rule.get("op_config", {})
    fault = _fields_fault(
        config, _OP, needed=[] if is_float else ["weight_tensor_config"]
    )
    unknown = sorted(set(config) - set(_OP))
    if unknown and not fault:
        known = ", ".join(_OP)
        return f"its op_config has the unknown field {unknown[0]!r}; known: {known}"
    for key in ("weight_tensor_config", "activation_tensor_config"):
        fault = fault or _fields_fault(config.get(key, {}), _TENSOR, needed=[])
        if key in config and not fault and "num_bits" not in config[key]:
            return f"its {key} has no num_bits; it must be {_TENSOR['num_bits'][0]}"
    return fault


def _fields_fault(values: Any, fields: _Fields, *, needed: Sequence[str]) -> str:
    missing = [name for name in needed if name not in values]
    if missing:
        return f"expected an object with {', '.join(needed)}; {missing[0]} is missing"
    for name, (wanted, is_right) in fields.items():
        if name in values and not is_right(values[name]):
            return f"its {name} must be {wanted}, got {values[name]!r}"
    return ""
