"""Which ops stay float although they could be quantized: a table with reasons.

`policy.json` has a row for each op that runs faster, or is right only, in float with
the XNNPACK of the ai-edge-litert in use; tests/quantization/test_policy.py asks the
runtime whether each row still holds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import ops, registry, tflite

_TABLE = Path(__file__).parent / "policy.json"

_COMPARISONS = ("EQUAL", "NOT_EQUAL")
_ADDS = ops.tflite("additive")
_LARGEST_HALF = float(np.finfo(np.float16).max)
# What a mask adds to where a softmax is to see nothing, and the magnitude from which on
# a value is taken for one. In what a softmax reads one that lies so far below 0 is one,
# too, if it lies so many times farther than anything above.
MASK = 1e9
_MASKING = 1e6
_FAR_BELOW = 64.0
_TIMES = 8.0
# Ops through which a mask reaches a softmax.
_MOVES = ops.tflite("reshaping", "transposing", "scaling", "additive")

# "xnnpack" keeps the table's ops float; "none" quantizes all that can be, for
# accelerators that have no float at all.
POLICIES = ("xnnpack", "none")


@dataclasses.dataclass(frozen=True)
class Exemption:
    """A rule that keeps ops float, and why.

    Attributes:
        operation: op name.
        reason: one sentence for the report.
        scope: of the one op that it speaks of, see `scope`; None for all of the name.
    """

    operation: str
    reason: str
    scope: str | None = None

    @classmethod
    def of(cls, op: tflite.Op, graph: tflite.Graph, reason: str) -> Exemption:
        """Makes one of a single op."""
        return cls(op.name, reason, scope(op, graph))

    def fits(self, op: tflite.Op, scope: str) -> bool:
        """Whether it speaks of `op`."""
        return op.name == self.operation and self.scope in (None, scope)


@functools.cache
def _table() -> dict[str, list[dict[str, str]]]:
    table: dict[str, list[dict[str, str]]] = json.loads(_TABLE.read_text("utf-8"))
    return table


def exemptions(
    scheme: str, graph: tflite.Graph, *, policy: str = "xnnpack"
) -> list[Exemption]:
    """Lists what stays float.

    Args:
        scheme: `Recipe.scheme`.
        graph: the float model's graph.
        policy: one of `POLICIES`.

    Raises:
        ConfigError: there is no such policy.
    """
    if policy not in POLICIES:
        raise registry.unknown_name("policy", policy, POLICIES)
    found = []
    if policy == "xnnpack":
        rows = _table().get(scheme, [])
        found = [Exemption(row["operation"], row["reason"]) for row in rows]
    if scheme.startswith("static"):
        found += _unread_outputs(graph)
        found += _masks(graph)
        found += _unfit_weights(graph)
        reason = "Of two scales equal values are unequal integers."
        found += [Exemption(name, reason) for name in _COMPARISONS]
    if scheme == "float16":
        found += _beyond_half(graph)
    return found


def single(op: tflite.Op, graph: tflite.Graph) -> dict[str, str]:
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


def _masks(graph: tflite.Graph) -> list[Exemption]:
    """Finds ops that read what INT8 cannot hold beside anything else.

    An attention mask adds -1e9 or -inf where a softmax is to see nothing: one scale for
    both leaves no level for the rest. The runtime aborts on a scale of inf.
    """
    found = []
    for op in graph.ops:
        largest = _largest_constant(op, graph)
        if not np.isfinite(largest) or (op.name in _ADDS and largest >= _MASKING):
            reason = f"It reads a constant of {largest:.3g}, which takes all levels."
            found.append(Exemption.of(op, graph, reason))
    return found


def _unfit_weights(graph: tflite.Graph) -> list[Exemption]:
    """Finds layers whose weights no integer kernel takes as they would be.

    Of a product with a constant batch of matrices litert-quantizer gives these a scale
    for each channel, of which the kernels take the first (measured, 0.11, litert 2.3).
    """
    computed = "Its weights are computed: INT8 kernels take symmetric constants only."
    constant = "One factor is constant and would have scales that the kernel ignores."
    found = []
    for op in graph.ops:
        is_constant = [i >= 0 and graph.tensors[i].is_constant for i in op.inputs]
        if op.name in ops.WEIGHTS and not is_constant[1]:
            found.append(Exemption.of(op, graph, computed))
        elif op.name == "BATCH_MATMUL" and any(is_constant):
            found.append(Exemption.of(op, graph, constant))
    return found


def _beyond_half(graph: tflite.Graph) -> list[Exemption]:
    """Finds ops with constants that would be infinite in half precision."""
    found = []
    for op in graph.ops:
        largest = _largest_constant(op, graph)
        if largest > _LARGEST_HALF:
            reason = f"It has a constant of {largest:.3g}; float16 ends at 65504."
            found.append(Exemption.of(op, graph, reason))
    return found


def masked(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> list[Exemption]:
    """Finds ops that read or write activations with a mask in them; see `_masks`.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    masks = masked_tensors(graph, ranges)
    found = []
    for op in graph.ops:
        names = [graph.tensors[i].name for i in (*op.inputs, *op.outputs) if i >= 0]
        masking = [name for name in names if name in masks]
        if masking:
            low, high = ranges[masking[0]]
            reason = f"Of values from {low:.3g} to {high:.3g} a mask takes all levels."
            found.append(Exemption.of(op, graph, reason))
    return found


def masked_tensors(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> list[str]:
    """Names the activations whose range a mask makes; arguments as for `masked`.

    What layers with weights write or read is none: there, large values are values.
    """
    found = []
    for tensor in graph.tensors:
        low, high = ranges.get(tensor.name, (0.0, 0.0))
        is_far = low <= -_FAR_BELOW and -low >= _TIMES * max(high, 1.0)
        is_mask = max(-low, high) >= _MASKING or (
            is_far and _is_softened(tensor.index, graph)
        )
        if is_mask and not _meets_weights(tensor.index, graph):
            found.append(tensor.name)
    return found


def _meets_weights(index: int, graph: tflite.Graph) -> bool:
    touching = list(graph.consumers.get(index, []))
    if index in graph.producers:
        touching.append(graph.producers[index])
    return any(op.name in ops.WEIGHTS for op in touching)


def _is_softened(index: int, graph: tflite.Graph) -> bool:
    """Whether a softmax reads the tensor, moved perhaps."""
    return any(
        op.name == "SOFTMAX"
        or (op.name in _MOVES and _is_softened(op.outputs[0], graph))
        for op in graph.consumers.get(index, [])
    )


def _largest_constant(op: tflite.Op, graph: tflite.Graph) -> float:
    """Returns the greatest magnitude among the float constants that an op reads."""
    tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
    constants = [t.data for t in tensors if t.dtype == "float32" and t.is_constant]
    return max((_largest(c) for c in constants if c is not None), default=0.0)


def _largest(constant: np.ndarray) -> float:
    # Not by np.abs: it would copy every kernel.
    return float(max(constant.max(), -constant.min())) if constant.size else 0.0


def _unread_outputs(graph: tflite.Graph) -> list[Exemption]:
    """Finds ops of which some output is read by nobody.

    litert-quantizer leaves such an output float beside quantized ones, and the
    runtime refuses the file (measured with UNPACK, 0.11).
    """
    read = set(graph.consumers) | {tensor.index for tensor in graph.outputs}
    reason = "It has an output that nobody reads, which cannot be quantized."
    return [
        Exemption.of(op, graph, reason)
        for op in graph.ops
        if len(op.outputs) > 1 and not read.issuperset(op.outputs)
    ]
