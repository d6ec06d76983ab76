"""What the cost of an op depends on: its kind, options, shapes and types.

Two ops of one `OpSpec` take the same time on a device, whichever file they stand in. A
spec is cut out of a file (`of_op`), changed (`dataclasses.replace`), and made into a
`.tflite` of that one op (`build`) that a device can time.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfslim import tflite

# Constants of so few elements tell an op what to do, and are a part of its spec.
FEW = 64
# Ops that unpack a constant once, when the file is loaded.
_UNPACKING = ("DENSIFY", "DEQUANTIZE")
# Ops that do a padding by themselves, where they have none of their own.
_PADDED = ("CONV_2D", "DEPTHWISE_CONV_2D")
_VALID = 1


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """What an op's time depends on in one of its tensors.

    Attributes:
        shape: its sizes.
        dtype: as in `tflite.Tensor`.
        kind: "computed", "constant", "variable" or "absent".
        values: of a constant that says what to do (axes, a shape, paddings).
        is_per_channel: whether each channel has a scale of its own.
        axis: of these channels.
        scale, zero_point: of integers that stand for reals, the first channel's; they
            do not change the time and are left out of `key`.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    kind: str = "computed"
    values: tuple[Any, ...] | None = None
    is_per_channel: bool = False
    axis: int = 0
    scale: float | None = dataclasses.field(default=None, compare=False)
    zero_point: int = dataclasses.field(default=0, compare=False)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def num_bytes(self) -> int:
        """Of its elements, packed as in the file; 0 for an absent tensor."""
        return 0 if self.kind == "absent" else -(-self.size * bits(self.dtype) // 8)

    @property
    def key(self) -> str:
        """Its part of an op's key."""
        if self.kind == "absent":
            return "-"
        sizes = "x".join(map(str, self.shape))
        text = f"{self.dtype}[{sizes}]"
        text += {"constant": "c", "variable": "v"}.get(self.kind, "")
        text += f"/{self.axis}" if self.is_per_channel else ""
        return text if self.values is None else f"{text}={list(self.values)}"


@dataclasses.dataclass(frozen=True)
class OpSpec:
    """One op, apart from any file.

    Attributes:
        op: its builtin name.
        options: name and value of each of its options, in the schema's order.
        inputs, outputs: its tensors.
        options_type: the schema's class of the options, "" for none.
    """

    op: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: tuple[tuple[str, Any], ...] = ()
    options_type: str = ""

    @property
    def key(self) -> str:
        """Names it in a cost table; equal for equal specs."""
        options = ",".join(f"{name}={value}" for name, value in self.options)
        inputs = ";".join(tensor.key for tensor in self.inputs)
        outputs = ";".join(tensor.key for tensor in self.outputs)
        return f"{self.op}({options}) {inputs} -> {outputs}"

    def resized(self, sizes: Callable[[TensorSpec], tuple[int, ...]]) -> OpSpec:
        """Returns the same op with other sizes of its tensors.

        Args:
            sizes: gives the new shape of each tensor that is there.
        """

        def change(tensor: TensorSpec) -> TensorSpec:
            if tensor.kind == "absent" or tensor.values is not None:
                return tensor
            return dataclasses.replace(tensor, shape=sizes(tensor))

        return dataclasses.replace(
            self,
            inputs=tuple(map(change, self.inputs)),
            outputs=tuple(map(change, self.outputs)),
        )


@dataclasses.dataclass(frozen=True)
class CutOp:
    """An op that cannot stand apart from its file: the file that it was cut into."""

    op: str
    content: bytes = dataclasses.field(repr=False)
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def key(self) -> str:
        """Names it in a cost table."""
        return f"{self.op} sha256:{hashlib.sha256(self.content).hexdigest()}"


# What a device can time.
Piece = OpSpec | CutOp


def bits(dtype: str) -> int:
    """Returns the bits of one element as a file stores it."""
    digits = "".join(c if c.isdigit() else " " for c in dtype).split()
    return int(digits[0]) if digits else 8


def of_op(op: tflite.Op, graph: tflite.Graph) -> OpSpec | None:
    """Returns the spec of an op; None if it cannot stand apart from its file.

    Weights that a DENSIFY or DEQUANTIZE unpacks count as the constants that they are
    once the file is loaded.
    """
    options = _options(op.options)
    if op.is_custom or options is None:
        return None
    inputs = tuple(_input(index, graph) for index in op.inputs)
    outputs = tuple(_tensor(graph.tensors[i], "computed") for i in op.outputs)
    name = "" if op.options is None else type(op.options).__name__
    return OpSpec(op.name, inputs, outputs, options, name)


def is_unpacking(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Whether an op only unpacks a constant, which costs nothing in a run."""
    if op.name not in _UNPACKING:
        return False
    return graph.stored(op.outputs[0]).is_constant


def is_fused_padding(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Whether XNNPACK does a PAD within the convolution behind it, at no cost.

    It does so for zeros around the height and width that no other op reads, in float
    and in 8 bits; a dynamic convolution first makes integers of what it reads.
    """
    readers = graph.consumers.get(op.outputs[0], []) if op.name == "PAD" else []
    if len(readers) != 1 or op.outputs[0] in {t.index for t in graph.outputs}:
        return False
    [reader] = readers
    if reader.name not in _PADDED or reader.inputs[0] != op.outputs[0]:
        return False
    paddings = graph.stored(op.inputs[1]).data
    is_around = paddings is not None and not paddings[[0, -1]].any()
    kinds = ["float" in graph.stored(index).dtype for index in reader.inputs[:2]]
    is_one_kind = kinds[0] == kinds[1] and graph.tensors[op.outputs[0]].dtype != "int16"
    return is_around and is_one_kind and reader.options.padding == _VALID


def _input(index: int, graph: tflite.Graph) -> TensorSpec:
    if index < 0:
        return TensorSpec(kind="absent")
    tensor = graph.tensors[index]
    if tensor.is_variable:
        return _tensor(tensor, "variable")
    if tensor.is_constant or graph.stored(index).is_constant:
        return _tensor(tensor, "constant")
    return _tensor(tensor, "computed")


def _tensor(tensor: tflite.Tensor, kind: str) -> TensorSpec:
    found, values = tensor.quantization, None
    is_telling = kind == "constant" and found is None and tensor.data is not None
    is_small = tensor.size <= (1 if "float" in tensor.dtype else FEW)
    if is_telling and is_small and tensor.data is not None:
        values = tuple(tensor.data.reshape(-1).tolist())
    return TensorSpec(
        shape=tensor.shape,
        dtype=tensor.dtype,
        kind=kind,
        values=values,
        is_per_channel=found is not None and found.is_per_channel,
        axis=found.axis if found is not None and found.is_per_channel else 0,
        scale=None if found is None else float(found.scale[0]),
        zero_point=0 if found is None else int(found.zero_point[0]),
    )


def _options(options: Any) -> tuple[tuple[str, Any], ...] | None:
    """Returns the fields of the schema's object; None if one is no plain value."""
    found = []
    for name, value in _fields(options):
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if isinstance(value, np.ndarray | list | tuple):
            value = tuple(np.asarray(value).reshape(-1).tolist())
        if not isinstance(value, bool | int | float | str | tuple | None):
            return None
        found.append((name, value))
    return tuple(found)


def _fields(options: Any) -> Iterator[tuple[str, Any]]:
    values: Mapping[str, Any] = {} if options is None else vars(options)
    yield from values.items()


# Does nothing: its time is that of calling the runtime.
IDLE = OpSpec(
    "RESHAPE",
    (TensorSpec((1, 1)), TensorSpec((2,), "int32", "constant", (1, 1))),
    (TensorSpec((1, 1)),),
    (("newShape", (1, 1)),),
    "ReshapeOptionsT",
)


def dense(
    inputs: int, outputs: int, *, rows: int = 1, dtype: str = "float32"
) -> OpSpec:
    """Returns a FULLY_CONNECTED of [rows, inputs] to [rows, outputs].

    Args:
        inputs: features of the input.
        outputs: features of the output.
        rows: of the input.
        dtype: "float32", or "int8" with a scale for each output.
    """
    if dtype == "float32":
        tensors = [
            TensorSpec((rows, inputs)),
            TensorSpec((outputs, inputs), kind="constant"),
        ]
        result = TensorSpec((rows, outputs))
    else:
        tensors = [
            TensorSpec((rows, inputs), dtype, scale=0.05),
            TensorSpec(
                (outputs, inputs), dtype, "constant", is_per_channel=True, scale=0.01
            ),
        ]
        result = TensorSpec((rows, outputs), dtype, scale=0.05)
    return OpSpec(
        "FULLY_CONNECTED",
        (*tensors, TensorSpec(kind="absent")),
        (result,),
        (("fusedActivationFunction", 0),),
        "FullyConnectedOptionsT",
    )
