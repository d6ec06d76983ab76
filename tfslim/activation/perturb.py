"""Moving weights between trainings: distortion and a passing L1 penalty."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import errors, registry
from tfslim.graph import ir

_REGULARIZERS = ("kernel_regularizer", "bias_regularizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What happens to weights besides training.

    Attributes:
        distortion: before each training but the first, every kernel and bias w moves
            by `distortion * r * (1 - var(w))`, r uniform in [-1, 1) for each number.
            Source: Çallı, "Optimizing Neural Networks for Mobile Devices", Radboud
            University, 2017, section 2.2.2, where distortion is 1.
        l1: weight of an L1 penalty on kernels and biases while training.
        seed: of r.
    """

    distortion: float = 0.0
    l1: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("distortion", "l1"):
            value = getattr(self, name)
            if not value >= 0.0:
                raise errors.ConfigError(f"{name} must be 0 or more, got {value}.")


VARIANTS: dict[str, Perturbation] = {
    "vanilla": Perturbation(),
    "distorted": Perturbation(distortion=1.0),
    "regularized": Perturbation(distortion=1.0, l1=1e-4),
}


def perturbation(variant: str | Perturbation) -> Perturbation:
    """Returns the perturbation that is called so, or the given one."""
    if isinstance(variant, Perturbation):
        return variant
    if variant not in VARIANTS:
        raise registry.unknown_name("variant", variant, VARIANTS)
    return VARIANTS[variant]


def distort(graph: ir.Graph, amount: float, random: np.random.Generator) -> ir.Graph:
    """Returns the graph with kernels and biases moved; see `Perturbation`."""
    changed = {}
    for layer in _trainable(graph):
        weights = dict(layer.weights)
        for name in {"kernel", "bias"} & set(weights):
            weight = weights[name]
            step = random.uniform(-1.0, 1.0, weight.shape) * (1.0 - weight.var())
            weights[name] = (weight + amount * step).astype(weight.dtype)
        changed[layer.name] = dataclasses.replace(layer, weights=weights)
    return graph.with_layers(changed)


def with_l1(graph: ir.Graph, amount: float) -> ir.Graph:
    """Returns the graph with an L1 penalty on all kernels and biases."""
    penalty = {"class_name": "L1", "config": {"l1": amount}}
    return _with_regularizers(
        graph,
        {
            layer.name: dict.fromkeys(_REGULARIZERS, penalty)
            for layer in _trainable(graph)
        },
    )


def with_regularizers_of(graph: ir.Graph, original: ir.Graph) -> ir.Graph:
    """Returns the graph with the penalties that another, of the same layers, has."""
    return _with_regularizers(
        graph,
        {
            layer.name: {
                key: original.layers[layer.name].config.get(key)
                for key in _REGULARIZERS
            }
            for layer in _trainable(graph)
        },
    )


def _with_regularizers(
    graph: ir.Graph, wanted: Mapping[str, Mapping[str, Any]]
) -> ir.Graph:
    return graph.with_layers(
        {
            name: dataclasses.replace(
                graph.layers[name], config={**graph.layers[name].config, **options}
            )
            for name, options in wanted.items()
        }
    )


def _trainable(graph: ir.Graph) -> list[ir.Layer]:
    return [
        layer
        for layer in graph.layers.values()
        if layer.trainable and "kernel" in layer.weights and layer.keras_class is None
    ]
