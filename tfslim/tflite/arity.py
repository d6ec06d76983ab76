"""How many tensors each builtin op reads and writes, as LiteRT's kernels have it."""

from __future__ import annotations

import math
from typing import Any

# (required inputs, most inputs, outputs; None: as many as its options say)
_Arity = tuple[int, float, int | None]

_UNARY = (
    "ABS AVERAGE_POOL_2D BITCAST CAST CEIL COMPLEX_ABS COS DENSIFY DEPTH_TO_SPACE "
    "DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH IMAG L2_NORMALIZATION "
    "L2_POOL_2D LEAKY_RELU LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_NOT LOGISTIC "
    "LOG_SOFTMAX MATRIX_DIAG MAX_POOL_2D NEG QUANTIZE RANK REAL RELU RELU6 "
    "RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SOFTMAX SPACE_TO_DEPTH SQRT "
    "SQUARE SQUEEZE TANH WHERE ZEROS_LIKE"
)
_BINARY = (
    "ADD ARG_MAX ARG_MIN ATAN2 BATCH_MATMUL BITWISE_XOR BROADCAST_ARGS BROADCAST_TO "
    "CUMSUM DIV EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD GATHER "
    "GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR "
    "MATRIX_SET_DIAG MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NOT_EQUAL PAD POW PRELU "
    "REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RFFT2D RIGHT_SHIFT "
    "SEGMENT_SUM SQUARED_DIFFERENCE SUB SUM TILE TRANSPOSE"
)
_TERNARY = (
    "BATCH_TO_SPACE_ND DYNAMIC_UPDATE_SLICE PADV2 RANGE SCATTER_ND SELECT SELECT_V2 "
    "SLICE SPACE_TO_BATCH_ND"
)
_ARITY: dict[str, _Arity] = {
    **dict.fromkeys(_UNARY.split(), (1, 1, 1)),
    **dict.fromkeys(_BINARY.split(), (2, 2, 1)),
    **dict.fromkeys(_TERNARY.split(), (3, 3, 1)),
    "ADD_N": (1, math.inf, 1),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (1, 48, None),
    "BIDIRECTIONAL_SEQUENCE_RNN": (1, 12, None),
    "CONCATENATION": (1, math.inf, 1),
    "CONV_2D": (2, 3, 1),
    "CONV_3D": (2, 3, 1),
    "CONV_3D_TRANSPOSE": (3, 4, 1),
    "DEPTHWISE_CONV_2D": (2, 3, 1),
    "FULLY_CONNECTED": (2, 3, None),
    "LSTM": (1, 24, None),
    "ONE_HOT": (4, 4, 1),
    "PACK": (1, math.inf, 1),
    "RESHAPE": (1, 2, 1),
    "RNN": (5, 5, 1),
    "SPARSE_TO_DENSE": (4, 4, 1),
    "SPLIT": (2, 2, None),
    "SPLIT_V": (3, 3, None),
    "STRIDED_SLICE": (4, 4, 1),
    "SVDF": (4, 5, 1),
    "TOPK_V2": (2, 2, 2),
    "TRANSPOSE_CONV": (3, 4, 1),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (1, 24, 1),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (5, 5, 1),
    "UNIQUE": (1, 1, 2),
    "UNPACK": (1, 1, None),
}
# Options that must be above zero, for each op that has them.
_POSITIVE = {
    "AVERAGE_POOL_2D": "strideH strideW filterHeight filterWidth",
    "CONV_2D": "strideH strideW dilationHFactor dilationWFactor",
    "CONV_3D": "strideD strideH strideW dilationDFactor dilationHFactor "
    "dilationWFactor",
    "CONV_3D_TRANSPOSE": "strideD strideH strideW dilationDFactor dilationHFactor "
    "dilationWFactor",
    "DEPTHWISE_CONV_2D": "strideH strideW dilationHFactor dilationWFactor",
    "DEPTH_TO_SPACE": "blockSize",
    "L2_POOL_2D": "strideH strideW filterHeight filterWidth",
    "MAX_POOL_2D": "strideH strideW filterHeight filterWidth",
    "PACK": "valuesCount",
    "SPACE_TO_DEPTH": "blockSize",
    "SPLIT": "numSplits",
    "SPLIT_V": "numSplits",
    "TRANSPOSE_CONV": "strideH strideW",
    "UNPACK": "num",
}
# Ops that give floats for floats and integers for integers.
_KIND_PASSES_ON = frozenset(
    "ABS ADD AVERAGE_POOL_2D BATCH_TO_SPACE_ND CONCATENATION CONV_2D DEPTHWISE_CONV_2D "
    "DEPTH_TO_SPACE DIV ELU EXPAND_DIMS FULLY_CONNECTED GATHER HARD_SWISH "
    "L2_NORMALIZATION LEAKY_RELU LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM "
    "MIRROR_PAD MUL PACK PAD PADV2 PRELU REDUCE_MAX REDUCE_MIN RELU RELU6 "
    "RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SQUEEZE STRIDED_SLICE SUB SUM TANH TILE "
    "TRANSPOSE UNPACK".split()
)
# Options that count an op's outputs.
_COUNTS = {"SPLIT": "numSplits", "SPLIT_V": "numSplits", "UNPACK": "num"}


def passes_kind_on(name: str) -> bool:
    """Whether an op's first input and output are both floats, or neither."""
    return name in _KIND_PASSES_ON


def fault(
    name: str, inputs: tuple[int, ...], outputs: tuple[int, ...], options: Any
) -> str:
    """Says what is wrong with an op's tensors or options, "" where nothing is seen.

    Args:
        name: the builtin op, e.g. "CONV_2D"; others are passed over.
        inputs: numbers of its tensors, -1 for one that is left out.
        outputs: the same of its outputs.
        options: the schema's options object or None.
    """
    if name not in _ARITY:
        return ""
    least, most, wanted = _ARITY[name]
    if not least <= len(inputs) <= most:
        many = f"{least}" if most == least else f"{least} to {most}"
        return f"has {len(inputs)} inputs; it takes {many}"
    if min(inputs[:least]) < 0:
        return f"has no input {inputs.index(-1)}, which it needs"
    for field in _POSITIVE.get(name, "").split():
        value = getattr(options, field, None)
        if not isinstance(value, int) or value < 1:
            return f"has {field} {value}; it must be above 0"
    if name in _COUNTS:
        wanted = getattr(options, _COUNTS[name])
    if not outputs or min(outputs) < 0 or wanted not in (None, len(outputs)):
        return f"has {len(outputs)} outputs; it gives {wanted or 'some'}"
    if name == "PACK" and options.valuesCount != len(inputs):
        return f"has {len(inputs)} inputs; it packs {options.valuesCount}"
    return ""
