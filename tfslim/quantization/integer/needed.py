"""How much of a tensor's range is needed: what every op behind it clips may go.

Where `minimum(x, 1)` follows a convolution, values of x above 1 need no step of INT8;
where SELECT takes EXP(x) for negative x alone, the large ones need none either. Ranges
are walked from the outputs to the inputs, as in interval analysis.
"""

from __future__ import annotations

import numpy as np

from tfslim import ops, tflite
from tfslim.quantization.integer import parameters

Range = tuple[float, float]

# A join takes its input's place where that costs the input at most this factor of its
# step: halving integers instead rounds all odd ones to one side.
_COARSER = 2.02


def narrowed(graph: tflite.Graph, ranges: parameters.Ranges) -> dict[str, Range]:
    """Returns ranges without what no reader tells from their ends.

    Where another reader's op joins a tensor to others of up to twice its range, it gets
    their range, so that no QUANTIZE is needed between them.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    found = {name: _with_zero(bounds) for name, bounds in ranges.items()}
    needed = {t.name: found[t.name] for t in graph.outputs if t.name in found}
    joined: dict[str, Range] = {}
    for op in reversed(graph.ops):
        names = [graph.tensors[i].name for i in op.outputs if i >= 0]
        # What a recurrent layer gives at one step it reads at the next.
        for name in names if "stateful" not in _traits(op) else ():
            _settle(found, name, needed=needed, joined=joined)
        given = found.get(names[0]) if len(names) == 1 else None
        is_joining = "joining" in _traits(op)
        for place, index in enumerate(op.inputs):
            name = graph.tensors[index].name
            if index < 0 or name not in found:
                continue
            wanted = None
            if given is not None:
                wanted = _before(op, graph, place=place, given=given)
            wanted = found[name] if wanted is None else wanted
            low, high = needed.get(name, wanted)
            needed[name] = min(low, wanted[0]), max(high, wanted[1])
            if is_joining and given is not None:
                joined[name] = given
    for tensor in graph.inputs:
        if tensor.name in found:
            _settle(found, tensor.name, needed=needed, joined=joined)
    return found


def _settle(
    found: dict[str, Range],
    name: str,
    *,
    needed: dict[str, Range],
    joined: dict[str, Range],
) -> None:
    """Decides a tensor's range, all of whose readers have been seen."""
    if name not in found or name not in needed:
        return
    own, wanted = found[name], needed[name]
    found[name] = max(own[0], wanted[0]), min(own[1], wanted[1])
    low, high = joined.get(name, found[name])
    if high - low <= _COARSER * (found[name][1] - found[name][0]):
        found[name] = min(low, found[name][0]), max(high, found[name][1])


def _before(
    op: tflite.Op, graph: tflite.Graph, *, place: int, given: Range
) -> Range | None:
    """Returns the values of an input of which the op makes those of a range."""
    traits = _traits(op)
    if "saturating" in traits:
        return given
    if not traits & {"additive", "scaling"} or (op.name == "DIV" and place):
        return None
    other = graph.constant(op.inputs[1 - place])
    if other is None or other.size != 1 or not np.isfinite(other).all():
        return None
    by = float(other.reshape(-1)[0])
    ends = np.array(given)
    if op.name == "ADD":
        ends = ends - by
    elif op.name == "SUB":
        ends = ends + by if place == 0 else by - ends
    elif by == 0.0:
        return None
    else:
        ends = ends / by if op.name == "MUL" else ends * by
    return _with_zero((float(ends.min()), float(ends.max())))


def _traits(op: tflite.Op) -> frozenset[str]:
    row = ops.TFLITE.get(op.name)
    return row.traits if row is not None else frozenset()


def _with_zero(bounds: Range) -> Range:
    return min(float(bounds[0]), 0.0), max(float(bounds[1]), 0.0)
