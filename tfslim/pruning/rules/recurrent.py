"""Recurrent layers: a unit's gates fall together, and so does what they read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import ops
from tfslim.graph import ir
from tfslim.pruning.labels import LabelArray
from tfslim.pruning.rules import base

_ACTIVATIONS = ("activation", "recurrent_activation")
_MAPS = frozenset(name for name in ops.keras("recurrent") if name.startswith("Conv"))
_KINDS = ops.keras("recurrent") - _MAPS
_ODD = "is called with a mask or states that have no rule, so it stays"


def is_both_ways(layer: ir.Layer) -> bool:
    """Tells whether a layer is Keras's own Bidirectional, which is carried whole."""
    module = getattr(layer.keras_class, "__module__", "")
    is_keras = module.partition(".")[0] in ("keras", "tf_keras")
    return layer.op == "Bidirectional" and is_keras


def _freeze_comparing(
    call: base.Call, config: Mapping[str, Any], *, out: LabelArray
) -> None:
    """Freezes units whose activation may look at more than one of them."""
    for key in _ACTIVATIONS:
        named = config.get(key) or "linear"
        if not isinstance(named, str) or named not in ops.keras("elementwise"):
            call.freeze(out, f"has {key}={named}, which may compare units")


def _is_called_oddly(call: base.Call, *known: str) -> bool:
    return bool(set(call.node.kwargs) - {"training", *known})


def _weights(
    call: base.Call,
    source: LabelArray,
    *,
    out: LabelArray,
    op: str,
    ending: str = "",
) -> dict[str, tuple[LabelArray | None, ...]]:
    """Returns the labels of kernels and biases, whose gates stand side by side."""
    gates = np.tile(out, ops.KERAS[op].gates)
    rows = {"kernel": (source,), "recurrent_kernel": (out,)}
    found: dict[str, tuple[LabelArray | None, ...]] = {}
    for name in ("kernel", "recurrent_kernel", "bias"):
        weight = call.layer.weights.get(name + ending)
        if weight is not None:
            read = rows.get(name, ())
            found[name + ending] = (
                *(None,) * (weight.ndim - len(read) - 1),
                *read,
                gates,
            )
    return found


def _sized(
    part: Mapping[str, Any], out: LabelArray, *, source: LabelArray
) -> dict[str, Any]:
    """Returns the serialized layer of a direction, its sizes as labels."""
    sized = {**part, "config": {**part["config"], "units": out}}
    built = part.get("build_config") or {}
    if built.get("input_shape"):
        shape = [*built["input_shape"][:-1], source]
        sized["build_config"] = {**built, "input_shape": shape}
    return sized


@base.register(*_KINDS)
def recurrent(call: base.Call) -> base.Wiring:
    """Kernel [in, gates * units], recurrent kernel [units, gates * units].

    The recurrent kernel sums over the units themselves: a unit whose rows are zero
    there, and in what reads the layer's output, is as good as cut.
    """
    layer = call.layer
    out = call.fresh(layer.weights["recurrent_kernel"].shape[0])
    _freeze_comparing(call, layer.config, out=out)
    if _is_called_oddly(call, "initial_state"):
        call.freeze(out, _ODD)
        return base.Wiring(base.unknown(call).outputs)
    # States that the call begins with are added to what the units compute.
    for number, shape in enumerate(call.shapes[1:], start=1):
        call.unite(call.along(len(shape) - 1, number), out)
    source = call.along(len(call.shapes[0]) - 1)
    weights = _weights(call, source, out=out, op=layer.op)
    return base.Wiring(
        outputs=tuple(
            call.on_axis(out, len(shape) - 1, ndim=len(shape))
            for shape in call.node.shapes
        ),
        weights=weights,
        sums={name: 0 for name in weights if "kernel" in name},
        sizes={"units": out},
    )


@base.register(*_MAPS)
def convolutional(call: base.Call) -> base.Wiring:
    """Kernels [..., in, gates * filters] and [..., filters, gates * filters]."""
    layer = call.layer
    out = call.fresh(layer.weights["recurrent_kernel"].shape[-2])
    _freeze_comparing(call, layer.config, out=out)
    if len(call.shapes) > 1 or _is_called_oddly(call):
        call.freeze(out, _ODD)
        return base.Wiring(base.unknown(call).outputs)
    is_first = layer.config.get("data_format") == "channels_first"
    rank = len(call.shapes[0]) - 3
    source = call.along(2 if is_first else rank + 2)
    weights = _weights(call, source, out=out, op=layer.op)
    return base.Wiring(
        outputs=tuple(
            call.on_axis(
                out, len(shape) - 1 - (rank if is_first else 0), ndim=len(shape)
            )
            for shape in call.node.shapes
        ),
        weights=weights,
        sums={name: rank for name in weights if "kernel" in name},
        sizes={"filters": out},
    )


@base.register("Bidirectional")
def both_ways(call: base.Call) -> base.Wiring:
    """A layer for each direction, whose units are joined, or added and multiplied."""
    config = call.layer.config
    forward: Any = config.get("layer")
    backward: Any = config.get("backward_layer")
    parts = [forward, backward or forward]
    is_known = all(
        isinstance(part, Mapping) and part.get("class_name") in _KINDS for part in parts
    )
    if not is_known or len(call.shapes) > 1 or _is_called_oddly(call):
        return base.unknown(call)
    source = call.along(len(call.shapes[0]) - 1)
    weights: dict[str, tuple[LabelArray | None, ...]] = {}
    endings = ("", "_1")
    sizes = [call.layer.weights[f"recurrent_kernel{e}"].shape[0] for e in endings]
    made = np.split(call.fresh(sum(sizes)), sizes[:1])
    for part, out, ending in zip(parts, made, endings, strict=True):
        _freeze_comparing(call, part["config"], out=out)
        weights |= _weights(call, source, out=out, op=part["class_name"], ending=ending)
    mode = config.get("merge_mode")
    if not backward or mode not in (None, "concat"):
        call.unite(*made)
    joined = {None: made, "concat": [np.concatenate(made)]}.get(mode, made[:1])
    states = (len(call.node.shapes) - len(joined)) // 2
    given = [*joined, *made[:1] * states, *made[1:] * states]
    options = {"layer": _sized(forward, made[0], source=source)}
    if backward:
        options["backward_layer"] = _sized(backward, made[1], source=source)
    return base.Wiring(
        outputs=tuple(
            call.on_axis(labels, len(shape) - 1, ndim=len(shape))
            for labels, shape in zip(given, call.node.shapes, strict=True)
        ),
        weights=weights,
        sums={name: 0 for name in weights if "kernel" in name},
        sizes=options,
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
