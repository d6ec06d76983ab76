"""Darknet's `.weights`: a header, then float32 numbers in the order of the layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from tfslim import errors
from tfslim.detection.darknet.network import Convolutional, Network

_FLOAT = np.dtype("<f4")
# Of a batch norm, in the file's order.
NORM = ("beta", "gamma", "moving_mean", "moving_variance")


@dataclasses.dataclass(frozen=True)
class Header:
    """The beginning of a `.weights`.

    Attributes:
        version: major, minor, revision of the format.
        seen: images that the network was trained on.
    """

    version: tuple[int, int, int] = (0, 2, 0)
    seen: int = 0

    @property
    def _seen_bytes(self) -> int:
        # Darknet's own condition.
        major, minor, _ = self.version
        return 8 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 4

    @property
    def num_bytes(self) -> int:
        """The size in the file: 20, or 16 in old ones."""
        return 12 + self._seen_bytes

    def encode(self) -> bytes:
        """Returns the header as it stands in a file."""
        version = np.array(self.version, "<i4").tobytes()
        return version + self.seen.to_bytes(self._seen_bytes, "little")

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Reads the header that `data` begins with."""
        if len(data) < 16:
            raise errors.GraphError(
                f"The .weights has {len(data)} bytes, less than its header of 16 or "
                "20. Is it cut off?"
            )
        major, minor, revision = (int(n) for n in np.frombuffer(data, "<i4", 3))
        header = cls((major, minor, revision))
        seen = int.from_bytes(data[12 : header.num_bytes], "little")
        return dataclasses.replace(header, seen=seen)


@dataclasses.dataclass(frozen=True, eq=False)
class ConvWeights:
    """The numbers of one convolution.

    Attributes:
        kernel: [filters, channels / groups, size, size].
        bias: [filters]; None with batch norm, whose beta it is.
        norm: batch norm's arrays [filters] by the names `NORM`; None without.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    norm: dict[str, np.ndarray] | None = None

    def arrays(self) -> Iterator[np.ndarray]:
        """Yields the arrays in the file's order."""
        if self.norm is not None:
            yield from (self.norm[name] for name in NORM)
        elif self.bias is not None:
            yield self.bias
        yield self.kernel


def kernel_shapes(
    network: Network,
) -> Iterator[tuple[Convolutional, tuple[int, int, int, int]]]:
    """Yields the convolutions of a network and the shapes of their kernels."""
    for layer in network.layers:
        if isinstance(layer.op, Convolutional):
            op = layer.op
            inputs = network.shape(layer.inputs[0])[2] // op.groups
            yield op, (op.filters, inputs, op.size, op.size)


def num_params(network: Network) -> int:
    """Returns how many numbers the weights of a network have."""
    return sum(
        math.prod(shape) + op.filters * (4 if op.batch_normalize else 1)
        for op, shape in kernel_shapes(network)
    )


def decode(data: bytes, network: Network) -> tuple[Header, tuple[ConvWeights, ...]]:
    """Reads a `.weights`; the arrays are views on `data`.

    Raises:
        GraphError: it is shorter or longer than the network needs.
    """
    header = Header.decode(data)
    expected = header.num_bytes + 4 * num_params(network)
    if len(data) != expected:
        fault = "cut off" if len(data) < expected else "too long"
        raise errors.GraphError(
            f"The .weights has {len(data):,} bytes, and its .cfg needs {expected:,} "
            f"({header.num_bytes} and 4 x {num_params(network):,}). It is {fault}, or "
            "belongs to another .cfg."
        )
    numbers = np.frombuffer(data, _FLOAT, offset=header.num_bytes)
    position = 0

    def take(shape: tuple[int, ...]) -> np.ndarray:
        nonlocal position
        position += math.prod(shape)
        return numbers[position - math.prod(shape) : position].reshape(shape)

    found = []
    for op, shape in kernel_shapes(network):
        bias = norm = None
        if op.batch_normalize:
            norm = {name: take((op.filters,)) for name in NORM}
        else:
            bias = take((op.filters,))
        found.append(ConvWeights(take(shape), bias, norm))
    return header, tuple(found)


def encode(header: Header, weights: tuple[ConvWeights, ...]) -> bytes:
    """Returns the bytes of a `.weights`."""
    arrays = (array for conv in weights for array in conv.arrays())
    numbers = [np.ascontiguousarray(array, _FLOAT).tobytes() for array in arrays]
    return b"".join([header.encode(), *numbers])


def random(network: Network, seed: int = 0) -> tuple[ConvWeights, ...]:
    """Returns a start for training, as Darknet's: normal, of variance 2 / fan-in."""
    rng = np.random.default_rng(seed)
    found = []
    for op, shape in kernel_shapes(network):
        scale = np.float32(math.sqrt(2.0 / math.prod(shape[1:])))
        kernel = rng.standard_normal(shape, np.float32) * scale
        zeros, ones = np.zeros(op.filters, _FLOAT), np.ones(op.filters, _FLOAT)
        norm = dict(zip(NORM, (zeros, ones, zeros, ones), strict=True))
        if op.batch_normalize:
            found.append(ConvWeights(kernel, norm=norm))
        else:
            found.append(ConvWeights(kernel, bias=zeros))
    return tuple(found)
