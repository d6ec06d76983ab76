"""What a float `.tflite` of any origin must be before litert-quantizer takes it."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.tflite import flatbuffer

_FLOAT32 = schema.TensorType.FLOAT32


def prepare(model: bytes) -> bytes:
    """Makes tensor names unique, op codes current, and float tensors plain.

    litert-quantizer refuses two tensors of one name, reads the op codes of files
    older than 2020 as ADD, and passes over float tensors that kept a scale from
    training. A file that needs none of this is returned as it is.

    Raises:
        QuantizationError: the model holds quantized or half-precision constants
            already.
        ConversionError: it is no `.tflite`.
    """
    _refuse_quantized(tflite.read(model))
    flat = flatbuffer.unpack(model)
    changed = [_current_codes(flat), _unique_names(flat), _plain_floats(flat)]
    if not any(changed):
        return model
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model))


def _refuse_quantized(model: tflite.TfliteModel) -> None:
    for graph in model.graphs:
        for tensor in graph.tensors:
            halved = tensor.is_constant and tensor.dtype in ("float16", "bfloat16")
            if tensor.quantization is None and not halved:
                continue
            raise errors.QuantizationError(
                f"The model is already quantized: tensor '{tensor.name}' is "
                f"{tensor.dtype}. Pass the float32 .tflite that it was made from."
            )


def _current_codes(flat: Any) -> bool:
    changed = False
    for code in flat.operatorCodes or []:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        changed |= code.builtinCode != number
        code.builtinCode = number
    return changed


def _unique_names(flat: Any) -> bool:
    taken: set[bytes] = set()
    changed = False
    for graph in flat.subgraphs:
        for index, tensor in enumerate(graph.tensors or []):
            name = tensor.name or b"tensor"
            while name in taken:
                name = b"%s#%d" % (name, index)
            changed |= name != tensor.name
            # An empty name is legal in a file, but no key to a range.
            tensor.name = name
            taken.add(name)
    return changed


def _plain_floats(flat: Any) -> bool:
    changed = False
    for graph in flat.subgraphs:
        for tensor in graph.tensors or []:
            params = tensor.quantization
            if (
                tensor.type == _FLOAT32
                and params is not None
                and params.scale is not None
            ):
                tensor.quantization = None
                changed = True
    return changed
