"""A convolution as 1x1, a smaller one of the same kernel size, and 1x1 again."""

from __future__ import annotations

import math

import numpy as np

from tfslim import ops
from tfslim.factorization import base, spectrum
from tfslim.graph import ir

_TRANSPOSED = ops.keras("transposed")
# Alternating improves a truncated start by a few percent, nearly all of it at once.
_ROUNDS = 5


class Tucker:
    """Tucker-2: a basis for the input channels, one for the outputs, and a core.

    At full rank a basis is square and goes into the core: its 1x1 layer is left out.

    Source: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and
    Low Power Mobile Applications", ICLR 2016, https://arxiv.org/abs/1511.06530. The
    bases: De Lathauwer et al., "On the Best Rank-1 and Rank-(R1, ..., RN)
    Approximation of Higher-Order Tensors", 2000, https://doi.org/10.1137/S0895479898346995.
    """

    def refusal(self, layer: ir.Layer) -> str | None:
        """Takes convolutions, transposed ones too, of one group, larger than 1x1."""
        if layer.op not in ops.keras("convolution", "transposed"):
            hint = ": method 'svd' takes it" if layer.op == "Dense" else ""
            return f"tucker takes convolutions, not {layer.op}{hint}"
        if layer.config.get("groups", 1) != 1:
            return "a grouped convolution has one kernel per group"
        if base.is_pointwise(layer):
            hint = "" if layer.op in _TRANSPOSED else ": method 'svd' takes it"
            return f"its kernel covers one position{hint}"
        return None

    def spectra(self, layer: ir.Layer) -> tuple[spectrum.Spectrum, ...]:
        """Returns the spectra on the input and on the output channels."""
        kernel = _kernel(layer)
        return tuple(
            spectrum.of_rows(spectrum.unfold(kernel, axis)) for axis in (-2, -1)
        )

    def ranks_for_energy(
        self, spectra: tuple[spectrum.Spectrum, ...], energy: float
    ) -> list[base.Ranks]:
        """Returns both ranks low, or one lower and the other full.

        The losses of the two sides add up at worst, so each takes half.
        """
        inputs, outputs = spectra
        half = (1.0 + energy) / 2.0
        return [
            (inputs.rank_for_energy(half), outputs.rank_for_energy(half)),
            (inputs.rank_for_energy(energy), outputs.size),
            (inputs.size, outputs.rank_for_energy(energy)),
        ]

    def macs(
        self, layer: ir.Layer, ranks: base.Ranks, positions: base.Positions
    ) -> int:
        """The first layer works at the input's positions, the last at the output's."""
        *window, inputs, outputs = _kernel(layer).shape
        rank_in, rank_out = ranks
        macs = positions.kernel * math.prod(window) * rank_in * rank_out
        if rank_in < inputs:
            macs += positions.input * inputs * rank_in
        if rank_out < outputs:
            macs += positions.output * rank_out * outputs
        return macs

    def chain(
        self,
        layer: ir.Layer,
        spectra: tuple[spectrum.Spectrum, ...],
        ranks: base.Ranks,
    ) -> tuple[list[base.Link], spectrum.Matrix]:
        """Returns one to three layers; only the last has bias and activation."""
        kernel = _kernel(layer).astype(np.float64)
        *_, inputs, outputs = kernel.shape
        first, second = _bases(kernel, spectra, ranks=ranks)
        core = first.T @ kernel @ second
        stored = _kernel(layer, core)
        pointwise = base.pointwise(layer)
        window = (1,) * (kernel.ndim - 2)
        links = []
        if ranks[0] < inputs:
            squeeze = first.reshape(*window, *first.shape)
            part = base.linear(pointwise, "in", kernel=squeeze, filters=ranks[0])
            links.append(base.Link(part, at_input=True))
        if ranks[1] < outputs:
            expand = second.T.reshape(*window, *second.T.shape)
            part = base.linear(layer, "core", kernel=stored, filters=ranks[1])
            links += [base.Link(part), base.Link(base.last(pointwise, expand))]
        else:
            links.append(base.Link(base.last(layer, stored)))
        return links, _kernel(layer, first @ core @ second.T)


def _bases(
    kernel: spectrum.Matrix,
    spectra: tuple[spectrum.Spectrum, ...],
    *,
    ranks: base.Ranks,
) -> tuple[spectrum.Matrix, spectrum.Matrix]:
    """Returns orthonormal bases [in, rank] and [out, rank]; full ones are unit."""
    first, second = (
        np.eye(side.size) if rank == side.size else side.leading(rank)
        for side, rank in zip(spectra, ranks, strict=True)
    )
    if ranks[0] == len(first) or ranks[1] == len(second):
        return first, second  # One side alone is at its best.
    for _ in range(_ROUNDS):
        # Each side again, for the other as it is: higher-order orthogonal iteration.
        inputs = spectrum.of_rows(spectrum.unfold(kernel @ second, -2))
        first = inputs.leading(ranks[0])
        outputs = spectrum.of_rows(spectrum.unfold(first.T @ kernel, -1))
        second = outputs.leading(ranks[1])
    return first, second


def _kernel(layer: ir.Layer, kernel: ir.Array | None = None) -> ir.Array:
    """Returns a kernel, by default the layer's, as [..., in, out] or back.

    A transposed convolution has [..., out, in]; the change is its own inverse.
    """
    kernel = layer.weights["kernel"] if kernel is None else kernel
    return np.swapaxes(kernel, -1, -2) if layer.op in _TRANSPOSED else kernel


base.METHODS.register("tucker")(Tucker())
