"""Files that load: rules and ranges in, and what the runtime refuses stays float."""

from __future__ import annotations

import dataclasses
import re

from tfslim import errors, tflite
from tfslim.quantization import backend, recurrent, tables
from tfslim.quantization.integer import complete
from tfslim.quantization.ranges import backend_ranges
from tfslim.quantization.rules import plan as plan_lib
from tfslim.quantization.rules.kept_float import Exemption

_MOST_REFUSED = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A quantized file that loads.

    Attributes:
        content: the file.
        model: what it holds.
        plan: the rules that it was made by, and what stays float by them.
        request: what was asked for, without what the runtime refused.
    """

    content: bytes
    model: tflite.TfliteModel
    plan: plan_lib.Plan
    request: plan_lib.Request


def make_file(source: bytes, request: plan_lib.Request) -> Made:
    """Quantizes, and again without the ops that the runtime refuses.

    Args:
        source: the prepared float model.
        request: what is wanted of it.

    Raises:
        QuantizationError: the file does not load whatever is left out.
        ConversionError: the float model does not load.
    """
    for num_refused in range(_MOST_REFUSED + 1):
        plan = plan_lib.plan(request)
        content = by_rules(source, complete.handed_on(request, plan), rules=plan.rules)
        content = complete.absorb(content, request, plan=plan)
        try:
            return Made(content, tflite.Runner(content).model, plan, request)
        except errors.ConversionError as error:
            tflite.Runner(source)  # Else it is no fault of the quantizer.
            op = _refused_op(
                str(error), tflite.read(content).graphs[0], graph=request.graph
            )
            if op is None or num_refused == _MOST_REFUSED:
                raise errors.QuantizationError(
                    f"The quantized file does not load ({error}) This is a fault of "
                    "the quantizer or the runtime with the op it names: keep that op "
                    "float by a recipe of your own."
                ) from error
            reason = f"The runtime refuses it in integers ({error})"
            request = request.without(Exemption.of(op, request.graph, reason))
    raise AssertionError("The last turn returns or raises.")


def by_rules(
    source: bytes, request: plan_lib.Request, *, rules: backend.Rules
) -> bytes:
    """Quantizes by `rules` and the request's ranges, once."""
    ranges, given = request.ranges, None
    if ranges is not None:
        given = backend_ranges.for_backend(request.graph, ranges, rules=rules)
    content = backend.quantize(source, rules, ranges=given)
    content = recurrent.finish(content, request.graph, ranges=ranges or {}, rules=rules)
    return tables.halve(content, request.graph, rules=rules)


def _refused_op(
    message: str, quantized: tflite.Graph, *, graph: tflite.Graph
) -> tflite.Op | None:
    """Finds the op of the float graph that the runtime's message is about."""
    # "failed to delegate ADD node #3", or "Node number 3 (ADD) failed to prepare".
    pattern = r"node #(\d+)|Node number (\d+) \((?!Tf)"
    places = [int("".join(pair)) for pair in re.findall(pattern, message)]
    ops = [quantized.ops[place] for place in places if place < len(quantized.ops)]
    names = [quantized.name_of(op) for op in ops]
    names += re.findall(r"scales at tensor '(.+?)' need", message)  # `Runner`'s own.
    return next((op for op in graph.ops if graph.name_of(op) in names), None)
