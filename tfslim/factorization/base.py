"""What a method of factorization is: one layer in, a chain of cheaper ones out."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeAlias

import numpy as np

from tfslim import registry
from tfslim.factorization.spectrum import Matrix, Spectrum
from tfslim.graph import ir

Ranks: TypeAlias = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Positions:
    """How often a layer's parts are computed for one sample, all its calls together.

    Attributes:
        input: positions of the input, channels not counted.
        output: positions of the output.
        kernel: how often the whole kernel is applied.
    """

    input: int
    output: int
    kernel: int


@dataclasses.dataclass(frozen=True)
class Link:
    """One layer of a chain; `at_input` where it keeps the size of the chain's input."""

    layer: ir.Layer
    at_input: bool = False


class Method(Protocol):
    """One way to factorize. Spectra and ranks come in the same order."""

    def refusal(self, layer: ir.Layer) -> str | None:
        """Returns why a layer with a kernel is none for this method, None if it is."""

    def spectra(self, layer: ir.Layer) -> tuple[Spectrum, ...]:
        """Returns one spectrum for each rank that must be chosen."""

    def ranks_for_energy(
        self, spectra: tuple[Spectrum, ...], energy: float
    ) -> list[Ranks]:
        """Returns ranks that keep `energy`; several where no one is always cheapest."""

    def macs(self, layer: ir.Layer, ranks: Ranks, positions: Positions) -> int:
        """Returns the multiply-accumulates of the chain."""

    def chain(
        self, layer: ir.Layer, spectra: tuple[Spectrum, ...], ranks: Ranks
    ) -> tuple[list[Link], Matrix]:
        """Returns the chain, the last link named like the layer, and its kernel.

        The kernel is what the chain computes, in the shape of the layer's own.
        """


METHODS: registry.Registry[Method] = registry.Registry("factorization method")


def linear(layer: ir.Layer, suffix: str, *, kernel: Matrix, **config: Any) -> ir.Layer:
    """Returns a layer like `layer` with another kernel, without bias and activation."""
    options = {
        "use_bias": False,
        "activation": "linear",
        "activity_regularizer": None,
        # A norm that the whole kernel had to keep is no constraint of its factors.
        "kernel_constraint": None,
    }
    return dataclasses.replace(
        layer,
        name=f"{layer.name}_{suffix}",
        config={**layer.config, **options, **config},
        weights={"kernel": kernel.astype(layer.weights["kernel"].dtype)},
    )


def last(layer: ir.Layer, kernel: Matrix) -> ir.Layer:
    """Returns `layer` with another kernel; name, bias and activation stay."""
    weights = {
        **layer.weights,
        "kernel": kernel.astype(layer.weights["kernel"].dtype),
    }
    config = {**layer.config, "kernel_constraint": None}
    return dataclasses.replace(layer, config=config, weights=weights)


def is_pointwise(layer: ir.Layer) -> bool:
    """Tells whether a convolution's kernel covers one position."""
    return all(size == 1 for size in layer.config["kernel_size"])


def pointwise(layer: ir.Layer) -> ir.Layer:
    """Returns a convolution like `layer` whose kernel is to be 1x1, without stride."""
    ones = [1] * len(layer.config["kernel_size"])
    config = {
        **layer.config,
        "kernel_size": ones,
        "strides": ones,
        "dilation_rate": ones,
        "padding": "valid",
        "groups": 1,
    }
    config.pop("output_padding", None)
    op = layer.op.removesuffix("Transpose")
    return dataclasses.replace(layer, op=op, config=config)


def relative_error(kernel: ir.Array, approximation: Matrix) -> float:
    """Returns the norm of the difference over the norm of the kernel."""
    difference = kernel.astype(np.float64) - approximation
    return float(np.linalg.norm(difference) / np.linalg.norm(kernel))
