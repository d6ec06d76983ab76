"""Which ops stay float although they could be quantized: each with its reason.

A target has a row for each op that runs faster, or is right only, in float there
(`by_target`); a test asks the runtime whether each row of the target "xnnpack" still
holds. What depends on ranges and neighbours stands in `masks` and `neighbours`; `plan`
puts all of it together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfslim import ops, targets, tflite

_COMPARISONS = ("EQUAL", "NOT_EQUAL")
_LARGEST_HALF = float(np.finfo(np.float16).max)
# The magnitude from which on a constant is taken for a mask.
MASKING = 1e6


@dataclasses.dataclass(frozen=True)
class Exemption:
    """A rule that keeps ops float, and why.

    Attributes:
        operation: op name.
        reason: one sentence for the report.
        scope: of the one op that it speaks of, see `scope`; None for all of the name.
        is_backends: whether it is litert-quantizer alone that cannot make integers of
            it.
    """

    operation: str
    reason: str
    scope: str | None = None
    is_backends: bool = False

    @classmethod
    def of(
        cls, op: tflite.Op, graph: tflite.Graph, reason: str, **more: Any
    ) -> Exemption:
        """Makes one of a single op."""
        return cls(op.name, reason, scope(op, graph), **more)

    def fits(self, op: tflite.Op, own: str) -> bool:
        """Whether it speaks of an op, whose scope is `own`."""
        return self.operation == op.name and self.scope in (None, own)


def of_graph(
    scheme: str, graph: tflite.Graph, *, target: targets.Target | None = None
) -> list[Exemption]:
    """Lists what stays float whatever the ranges are.

    Args:
        scheme: `Recipe.scheme`.
        graph: the float model's graph.
        target: where the file is to run; None: the default.
    """
    kept = by_target(scheme, graph, target=target or targets.get())
    kind = scheme.partition("_")[0]
    for op in graph.ops:
        for find in _FINDERS.get(kind, ()):
            if reason := find(op, graph):
                kept.append(Exemption.of(op, graph, reason))
        for find in _LIMITS.get(kind, ()):
            if reason := find(op, graph):
                kept.append(Exemption.of(op, graph, reason, is_backends=True))
    return kept


def by_target(
    scheme: str, graph: tflite.Graph, *, target: targets.Target
) -> list[Exemption]:
    """Lists the ops that are better off in float on a target.

    The one place that decides it. Rows without a scope hold for all ops of a name.
    """
    return [Exemption(row["operation"], row["reason"]) for row in target.rows(scheme)]


def reason_of(
    op: tflite.Op, graph: tflite.Graph, *, exempt: Sequence[Exemption]
) -> str | None:
    """Returns the first reason that keeps an op float; None if there is none."""
    own = scope(op, graph)
    return next((one.reason for one in exempt if one.fits(op, own)), None)


def rule_of(op: tflite.Op, graph: tflite.Graph) -> dict[str, str]:
    """Returns "operation" and "regex" of a rule for one op alone."""
    return {"operation": op.name, "regex": f"^{re.escape(scope(op, graph))}$"}


def to_rules(exempt: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Returns a rule for each op name, that keeps what is exempt in float.

    Not one for each op: litert-quantizer searches the regex of every rule in every op.
    """
    scopes: dict[str, list[str | None]] = {}
    for exemption in exempt:
        scopes.setdefault(exemption.operation, []).append(exemption.scope)
    found = []
    for operation, own in scopes.items():
        named = [re.escape(scope) for scope in dict.fromkeys(own) if scope is not None]
        regex = ".*" if None in own else f"^(?:{'|'.join(named)})$"
        rule = {"operation": operation, "regex": regex, "algorithm_key": "no_quantize"}
        found.append(rule)
    return found


def scope(op: tflite.Op, graph: tflite.Graph) -> str:
    """The text that a rule's regex is searched in, as litert-quantizer makes it."""
    return "".join(f"{graph.tensors[i].name};" for i in op.outputs if i >= 0)


def _unread_output(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds an output that no op reads.

    litert-quantizer leaves such an output float beside quantized ones, and the
    runtime refuses the file (measured with UNPACK, 0.11).
    """
    outputs = {tensor.index for tensor in graph.outputs}
    if len(op.outputs) > 1 and not outputs.union(graph.consumers).issuperset(
        op.outputs
    ):
        return "It has an output that nobody reads, which cannot be quantized."
    return ""


def _mask(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds a constant that INT8 cannot hold beside anything else.

    An attention mask adds -1e9 or -inf where a softmax is to see nothing: one scale for
    both leaves no level for the rest. The runtime aborts on a scale of inf.
    """
    largest = _largest_constant(op, graph)
    if not np.isfinite(largest) or (
        op.name in ops.tflite("additive") and largest >= MASKING
    ):
        return f"It reads a constant of {largest:.3g}, which takes all levels."
    return ""


def _unfit_weights(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds weights that no integer kernel takes as they would be."""
    is_constant = [i >= 0 and graph.tensors[i].is_constant for i in op.inputs]
    if op.name in ops.WEIGHTS and not is_constant[1]:
        return "Its weights are computed: INT8 kernels take symmetric constants only."
    return ""


def _constant_factor(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds products with a constant batch of matrices.

    litert-quantizer gives these a scale for each channel, of which the kernels take
    the first (measured, 0.11, litert 2.3).
    """
    if op.name == "BATCH_MATMUL" and any(
        i >= 0 and graph.tensors[i].is_constant for i in op.inputs
    ):
        return "One factor is constant and would have scales that the kernel ignores."
    return ""


def _state(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds what writes or reads a state, which goes with the op that keeps it."""
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    if any(t.is_variable for t in tensors) and op.name not in ops.tflite("stateful"):
        return "It sets or reads the state of a recurrent op."
    return ""


def _comparison(op: tflite.Op, graph: tflite.Graph) -> str:
    is_one = op.name in _COMPARISONS
    return "Of two scales equal values are unequal integers." if is_one else ""


def _beyond_half(op: tflite.Op, graph: tflite.Graph) -> str:
    """Finds constants that would be infinite in half precision."""
    largest = _largest_constant(op, graph)
    if largest > _LARGEST_HALF:
        return f"It has a constant of {largest:.3g}; float16 ends at 65504."
    return ""


_Finders = dict[str, Sequence[Callable[[tflite.Op, tflite.Graph], str]]]
_FINDERS: _Finders = {
    "static": (_mask, _unfit_weights, _state),
    "float16": (_beyond_half,),
}
# What litert-quantizer cannot make, and `integer` can.
_LIMITS: _Finders = {"static": (_unread_output, _constant_factor, _comparison)}


def _largest_constant(op: tflite.Op, graph: tflite.Graph) -> float:
    """Returns the greatest magnitude among the float constants that an op reads."""
    tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
    constants = [t.data for t in tensors if t.dtype == "float32" and t.is_constant]
    # Not by np.abs: it would copy every kernel.
    return max(
        (float(max(c.max(), -c.min())) for c in constants if c is not None and c.size),
        default=0.0,
    )
