"""What to do about the slow ops, with the gain that measured ops predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tfslim import ops, tflite
from tfslim.analysis.layers import Profile, Row
from tfslim.benchmark import costs
from tfslim.benchmark.costs import changes
from tfslim.benchmark.costs.spec import OpSpec

# Ops below that share of the time are not worth a look.
_LEAST_SHARE = 0.01
# What gains less of the whole is not worth saying.
_LEAST_GAIN = 0.01
_CUT = 0.5
_RANK = 0.25
_MULTIPLE = 8
_SIDE = 0.75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to do.

    Attributes:
        action: "depthwise", "quantize", "prune", "factorize", "align", "fuse",
            "avoid", "keep float" or "resolution".
        index: of the op; -1: of the whole model.
        where: the layer or tensor.
        text: one sentence.
        gain_us: time that it saves, from measured ops; None: it is not known.
        gain: the same as a share of the whole.
    """

    action: str
    index: int
    where: str
    text: str
    gain_us: float | None
    gain: float | None


@dataclasses.dataclass(frozen=True)
class _Idea:
    """Ops in place of others, to be measured."""

    action: str
    row: Row
    text: str
    instead: tuple[OpSpec, ...]
    replaced: tuple[int, ...]


def advise(
    data: bytes,
    found: Profile,
    *,
    meter: costs.Meter,
) -> list[Advice]:
    """Returns what would help, the largest gain first.

    Each change of an op is measured on this machine as an op of its own, in the form
    that it would have; what it does to the accuracy is not known here.

    Args:
        data: the file.
        found: its profile, timed.
        meter: measures the changed ops where the profile was made.
    """
    model = tflite.read(data)
    specs = costs.specs_of(data, model)
    slow = [r for r in found.rows if r.share is not None and r.share >= _LEAST_SHARE]
    ideas = [idea for row in slow for idea in _ideas(row, specs, found=found)]
    meter.measure([spec for idea in ideas for spec in idea.instead])
    by_index = {row.index: row for row in found.rows}
    advice = [
        a
        for idea in ideas
        for a in _measured(idea, by_index, table=meter.table, found=found)
    ]
    advice += _structural(model, found, slow=slow)
    advice += _resolution(model, found)
    # What one op gains comes before what the whole model does.
    return sorted(advice, key=lambda a: (a.index < 0, -(a.gain_us or 0.0)))


def _ideas(
    row: Row, specs: Sequence[costs.Piece | None], *, found: Profile
) -> Iterator[_Idea]:
    spec = specs[row.index]
    if not isinstance(spec, OpSpec):
        return
    separable = changes.separable(spec)
    if separable is not None and spec.inputs[0].shape[-1] > 4:
        kernel, outputs = spec.inputs[1].shape, spec.outputs[0].shape[-1]
        theory = 1 / outputs + 1 / (kernel[1] * kernel[2])
        text = (
            "replace it by a depthwise-separable convolution and train again: "
            f"{theory:.0%} of its MACs"
        )
        yield _Idea("depthwise", row, text, separable, (row.index,))
    outputs = spec.outputs[0].shape[-1] if spec.outputs[0].shape else 0
    narrow = changes.with_outputs(spec, round(outputs * (1 - _CUT)))
    if narrow is not None and row.index != found.rows[-1].index and outputs >= 8:
        text = f"prune {_CUT:.0%} of its {outputs} channels; the ops behind gain, too"
        yield _Idea("prune", row, text, (narrow,), (row.index,))
    kernel_shape = spec.inputs[1].shape if len(spec.inputs) > 1 else ()
    if spec.op in ("FULLY_CONNECTED", "CONV_2D") and len(kernel_shape) > 1:
        rank = round(_RANK * min(kernel_shape[0], kernel_shape[-1]))
        thin = changes.low_rank(spec, rank) if rank >= 4 else None
        if thin is not None:
            text = f"factorize it at rank {rank}"
            yield _Idea("factorize", row, text, thin, (row.index,))
    if spec.op in ops.WEIGHTS and row.precision == "float32":
        whole = changes.integer(spec)
        if whole is not None:
            yield _Idea("quantize", row, "quantize it to INT8", (whole,), (row.index,))
    yield from _aligned(row, spec, outputs=outputs)


def _aligned(row: Row, spec: OpSpec, *, outputs: int) -> Iterator[_Idea]:
    less = outputs - outputs % _MULTIPLE
    if outputs % _MULTIPLE and less >= _MULTIPLE:
        aligned = changes.with_outputs(spec, less)
        if aligned is not None:
            text = (
                f"{less} channels in place of {outputs}, a multiple of {_MULTIPLE}, as "
                "the kernels compute them"
            )
            yield _Idea("align", row, text, (aligned,), (row.index,))


def _measured(
    idea: _Idea, rows: dict[int, Row], *, table: costs.CostTable, found: Profile
) -> Iterator[Advice]:
    now = sum(rows[index].us or 0.0 for index in idea.replaced)
    times = [costs.op_us(table, spec) for spec in idea.instead]
    if any(us is None for us in times):
        return
    then = sum(us for us in times if us is not None)
    gain_us = now - then
    gain = gain_us / found.sum_us if found.sum_us else 0.0
    text = f"{idea.text}: {now:,.0f} us become {then:,.0f} us"
    action = idea.action
    if action == "quantize" and gain_us < 0 and gain < -_LEAST_GAIN:
        action, gain_us, gain = "keep float", -gain_us, -gain
        text = f"keep it float: {now:,.0f} us, in INT8 {then:,.0f} us on this CPU"
        yield _advice(action, idea.row, text=text, gain_us=None, gain=None)
        return
    least = 3 * _LEAST_GAIN if action == "align" else _LEAST_GAIN
    if gain >= least:
        yield _advice(action, idea.row, text=text, gain_us=gain_us, gain=gain)


def _advice(
    action: str, row: Row, *, text: str, gain_us: float | None, gain: float | None
) -> Advice:
    return Advice(
        action=action,
        index=row.index,
        where=row.layer or row.tensor,
        text=text,
        gain_us=gain_us,
        gain=gain,
    )


def _structural(
    model: tflite.TfliteModel, found: Profile, *, slow: Sequence[Row]
) -> Iterator[Advice]:
    """Finds ops that need not be there, or stand outside of the delegate."""
    graph = model.graphs[0]
    for row in found.rows:
        op = graph.ops[row.index]
        gain = row.us / found.sum_us if row.us and found.sum_us else None
        if row.is_outside and found.partitions:
            text = "XNNPACK does not run it: the graph is cut here, and it runs alone"
            yield _advice("avoid", row, text=text, gain_us=row.us, gain=gain)
        elif _is_unfused(op, graph) and row in slow:
            text = f"fuse {op.name} into the op before it"
            yield _advice("fuse", row, text=text, gain_us=row.us, gain=gain)


def _is_unfused(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Whether a clamp stands alone behind an op that could do it itself."""
    if not op.name.startswith("RELU"):
        return False
    producer = graph.producers.get(op.inputs[0])
    if producer is None or len(graph.consumers[op.inputs[0]]) > 1:
        return False
    activation = getattr(producer.options, "fusedActivationFunction", None)
    return activation == 0


def _resolution(model: tflite.TfliteModel, found: Profile) -> Iterator[Advice]:
    """Says what a smaller image brings: what is computed by position shrinks."""
    shapes = [t.shape for t in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or min(shapes[0][1:3]) < 48:
        return
    graph = model.graphs[0]
    by_position = sum(
        row.us or 0.0
        for row in found.rows
        for shape in [graph.tensors[graph.ops[row.index].outputs[0]].shape]
        if len(shape) == 4 and min(shape[1:3]) > 1
    )
    gain_us = by_position * (1 - _SIDE**2)
    height, width = (round(side * _SIDE) for side in shapes[0][1:3])
    yield Advice(
        action="resolution",
        index=-1,
        where="input",
        text=f"an input of {height}x{width} in place of {shapes[0][1]}x{shapes[0][2]}, "
        "by area; train again",
        gain_us=gain_us,
        gain=gain_us / found.sum_us if found.sum_us else None,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A depthwise-separable convolution against the plain one in its place.

    Attributes:
        where: of the depthwise op.
        theory: share of the plain one's MACs, 1 / N + 1 / (h w).
        measured: share of the plain one's time.
    """

    where: str
    theory: float
    measured: float


def separable_pairs(
    data: bytes, found: Profile, *, meter: costs.Meter, most: int = 6
) -> list[Pair]:
    """Compares the slowest separable convolutions with plain ones of the same size.

    Source of the theory: Howard et al., "MobileNets", 2017,
    https://arxiv.org/abs/1704.04861, section 3.1.
    """
    model = tflite.read(data)
    graph, specs = model.graphs[0], costs.specs_of(data, model)
    rows = {row.index: row for row in found.rows}
    pairs = []
    for op in graph.ops:
        readers = graph.consumers.get(op.outputs[0], []) if op.outputs else []
        if op.name != "DEPTHWISE_CONV_2D" or len(readers) != 1:
            continue
        own, other = specs[op.index], specs[readers[0].index]
        if not isinstance(own, OpSpec) or not isinstance(other, OpSpec):
            continue
        whole = changes.plain(own, other) if other.op == "CONV_2D" else None
        if whole is not None:
            pairs.append((rows[op.index], rows[readers[0].index], whole))
    pairs.sort(key=lambda pair: -((pair[0].us or 0.0) + (pair[1].us or 0.0)))
    pairs = pairs[:most]
    meter.measure([whole for *_, whole in pairs])
    result = []
    for first, second, whole in pairs:
        us = costs.op_us(meter.table, whole)
        if us:
            height, width = whole.inputs[1].shape[1:3]
            result.append(
                Pair(
                    where=first.layer or first.tensor,
                    theory=1 / whole.outputs[0].shape[-1] + 1 / (height * width),
                    measured=((first.us or 0.0) + (second.us or 0.0)) / us,
                )
            )
    return result
