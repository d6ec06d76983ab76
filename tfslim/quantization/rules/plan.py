"""All rules that litert-quantizer gets for a file, and all that stays float by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import registry, targets, tflite
from tfslim.quantization import backend
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.rules import factors, kept_float, masks, neighbours, recipe
from tfslim.quantization.rules.kept_float import Exemption


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
    exempt: list[Exemption] = dataclasses.field(default_factory=list)
    takes: dict[str, recipe.Recipe] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What the rules of a file follow from; see `request`.

    Attributes:
        recipe: of the model.
        graph: the float model's.
        exempt: what stays float whatever the ranges and the neighbours, and what the
            runtime has refused so far.
        ranges: tensor name -> (min, max) of the activations, for static recipes.
        io: what becomes of inputs and outputs.
        single: what single layers take, which wins over all else.
        target: where the file is to run.
    """

    recipe: recipe.Recipe
    graph: tflite.Graph
    exempt: tuple[Exemption, ...]
    ranges: Mapping[str, tuple[float, float]] | None = None
    io: str = "float"
    single: Overrides = Overrides()
    target: targets.Target = dataclasses.field(default_factory=targets.get)

    def without(self, exemption: Exemption) -> Request:
        """Returns the same with one more op in float."""
        return dataclasses.replace(self, exempt=(*self.exempt, exemption))


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The rules of a file, in litert-quantizer's order, and what stays float.

    Attributes:
        rules: for litert-quantizer.
        exempt: why ops stay float.
        own: names of the first outputs of the ops that become INT8 without it.
    """

    rules: list[dict[str, Any]]
    exempt: list[Exemption]
    own: frozenset[str] = frozenset()


def request(
    chosen: recipe.Recipe,
    model: tflite.TfliteModel,
    *,
    io: str = "float",
    layers: Mapping[str, str] | None = None,
    target: targets.Target | None = None,
) -> Request:
    """Looks up what holds for a model before its ranges are known.

    Args:
        chosen: the recipe.
        model: the float model.
        io: what becomes of inputs and outputs.
        layers: Keras layer name, pattern of such names ("block_1*") or name of an
            op's output tensor -> "float32" or another recipe's name. Of two that fit
            the later one holds.
        target: where the file is to run; None: the default.

    Raises:
        ConfigError: no layer has such a name, or there is no such recipe.
    """
    graph, target = model.graphs[0], target or targets.get()
    return Request(
        recipe=chosen,
        graph=graph,
        exempt=tuple(kept_float.of_graph(chosen.scheme, graph, target=target)),
        io=io,
        single=_overrides(model, layers or {}, target=target),
        target=target,
    )


def plan(wanted: Request) -> Plan:
    """Returns the rules, and each reason for which an op stays float."""
    graph, ranges = wanted.graph, wanted.ranges or {}
    spares_islands = wanted.target.weighs_borders
    exempt = [*wanted.exempt, *masks.masked(graph, ranges)]
    if wanted.recipe.scheme == "static_int8":
        exempt += factors.fixed(graph)
    if wanted.recipe.scheme == "static_int8" and spares_islands:
        exempt += neighbours.unlike_parts(graph, ranges)
    rules = _ordered(wanted, exempt)
    own = _own(wanted, rules, exempt=exempt)
    more = []
    if not wanted.recipe.needs_ranges:
        more = neighbours.shared_weights(graph, rules)
    elif spares_islands:
        more = neighbours.islands(graph, rules, io=wanted.io, own=own)
    if more:
        exempt += more
        rules = _ordered(wanted, exempt)
        own = _own(wanted, rules, exempt=exempt)
    return Plan(rules, [*wanted.single.exempt, *exempt], own)


def _own(
    wanted: Request, rules: backend.Rules, *, exempt: Sequence[Exemption]
) -> frozenset[str]:
    """Names the first outputs of ops that become INT8 without litert-quantizer."""
    if wanted.recipe.scheme != "static_int8":
        return frozenset()
    graph = wanted.graph
    apart = wanted.single.takes
    return frozenset(
        graph.name_of(op)
        for op in graph.ops
        if wanted.target.makes_integer(op.name)
        and graph.name_of(op) not in apart
        and _is_left(op, wanted, rules=rules, exempt=exempt)
    )


def _is_left(
    op: tflite.Op,
    wanted: Request,
    *,
    rules: backend.Rules,
    exempt: Sequence[Exemption],
) -> bool:
    """Whether an op is to be INT8, and it is litert-quantizer that cannot make it."""
    own = kept_float.scope(op, wanted.graph)
    rule = recipe.deciding(rules, op.name, scope=own)
    if rule is not None:
        return not backend.takes(rule, op.name)
    reasons = [one for one in (*wanted.single.exempt, *exempt) if one.fits(op, own)]
    spared = bool(reasons) and all(one.is_backends for one in reasons)
    return spared and not wanted.target.allows_float


def _ordered(wanted: Request, exempt: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Orders rules: the recipe's general ones, exemptions, I/O, the particular ones."""
    own, single = wanted.recipe.rules, wanted.single
    general = [r for r in own if (r["regex"], r["operation"]) == (".*", "*")]
    borders: list[dict[str, Any]] = []
    if wanted.recipe.needs_ranges and wanted.io != "int8":
        borders = [_border(operation, wanted.io) for operation in ("INPUT", "OUTPUT")]
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for rule in (
        *kept_float.to_rules(exempt),
        *borders,
        *(rule for rule in own if rule not in general),
        *single.rules,
        *kept_float.to_rules(single.exempt),
    ):
        # One for each regex and operation: litert-quantizer puts a second one in the
        # place of the first, before others that fit.
        key = rule["regex"], rule["operation"]
        last.pop(key, None)
        last[key] = rule
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


def _overrides(
    model: tflite.TfliteModel, layers: Mapping[str, str], *, target: targets.Target
) -> Overrides:
    graph, names = model.graphs[0], LayerNames(model)
    chosen: dict[int, recipe.Recipe] = {}
    for pattern, name in layers.items():
        fitting = names.fitting(pattern)
        if not fitting:
            known = dict.fromkeys(name for op in graph.ops for name in names.of(op))
            raise registry.unknown_name("layer", pattern, known=list(known))
        chosen |= dict.fromkeys((op.index for op in fitting), recipe.get(name))
    spared = {
        one.scheme: kept_float.of_graph(one.scheme, graph, target=target)
        for one in chosen.values()
    }
    found = Overrides()
    for index in sorted(chosen):
        op, own = graph.ops[index], chosen[index]
        reason = kept_float.reason_of(op, graph, exempt=spared[own.scheme])
        if not own.rules:
            reason = "It was asked to be."
        elif reason is None and not backend.takes(own.rules[0], op.name):
            reason = (
                f"Its layer takes '{own.name}', which does not exist for {op.name}."
            )
        if reason is not None:
            found.exempt.append(Exemption.of(op, graph, reason))
        else:
            found.rules.append(own.rules[0] | kept_float.rule_of(op, graph))
            found.takes[graph.name_of(op)] = own
    return found
