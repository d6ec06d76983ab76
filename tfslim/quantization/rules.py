"""The order of rules that litert-quantizer gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import registry, tflite
from tfslim.quantization import litert, policy, recipe
from tfslim.quantization.layers import LayerNames


def ordered(
    chosen: recipe.Recipe,
    exempt: list[policy.Exemption],
    io: str,
    single: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Orders rules: the recipe's general ones, exemptions, I/O, the particular ones.

    Args:
        chosen: the recipe.
        exempt: what stays float.
        io: what becomes of inputs and outputs.
        single: rules for single ops, which win over all others.
    """
    general = [r for r in chosen.rules if (r["regex"], r["operation"]) == (".*", "*")]
    particular = [rule for rule in chosen.rules if rule not in general]
    borders: list[dict[str, Any]] = []
    if chosen.needs_ranges and io != "int8":
        borders = [_border(operation, io) for operation in ("INPUT", "OUTPUT")]
    # One rule for each regex and operation: of two, litert-quantizer takes the later.
    rules = [*(e.rule for e in exempt), *borders, *particular, *single]
    last = {(rule["regex"], rule["operation"]): rule for rule in rules}
    return [*general, *last.values()]


def deciding(
    rules: Sequence[Mapping[str, Any]], operation: str, scope: str
) -> Mapping[str, Any] | None:
    """Returns the rule that holds for an op, None if it stays float."""
    fitting = [
        rule
        for rule in rules
        if rule["operation"] in ("*", operation) and re.search(rule["regex"], scope)
    ]
    if not fitting or fitting[-1]["algorithm_key"] == "no_quantize":
        return None
    return fitting[-1]


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


def overrides(
    model: tflite.TfliteModel, layers: Mapping[str, str], keep_float: str = "xnnpack"
) -> tuple[list[dict[str, Any]], list[policy.Exemption], dict[str, recipe.Recipe]]:
    """Makes the rules for single layers.

    Args:
        model: the float model.
        layers: Keras layer name, pattern of such names ("block_1*") or name of an
            op's output tensor -> "float32" or another recipe's name. Of two that fit
            the later one holds.
        keep_float: as in `policy.exemptions`.

    Returns:
        Rules; the same as exemptions for the ops that stay float: those asked to, and
        those that the layer's recipe is not for; and an op's output -> the recipe that
        it takes.

    Raises:
        ConfigError: nothing fits a name, or there is no such recipe.
    """
    found: list[dict[str, Any]] = []
    exempt = []
    takes = {}
    graph, names = model.graphs[0], LayerNames(model)
    for pattern, name in layers.items():
        chosen = recipe.get(name)
        spared = policy.exemptions(chosen.scheme, graph, policy=keep_float)
        fitting = [op for op in graph.ops if names.fits(op, pattern)]
        if not fitting:
            known = dict.fromkeys(name for op in graph.ops for name in names.of(op))
            raise registry.unknown_name("layer", pattern, list(known))
        for op in fitting:
            scope = policy.scope(op, graph)
            regex = f"^{re.escape(scope)}$"
            reason = _why_float(op, scope, chosen, spared)
            if reason:
                exempt.append(policy.Exemption(op.name, regex, reason))
                found.append(exempt[-1].rule)
            else:
                rule = {**chosen.rules[0], "regex": regex, "operation": op.name}
                found.append(rule)
                takes[graph.tensors[op.outputs[0]].name] = chosen
    return found, exempt, takes


def _why_float(
    op: tflite.Op,
    scope: str,
    chosen: recipe.Recipe,
    spared: Sequence[policy.Exemption],
) -> str:
    """Says why an op stays float under its layer's recipe, "" where it does not."""
    if not chosen.rules:
        return "It was asked to be."
    for exemption in spared:
        if exemption.fits(op, scope):
            return exemption.reason
    if not litert.takes(chosen.rules[0], op.name):
        return f"Its layer takes '{chosen.name}', which does not exist for {op.name}."
    return ""
