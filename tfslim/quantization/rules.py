"""The order of rules that litert-quantizer gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import registry, tflite
from tfslim.quantization import litert, policy, recipe
from tfslim.quantization.layers import LayerNames

# Constants of an op that count as weights: 1 kB.
_MANY = 256


def plan(
    chosen: recipe.Recipe,
    graph: tflite.Graph,
    exempt: Sequence[policy.Exemption],
    *,
    io: str = "float",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    single: Sequence[dict[str, Any]] = (),
    spares_islands: bool = True,
) -> tuple[list[dict[str, Any]], list[policy.Exemption]]:
    """Returns all rules for a model, and all that stays float by them.

    Args:
        chosen: the recipe.
        graph: the float model's graph.
        exempt: what stays float whatever the ranges and the neighbours.
        io: what becomes of inputs and outputs.
        ranges: tensor name -> (min, max) of its activations, for static recipes.
        single: rules for single ops, which win over all others.
        spares_islands: whether ops among ops in float stay float.
    """
    exempt = [*exempt, *policy.masked(graph, ranges or {})]
    rules = ordered(chosen, exempt, io, single)
    more = []
    if not chosen.needs_ranges:
        more = shared_weights(graph, rules)
    elif spares_islands:
        more = islands(graph, rules, io)
    exempt += more
    return ordered(chosen, exempt, io, single) if more else rules, exempt


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
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for rule in rules:
        key = rule["regex"], rule["operation"]
        last.pop(key, None)  # In its place it would come before others that fit.
        last[key] = rule
    return [*general, *last.values()]


def deciding(
    rules: Sequence[Mapping[str, Any]], operation: str, scope: str
) -> Mapping[str, Any] | None:
    """Returns the rule that holds for an op, None if it stays float."""
    fitting = [
        rule
        for rule in rules
        if litert.is_op(rule["operation"], operation)
        and re.search(rule["regex"], scope)
    ]
    if not fitting or fitting[-1]["algorithm_key"] == "no_quantize":
        return None
    return fitting[-1]


def shared_weights(
    graph: tflite.Graph, rules: Sequence[Mapping[str, Any]]
) -> list[policy.Exemption]:
    """Finds ops whose weights another op reads, too, which stays float.

    An embedding's table may be the weights of the last layer. The file would hold them
    twice, and be larger than the float one.
    """
    readers: dict[int, list[tflite.Op]] = {}
    for op in graph.ops:
        for tensor in (graph.tensors[i] for i in op.inputs if i >= 0):
            is_weight = tensor.dtype == "float32" and len(tensor.shape) > 1
            if is_weight and tensor.raw is not None:
                readers.setdefault(tensor.raw.ctypes.data, []).append(op)
    found = []
    for ops in readers.values():
        scopes = [policy.scope(op, graph) for op in ops]
        chosen = [
            deciding(rules, op.name, scope)
            for op, scope in zip(ops, scopes, strict=True)
        ]
        is_float = [
            rule is None or not litert.takes(rule, op.name)
            for rule, op in zip(chosen, ops, strict=True)
        ]
        if all(is_float) or not any(is_float):
            continue
        other = ops[is_float.index(True)].name
        reason = (
            f"{other} reads its weights, too, and stays float: one copy is smaller."
        )
        found += [
            policy.Exemption.of(op, graph, reason)
            for op, stays in zip(ops, is_float, strict=True)
            if not stays
        ]
    return found


def islands(
    graph: tflite.Graph, rules: Sequence[Mapping[str, Any]], io: str
) -> list[policy.Exemption]:
    """Finds ops without weights that only ops in float surround.

    INT8 there costs two borders and levels, and gains nothing: of exp(x) + 1 before a
    logarithm the 1 would be lost.
    """
    known: dict[str, bool] = {}

    def is_quantized(op: tflite.Op) -> bool:
        rule = deciding(rules, op.name, policy.scope(op, graph))
        if op.name not in known and rule is not None:
            known[op.name] = litert.takes(rule, op.name)
        return rule is not None and known[op.name]

    quantized = {op.index for op in graph.ops if is_quantized(op)}
    weighted = {op.index for op in graph.ops if _holds_weights(op, graph)}
    ends = (
        {t.index for t in (*graph.inputs, *graph.outputs)} if io != "float" else set()
    )
    left = quantized - weighted
    while True:
        gone = {
            op.index
            for op in graph.ops
            if op.index in left
            and (
                ends & {*op.inputs, *op.outputs}
                or (_neighbours(op, graph) & quantized) - left
            )
        }
        if not gone:
            break
        left -= gone
    reason = "All ops around it are float: integers would cost two borders."
    return [
        policy.Exemption.of(op, graph, reason) for op in graph.ops if op.index in left
    ]


def _holds_weights(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Whether integers make the file smaller: it has a kernel or a table."""
    sizes = [
        graph.tensors[i].size
        for i in op.inputs
        if i >= 0
        and graph.tensors[i].is_constant
        and graph.tensors[i].dtype == "float32"
    ]
    return op.name in policy.WEIGHTED or max(sizes, default=0) >= _MANY


def _neighbours(op: tflite.Op, graph: tflite.Graph) -> set[int]:
    before = [graph.producers[i].index for i in op.inputs if i in graph.producers]
    after = [r.index for i in op.outputs for r in graph.consumers.get(i, [])]
    return {*before, *after}


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
            reason = _why_float(op, policy.scope(op, graph), chosen, spared)
            if reason:
                exempt.append(policy.Exemption.of(op, graph, reason))
                found.append(exempt[-1].rule)
            else:
                found.append(chosen.rules[0] | policy.single(op, graph))
                takes[graph.name_of(op)] = chosen
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
