"""Attention: whole heads fall, and the widths of what goes in."""

from __future__ import annotations

import numpy as np

from tfslim.pruning.labels import LabelArray
from tfslim.pruning.rules import base


@base.register("MultiHeadAttention")
def multi_head_attention(call: base.Call) -> base.Wiring:
    """Query, key and value kernels [in, heads, size], output [heads, size, out].

    Softmax compares positions, each head by itself. The output kernel sums over heads:
    one whose rows are zero there is as good as cut.
    """
    layer, config = call.layer, call.layer.config
    heads = call.fresh(int(config["num_heads"]))
    if not _is_plain(call):
        for labels in call.inputs:
            call.freeze(labels, "attends in a way that has no rule")
        call.freeze(heads, "attends in a way that has no rule")
        return base.Wiring(_fixed(call))
    sources = [call.along(2, number) for number in range(len(call.inputs))]
    # The call takes query, value and, where it is another, key.
    query, value = sources[:2]
    key = sources[2] if len(sources) > 2 else value
    out = _widths(call, query)
    weights: dict[str, tuple[LabelArray | None, ...]] = {}
    sums = {}
    for number, source in enumerate((query, key, value, None)):
        suffix = f"_{number}" if number else ""
        kernel, bias = f"kernel{suffix}", f"bias{suffix}"
        if source is None:
            weights |= {kernel: (heads, None, out), bias: (out,)}
        else:
            weights |= {kernel: (source, heads, None), bias: (heads, None)}
        sums[kernel] = 0
    weights = {name: axes for name, axes in weights.items() if name in layer.weights}
    outputs = [call.on_axis(out, 2, ndim=3)]
    if len(call.node.shapes) > 1:  # The scores [batch, heads, query, key].
        outputs.append(call.on_axis(heads, 1, ndim=4))
    return base.Wiring(
        outputs=tuple(outputs),
        weights=weights,
        sums=sums,
        sizes={"num_heads": heads, **_output_size(call, out)},
    )


def _is_plain(call: base.Call) -> bool:
    """Tells whether it attends along one axis of [batch, steps, width], unmasked."""
    known = {"training", "return_attention_scores", "use_causal_mask"}
    expected = {f"kernel{s}" for s in ("", "_1", "_2", "_3")}
    return (
        all(len(shape) == 3 for shape in call.shapes)
        and 2 <= len(call.inputs) <= 3
        and set(call.node.kwargs) <= known
        and expected <= set(call.layer.weights)
        and not call.layer.config.get("use_gate")
        and _output_shape(call) is not NotImplemented
    )


def _output_shape(call: base.Call) -> object:
    """Returns None for the width of the query, or the one that was asked for."""
    asked = call.layer.config.get("output_shape")
    if asked is None or isinstance(asked, int):
        return asked
    return asked[0] if len(asked) == 1 else NotImplemented


def _widths(call: base.Call, query: LabelArray) -> LabelArray:
    if _output_shape(call) is None:
        return query
    return call.fresh(int(call.layer.weights["kernel_3"].shape[2]), "width")


def _output_size(call: base.Call, out: LabelArray) -> dict[str, object]:
    asked = call.layer.config.get("output_shape")
    if asked is None:
        return {}
    return {"output_shape": out if isinstance(asked, int) else [out]}


def _fixed(call: base.Call) -> tuple[LabelArray, ...]:
    return tuple(np.zeros((1,) * len(s), np.int64) for s in call.node.shapes)
