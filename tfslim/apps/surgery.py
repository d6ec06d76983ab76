"""Adds an op and its constants to the main graph of a `schema.ModelT`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def add_tensor(flat: Any, tensor: Any) -> int:
    """Adds a `schema.TensorT`; returns its number."""
    tensors = flat.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def add_constant(flat: Any, name: bytes, *, values: np.ndarray) -> int:
    """Adds a float32 constant; returns the number of its tensor."""
    data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    flat.buffers.append(schema.BufferT(data=data))
    tensor = schema.TensorT(
        name=name,
        shape=list(values.shape),
        type=schema.TensorType.FLOAT32,
        buffer=len(flat.buffers) - 1,
    )
    return add_tensor(flat, tensor)


def add_operator(
    flat: Any, name: str, *, inputs: Sequence[int], outputs: Sequence[int], options: Any
) -> Any:
    """Returns a `schema.OperatorT` that is in no graph yet.

    Args:
        flat: the model, which gets the op's code.
        name: of the builtin, such as "CONV_2D".
        inputs: numbers of its tensors.
        outputs: the same.
        options: the schema's options, such as `Conv2DOptionsT`.
    """
    code = getattr(schema.BuiltinOperator, name)
    flat.operatorCodes.append(
        schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
    )
    kind = type(options).__name__.removesuffix("T")
    return schema.OperatorT(
        opcodeIndex=len(flat.operatorCodes) - 1,
        inputs=list(inputs),
        outputs=list(outputs),
        builtinOptionsType=getattr(schema.BuiltinOptions, kind),
        builtinOptions=options,
    )
