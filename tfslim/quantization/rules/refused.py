"""What a target cannot run at all: named with its layer, before a file is made."""

from __future__ import annotations

from tfslim import errors, targets, tflite
from tfslim.quantization.layers.layer_names import LayerNames

_NAMED = 8


def require_runnable(source: bytes, target: targets.Target) -> None:
    """Raises QuantizationError if a model has ops that a target does not run.

    Args:
        source: the prepared float `.tflite`.
        target: where it is to run.
    """
    if not target.runs and not target.most_dimensions:
        return
    model = tflite.read(source)
    graph, names = model.graphs[0], LayerNames(model)
    said = [
        f"{op.name} of '{names.first(op) or graph.name_of(op)}': {reason}"
        for op in graph.ops
        if (reason := _reason(op, graph, target=target))
    ]
    if len(model.graphs) > 1:
        said.append(f"The model has {len(model.graphs)} graphs: it runs the first.")
    if said:
        more = f" And {len(said) - _NAMED} more." if len(said) > _NAMED else ""
        raise errors.QuantizationError(
            f"The target '{target.name}' does not run {len(said)} of the model's ops. "
            f"{' '.join(said[:_NAMED])}{more} Replace these layers, or take another "
            "target."
        )


def _reason(op: tflite.Op, graph: tflite.Graph, *, target: targets.Target) -> str:
    """Says why a target does not run an op, "" where it does."""
    if target.runs and op.name not in target.runs:
        return "It has no such op."
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    if any(tensor.is_dynamic for tensor in tensors):
        return "Its shape is known at run time only."
    most, dimensions = target.most_dimensions, max(len(t.shape) for t in tensors)
    if most and dimensions > most:
        return f"It has tensors of {dimensions} dimensions, more than {most}."
    if target.runs and op.name == "STRIDED_SLICE":
        strides = graph.tensors[op.inputs[3]].data
        if strides is None or (strides < 0).any():
            return "It runs backwards."
    return ""
