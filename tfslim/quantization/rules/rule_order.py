"""The order of rules that litert-quantizer gets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import ops, registry, tflite
from tfslim.quantization import backend, ends
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.rules import policy, recipe

# Constants of an op that count as weights: 1 kB.
_MANY = 256


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What single layers take instead of the model's recipe.

    Attributes:
        rules: for those that take another recipe.
        exempt: those that stay float: asked to, or because their recipe is not for
            them.
        takes: an op's first output -> the recipe that it takes.
    """

    rules: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    exempt: list[policy.Exemption] = dataclasses.field(default_factory=list)
    takes: dict[str, recipe.Recipe] = dataclasses.field(default_factory=dict)


def plan(
    chosen: recipe.Recipe,
    graph: tflite.Graph,
    exempt: Sequence[policy.Exemption],
    *,
    io: str = "float",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    single: Overrides | None = None,
    spares_islands: bool = True,
) -> tuple[list[dict[str, Any]], list[policy.Exemption]]:
    """Returns all rules for a model, and all that stays float by them.

    Args:
        chosen: the recipe.
        graph: the float model's graph.
        exempt: what stays float whatever the ranges and the neighbours.
        io: what becomes of inputs and outputs.
        ranges: tensor name -> (min, max) of its activations, for static recipes.
        single: what single layers take, which wins over all else.
        spares_islands: whether ops among ops in float stay float.
    """
    single = single or Overrides()
    exempt = [*exempt, *policy.masked(graph, ranges or {})]
    if chosen.scheme == "static_int8" and spares_islands:
        exempt += ends.unlike_parts(graph, ranges or {})
    rules = _ordered(chosen, exempt, io, single)
    more = []
    if not chosen.needs_ranges:
        more = shared_weights(graph, rules)
    elif spares_islands:
        more = islands(graph, rules, io)
    if more:
        exempt += more
        rules = _ordered(chosen, exempt, io, single)
    return rules, [*single.exempt, *exempt]


def _ordered(
    chosen: recipe.Recipe,
    exempt: Sequence[policy.Exemption],
    io: str,
    single: Overrides,
) -> list[dict[str, Any]]:
    """Orders rules: the recipe's general ones, exemptions, I/O, the particular ones."""
    general = [r for r in chosen.rules if (r["regex"], r["operation"]) == (".*", "*")]
    particular = [rule for rule in chosen.rules if rule not in general]
    borders: list[dict[str, Any]] = []
    if chosen.needs_ranges and io != "int8":
        borders = [_border(operation, io) for operation in ("INPUT", "OUTPUT")]
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for rule in (
        *policy.to_rules(exempt),
        *borders,
        *particular,
        *single.rules,
        *policy.to_rules(single.exempt),
    ):
        # One for each regex and operation: litert-quantizer puts a second one in the
        # place of the first, before others that fit.
        key = rule["regex"], rule["operation"]
        last.pop(key, None)
        last[key] = rule
    return [*general, *last.values()]


def deciding(
    rules: Sequence[Mapping[str, Any]], operation: str, scope: str
) -> Mapping[str, Any] | None:
    """Returns the rule that holds for an op, None if it stays float.

    The last that fits; but rules of one regex stand where the first of them does.
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
    for sharing in readers.values():
        scopes = [policy.scope(op, graph) for op in sharing]
        chosen = [
            deciding(rules, op.name, scope)
            for op, scope in zip(sharing, scopes, strict=True)
        ]
        is_float = [
            rule is None or not backend.takes(rule, op.name)
            for rule, op in zip(chosen, sharing, strict=True)
        ]
        if all(is_float) or not any(is_float):
            continue
        other = sharing[is_float.index(True)].name
        reason = (
            f"{other} reads its weights, too, and stays float: one copy is smaller."
        )
        found += [
            policy.Exemption.of(op, graph, reason)
            for op, stays in zip(sharing, is_float, strict=True)
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
            known[op.name] = backend.takes(rule, op.name)
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
    return op.name in ops.WEIGHTS or max(sizes, default=0) >= _MANY


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
) -> Overrides:
    """Finds what single layers take instead of the model's recipe.

    Args:
        model: the float model.
        layers: Keras layer name, pattern of such names ("block_1*") or name of an
            op's output tensor -> "float32" or another recipe's name. Of two that fit
            the later one holds.
        keep_float: as in `policy.exemptions`.

    Raises:
        ConfigError: nothing fits a name, or there is no such recipe.
    """
    graph, names = model.graphs[0], LayerNames(model)
    chosen: dict[int, recipe.Recipe] = {}
    for pattern, name in layers.items():
        fitting = names.fitting(pattern)
        if not fitting:
            known = dict.fromkeys(name for op in graph.ops for name in names.of(op))
            raise registry.unknown_name("layer", pattern, list(known))
        chosen |= dict.fromkeys((op.index for op in fitting), recipe.get(name))
    spared = {
        one.scheme: policy.exemptions(one.scheme, graph, policy=keep_float)
        for one in chosen.values()
    }
    found = Overrides()
    for op in (graph.ops[index] for index in sorted(chosen)):
        own = chosen[op.index]
        reason = _why_float(op, policy.scope(op, graph), own, spared[own.scheme])
        if reason:
            found.exempt.append(policy.Exemption.of(op, graph, reason))
        else:
            found.rules.append(own.rules[0] | policy.single(op, graph))
            found.takes[graph.name_of(op)] = own
    return found


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
    if not backend.takes(chosen.rules[0], op.name):
        return f"Its layer takes '{chosen.name}', which does not exist for {op.name}."
    return ""
