"""From litert-quantizer's file to one that is what its target wants."""

from __future__ import annotations

import dataclasses

from tfslim import errors, tflite
from tfslim.quantization.integer import absorb as absorb_lib
from tfslim.quantization.integer import borders, needed, parameters
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.rules import factors, kept_float
from tfslim.quantization.rules.plan import Plan, Request
from tfslim.tflite import flatbuffer

_NAMED = 8


def handed_on(request: Request, plan: Plan) -> Request:
    """Returns the request with ranges as the INT8 kernels hand them on."""
    if request.ranges is None:
        return request
    ranges = needed.narrowed(request.graph, request.ranges)
    ranges = factors.symmetric(request.graph, ranges)
    if plan.own:
        ranges = parameters.handed_on(request.graph, ranges)
    return dataclasses.replace(request, ranges=ranges)


def absorb(content: bytes, request: Request, *, plan: Plan) -> bytes:
    """Makes INT8 of the ops of a file that litert-quantizer left in float."""
    if not plan.own:
        return content
    flat = flatbuffer.unpack(content)
    ranges = handed_on(request, plan).ranges or {}
    absorb_lib.absorb(flat, plan.own, ranges=ranges)
    borders.join(flat)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))


def take_integers(content: bytes) -> bytes:
    """Lets inputs that are INT8 or UINT8 already be what the first ops read."""
    flat = flatbuffer.unpack(content)
    if not borders.take_inputs(flat):
        return content
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))


def require_integers(
    content: bytes, source: bytes, *, request: Request, plan: Plan
) -> None:
    """Raises QuantizationError if a file computes in float between its borders.

    Args:
        content: the quantized file.
        source: the float model, whose layers the message names.
        request: what the file was made for.
        plan: by which it was made.
    """
    left = tflite.float_ops(tflite.read(content))
    if not left:
        return
    model = tflite.read(source)
    names, graph = LayerNames(model), model.graphs[0]
    ops = {graph.name_of(op): op for op in graph.ops}
    said = []
    for op, tensor in left:
        before = ops.get(tensor)
        layer = names.first(before) if before is not None else ""
        reason = "It has no INT8 kernel."
        if before is not None:
            found = kept_float.reason_of(before, graph, exempt=plan.exempt)
            reason = found or reason
        said.append(f"{op.name} of '{layer or tensor}': {reason}")
    more = f" And {len(said) - _NAMED} more." if len(said) > _NAMED else ""
    raise errors.QuantizationError(
        f"The target '{request.target.name}' has no float, and {len(said)} of the "
        f"model's ops cannot be INT8. {' '.join(said[:_NAMED])}{more} Replace these "
        "layers, or take another target."
    )


def set_ends(content: bytes, io: str, *, request: Request) -> bytes:
    """Returns a file without float with inputs and outputs of `io`, if not "float"."""
    if io == "float":
        return content
    flat = flatbuffer.unpack(content)
    borders.set_ends(flat, io, ranges=request.ranges or {})
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))
