"""What zeros in the weights of a `.tflite` are worth: bytes, and perhaps time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tfslim import benchmark, errors, ops, tflite
from tfslim.analysis import sparse_inference
from tfslim.benchmark.result import describe
from tfslim.tflite import flatbuffer


@dataclasses.dataclass(frozen=True, eq=False)
class KernelSparsity:
    """The kernel of one op.

    Attributes:
        op: "CONV_2D", "FULLY_CONNECTED", …
        index: the op's place in the order of execution.
        tensor: the kernel's name in the file.
        dtype: "float32", "float16" or "int8".
        is_stored_sparse: whether the file has it in the sparse format.
        nonzero: bool array as the file shapes it: [outputs, ..., inputs], for
            depthwise convolutions [1, height, width, channels].
        num_values: different stored values in the whole kernel.
        num_values_per_channel: most different stored values in one output channel.
    """

    op: str
    index: int
    tensor: str
    dtype: str
    is_stored_sparse: bool
    nonzero: np.ndarray
    num_values: int
    num_values_per_channel: int

    @property
    def sparsity(self) -> float:
        """The share of zeros, 0 to 1."""
        return 1.0 - float(self.nonzero.mean())

    def fits(self, m: int, n: int) -> bool:
        """Whether of every n consecutive inputs of an output at least m are zero.

        Groups begin at the first input; a smaller one at the end may have as many
        nonzeros as the others.
        """
        rows = self.nonzero.reshape(-1, self.nonzero.shape[-1])
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % n)))
        return bool(padded.reshape(-1, n).sum(axis=1).max() <= n - m)


def read_sparsity(model: bytes | Path | str) -> tuple[KernelSparsity, ...]:
    """Reads the zeros and the different values of every kernel in a `.tflite`.

    Args:
        model: the file or its path. A zero of an integer kernel is its zero point.

    Returns:
        One entry an op with a constant kernel, in order of execution.

    Raises:
        ConversionError: it is no `.tflite`.
    """
    graph = tflite.read(model).graphs[0]
    found = []
    for op in graph.ops:
        if op.name not in ops.WEIGHTS:
            continue
        tensor = graph.stored(op.inputs[1])
        kernel = tensor.data
        if kernel is None or not kernel.ndim or not kernel.size:
            continue
        axis = ops.WEIGHTS[op.name].output_axis
        channels = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        found.append(
            KernelSparsity(
                op=op.name,
                index=op.index,
                tensor=tensor.name,
                dtype=tensor.dtype,
                is_stored_sparse=tensor.sparsity is not None,
                nonzero=kernel != _zero(tensor, kernel.ndim),
                num_values=len(np.unique(kernel)),
                num_values_per_channel=max(len(np.unique(row)) for row in channels),
            )
        )
    return tuple(found)


def _zero(tensor: tflite.Tensor, rank: int) -> np.ndarray:
    """Returns the stored number that means 0, to broadcast over the kernel."""
    if tensor.quantization is None:
        return np.zeros((), np.float32)
    zero = tensor.quantization.zero_point
    if tensor.quantization.is_per_channel:
        shape = [1] * rank
        shape[tensor.quantization.axis] = -1
        zero = zero.reshape(shape)
    return zero


@dataclasses.dataclass(frozen=True)
class SparsityAdvice:
    """What the zeros of a file bring.

    Attributes:
        size_bytes, gzip_bytes: of the file as it is.
        dense_gzip_bytes: of the same file with its zeros replaced by small numbers.
        stored_sparse_bytes: of the file with its kernels in the sparse format
            (`tflite.store_sparse`), None if none has zeros enough.
        kernels: every kernel.
        obstacles: number of the op -> why XNNPACK does not compute it sparsely, None
            where a phone's would.
        host_obstacle: why this machine's XNNPACK never does, None if it might.
        latency: of this file over that of the dense one on this machine; None if it
            was not measured.
    """

    size_bytes: int
    gzip_bytes: int
    dense_gzip_bytes: int
    stored_sparse_bytes: int | None
    kernels: tuple[KernelSparsity, ...]
    obstacles: dict[int, str | None]
    host_obstacle: str | None
    latency: benchmark.Comparison | None

    @property
    def sparsity(self) -> float:
        """The share of zeros in all kernels, 0 to 1."""
        total = sum(kernel.nonzero.size for kernel in self.kernels)
        zeros = sum(int(np.sum(~kernel.nonzero)) for kernel in self.kernels)
        return zeros / total if total else 0.0

    @property
    def num_sparse_ops(self) -> int:
        """Ops that a phone's XNNPACK would compute with sparse kernels."""
        return sum(obstacle is None for obstacle in self.obstacles.values())

    def __str__(self) -> str:
        """Returns the report, a few lines and one a kernel."""
        lines = [
            f"{self.sparsity:.1%} zeros in {len(self.kernels)} kernels",
            f"size {self.size_bytes:,} bytes, gzip {self.gzip_bytes:,} "
            f"({self.gzip_bytes / self.dense_gzip_bytes:.2f} of the dense file's)",
        ]
        if self.stored_sparse_bytes is not None:
            lines.append(f"in the sparse format {self.stored_sparse_bytes:,} bytes")
        lines.append(
            f"XNNPACK's sparse kernels: {self.num_sparse_ops} of "
            f"{len(self.obstacles)} ops on a phone"
        )
        if self.host_obstacle is not None:
            lines.append(f"on this machine none: {self.host_obstacle}")
        if self.latency is not None:
            lines.append(_latency_line(self.latency))
        for kernel in self.kernels:
            obstacle = self.obstacles.get(kernel.index)
            reason = "sparse kernel" if obstacle is None else f"dense: {obstacle}"
            if kernel.index not in self.obstacles:
                reason = "dense: XNNPACK has no sparse kernel for it"
            lines.append(
                f"  {kernel.op} '{kernel.tensor}': {kernel.sparsity:.1%} zeros, "
                f"{kernel.num_values} values; {reason}"
            )
        return "\n".join(lines)


def advise_sparsity(
    model: bytes | Path | str,
    *,
    measure_latency: bool = True,
    options: benchmark.Options | None = None,
) -> SparsityAdvice:
    """Says honestly what the zeros in a `.tflite` are worth.

    Zeros make a packed file smaller. They make it faster only where XNNPACK takes its
    sparse kernels, and the report says for which ops it does not, and why. The
    latency is measured against the same file without zeros, interleaved.

    Args:
        model: the file or its path.
        measure_latency: whether to run both files on this machine.
        options: how often and on how many threads to run them.

    Raises:
        ConversionError: it is no `.tflite`.
        BenchmarkError: it does not run.
    """
    data = flatbuffer.read_file(model) if isinstance(model, Path | str) else model
    kernels = read_sparsity(data)
    if not kernels:
        raise errors.ConfigError(
            "The file has no convolution or Dense layer with a constant kernel."
        )
    dense = without_zeros(data)
    sparse = tflite.store_sparse(data)
    latency = None
    if measure_latency:
        results = benchmark.run_host({"dense": dense, "sparse": data}, options)
        latency = benchmark.compare(*results)
    facts = describe(data)
    return SparsityAdvice(
        size_bytes=facts["size_bytes"],
        gzip_bytes=facts["gzip_bytes"],
        dense_gzip_bytes=describe(dense)["gzip_bytes"],
        stored_sparse_bytes=None if sparse == data else len(sparse),
        kernels=kernels,
        obstacles=sparse_inference.obstacles(tflite.read(data)),
        host_obstacle=sparse_inference.host_obstacle(),
        latency=latency,
    )


def without_zeros(data: bytes) -> bytes:
    """Returns the file with every zero of its kernels replaced by a random number.

    The numbers are drawn from the kernel's other values, so that sizes and latency are
    those of a dense model of the same form. What it computes means nothing.

    Raises:
        ConversionError: it is no `.tflite`.
    """
    data = tflite.store_dense(data)
    flat = flatbuffer.unpack(data)
    graph = tflite.read(data).graphs[0]
    random = np.random.default_rng(0)
    for kernel in read_sparsity(data):
        op = graph.ops[kernel.index]
        tensor = graph.stored(op.inputs[1])
        values = np.array(tensor.data)
        others, zeros = values[kernel.nonzero], ~kernel.nonzero
        if others.size:
            values[zeros] = random.choice(others, int(zeros.sum()))
            buffer = flat.subgraphs[0].tensors[tensor.index].buffer
            flat.buffers[buffer].data = values.reshape(-1).view(np.uint8)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(data))


def _latency_line(found: benchmark.Comparison) -> str:
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({found.confidence:.0%} interval {found.low:.3f} to "
        interval += f"{found.high:.3f})"
    return f"latency {found.ratio:.3f} of the dense file's{interval}: {found.verdict}"
