"""Recurrent layers: a unit's gates fall together, and so does what they read of it."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.pruning.rules import base

_ACTIVATIONS = ("activation", "recurrent_activation")


@base.register("GRU", "LSTM", "SimpleRNN")
def recurrent(call: base.Call) -> base.Wiring:
    """Kernel [in, gates * units], recurrent kernel [units, gates * units].

    The recurrent kernel sums over the units themselves: a unit whose rows are zero
    there, and in what reads the layer's output, is as good as cut.
    """
    layer, row = call.layer, ops.KERAS[call.layer.op]
    recurrent_kernel = layer.weights["recurrent_kernel"]
    units = recurrent_kernel.shape[0]
    out = call.fresh(units)
    for key in _ACTIVATIONS:
        named = layer.config.get(key) or "linear"
        if not isinstance(named, str) or named not in ops.keras("elementwise"):
            call.freeze(out, f"has {key}={named}, which may compare units")
    others = set(call.node.kwargs) - {"initial_state", "training"}
    if others:
        call.freeze(out, f"is called with {', '.join(sorted(others))}, so it stays")
        return base.Wiring(base.unknown(call).outputs)
    # States that the call begins with are added to what the units compute.
    for number, shape in enumerate(call.shapes[1:], start=1):
        call.unite(call.along(len(shape) - 1, number), out)
    gates = np.tile(out, row.gates)
    weights = {
        name: (None,) * (weight.ndim - 1)
        + (gates if weight.shape[-1] == gates.size else out,)
        for name, weight in layer.weights.items()
    }
    weights["kernel"] = (call.along(len(call.shapes[0]) - 1), gates)
    weights["recurrent_kernel"] = (out, gates)
    return base.Wiring(
        outputs=tuple(
            call.on_axis(out, len(shape) - 1, ndim=len(shape))
            for shape in call.node.shapes
        ),
        weights=weights,
        sums={"kernel": 0, "recurrent_kernel": 0},
        sizes={"units": out},
    )


@base.register("Embedding")
def embedding(call: base.Call) -> base.Wiring:
    """Embeddings [words, width]: the width is made here."""
    out = call.fresh(call.layer.weights["embeddings"].shape[1])
    ndim = len(call.node.shapes[0])
    return base.Wiring(
        outputs=(call.on_axis(out, ndim - 1, ndim=ndim),),
        weights={"embeddings": (None, out)},
        sizes={"output_dim": out},
    )
