"""The order of rules that litert-quantizer gets."""

from __future__ import annotations

from typing import Any

from tfslim.quantization import policy, recipe


def ordered(
    chosen: recipe.Recipe, exempt: list[policy.Exemption], io: str
) -> list[dict[str, Any]]:
    """Orders rules: the recipe's general ones, exemptions, I/O, its particular ones."""
    general = [r for r in chosen.rules if (r["regex"], r["operation"]) == (".*", "*")]
    particular = [rule for rule in chosen.rules if rule not in general]
    borders: list[dict[str, Any]] = []
    if chosen.needs_ranges and io != "int8":
        borders = [_border(operation, io) for operation in ("INPUT", "OUTPUT")]
    # One rule for each regex and operation: of two, litert-quantizer takes the later.
    rules = [*(e.rule for e in exempt), *borders, *particular]
    last = {(rule["regex"], rule["operation"]): rule for rule in rules}
    return [*general, *last.values()]


def _border(operation: str, io: str) -> dict[str, Any]:
    rule = {"regex": ".*", "operation": operation, "algorithm_key": "no_quantize"}
    if io == "float":
        return rule
    bits = {"num_bits": 8, "granularity": "TENSORWISE"}
    return {
        **rule,
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {
            "activation_tensor_config": {**bits, "symmetric": False, "dtype": "UINT"},
            "weight_tensor_config": {**bits, "symmetric": True, "dtype": "INT"},
            "compute_precision": "INTEGER",
            "explicit_dequantize": False,
        },
    }
