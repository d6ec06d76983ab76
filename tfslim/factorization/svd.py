"""A matrix as the product of two narrow ones: Dense layers and 1x1 convolutions."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.factorization import base, spectrum
from tfslim.graph import ir

_CONVOLUTIONS = ops.keras("convolution")


class Svd:
    """Splits a layer in two at the singular values of its matrix [in, out].

    Source: Denton et al., "Exploiting Linear Structure Within Convolutional Networks
    for Efficient Evaluation", NIPS 2014, https://arxiv.org/abs/1404.0736.
    """

    def refusal(self, layer: ir.Layer) -> str | None:
        """Takes Dense layers and 1x1 convolutions of one group."""
        if layer.op == "Dense":
            return None
        if layer.op not in _CONVOLUTIONS:
            return f"svd takes Dense and 1x1 convolutions, not {layer.op}"
        if layer.config.get("groups", 1) != 1:
            return "a grouped convolution has one matrix per group"
        if not base.is_pointwise(layer):
            return "its kernel covers several positions: method 'tucker' takes it"
        return None

    def spectra(self, layer: ir.Layer) -> tuple[spectrum.Spectrum, ...]:
        """Returns the spectrum on the shorter side of the matrix."""
        matrix = _matrix(layer)
        rows, columns = matrix.shape
        return (spectrum.of_rows(matrix if rows <= columns else matrix.T),)

    def ranks_for_energy(
        self, spectra: tuple[spectrum.Spectrum, ...], energy: float
    ) -> list[base.Ranks]:
        """Returns the one rank."""
        return [(spectra[0].rank_for_energy(energy),)]

    def macs(
        self, layer: ir.Layer, ranks: base.Ranks, positions: base.Positions
    ) -> int:
        """Both halves are computed at the output's positions, behind the stride."""
        return positions.output * ranks[0] * sum(_matrix(layer).shape)

    def chain(
        self,
        layer: ir.Layer,
        spectra: tuple[spectrum.Spectrum, ...],
        ranks: base.Ranks,
    ) -> tuple[list[base.Link], spectrum.Matrix]:
        """Returns two layers of the same op, each with half of the scale."""
        matrix = _matrix(layer).astype(np.float64)
        rows, columns = matrix.shape
        vectors = spectra[0].leading(ranks[0])
        # Even scales keep fine-tuning steady and the range between the halves small.
        scale = np.maximum(spectra[0].energies[: ranks[0]], 1e-30) ** 0.25
        if rows <= columns:
            first, second = vectors * scale, (vectors / scale).T @ matrix
        else:
            first, second = matrix @ (vectors / scale), (vectors * scale).T
        leading = layer.weights["kernel"].shape[:-2]
        kernels = [half.reshape(*leading, *half.shape) for half in (first, second)]
        if layer.op == "Dense":
            narrow = base.linear(layer, "in", kernel=kernels[0], units=ranks[0])
            wide = base.last(layer, kernels[1])
        else:
            narrow = base.linear(layer, "in", kernel=kernels[0], filters=ranks[0])
            wide = base.last(base.pointwise(layer), kernels[1])
        links = [base.Link(narrow), base.Link(wide)]
        return links, (first @ second).reshape(layer.weights["kernel"].shape)


def _matrix(layer: ir.Layer) -> ir.Array:
    kernel = layer.weights["kernel"]
    return kernel.reshape(kernel.shape[-2:])


base.METHODS.register("svd")(Svd())
