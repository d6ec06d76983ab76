"""Which layers have a kernel that can be treated, and what is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tfslim import checks, errors, ops
from tfslim.graph import ir

# Op -> the weight that TF-MOT clusters, masks: the last of its kernels.
CLUSTERABLE = {
    name: [*op.kernels][-1]
    for name, op in ops.KERAS.items()
    if op.kernels and "depthwise" not in op.traits
}
PRUNABLE = {
    name: kernel for name, kernel in CLUSTERABLE.items() if name != "Conv1DTranspose"
}


def kernel_of(layer: ir.Layer) -> ir.Array:
    """Returns the kernel of a layer that can be treated."""
    return layer.weights[CLUSTERABLE[layer.op]]


def kernel_in(
    layer: ir.Layer, values: Mapping[str, Mapping[str, np.ndarray]]
) -> np.ndarray:
    """Returns the kernel of a layer among the values of all layers."""
    return values[layer.name][CLUSTERABLE[layer.op]]


def num_inputs(layer: ir.Layer) -> int:
    """Returns how many channels one output of a layer's kernel sums over."""
    axis = -1 if layer.op.endswith("Transpose") else -2
    return int(kernel_of(layer).shape[axis])


def choose(
    graph: ir.Graph,
    ignore: str | Iterable[str],
    *,
    known: Mapping[str, str],
    refusal: Callable[[ir.Layer], str | None],
) -> tuple[list[str], dict[str, str]]:
    """Chooses the layers to treat.

    Args:
        graph: the model.
        ignore: names or patterns of layers to leave alone.
        known: the ops that the method can treat.
        refusal: says why a method cannot treat a layer, None where it can.

    Returns:
        The names of the layers to treat, and of the others with the reason.

    Raises:
        ConfigError: a pattern fits no layer with a kernel, or none is left.
    """
    candidates = with_kernels(graph)
    names = [layer.name for layer in candidates]
    ignored = checks.matching("layer to ignore", ignore, names=names)
    chosen, skipped = [], {}
    for layer in candidates:
        if layer.name in ignored:
            reason: str | None = "ignored as asked"
        elif not layer.trainable:
            reason = "frozen (trainable=False)"
        elif layer.op not in known:
            reason = f"TF-MOT does not treat {layer.op}"
        else:
            reason = refusal(layer)
        if reason is None:
            chosen.append(layer.name)
        else:
            skipped[layer.name] = reason
    if not chosen:
        reasons = "; ".join(f"'{n}': {r}" for n, r in skipped.items())
        raise errors.ConfigError(
            f"No layer of '{graph.name}' can be treated: "
            f"{reasons or 'none has a kernel'}."
        )
    return chosen, skipped


def with_kernels(graph: ir.Graph) -> list[ir.Layer]:
    """Returns the layers that have a weight of two or more axes."""
    return [
        layer
        for layer in graph.layers.values()
        if layer.op != "Constant"
        and any(
            weight.ndim > 1 and name not in layer.state
            for name, weight in layer.weights.items()
        )
    ]
