"""How many tensors each builtin op reads and writes, and which options it needs."""

from __future__ import annotations

from typing import Any

from tfslim import ops


def fault(
    name: str, inputs: tuple[int, ...], *, outputs: tuple[int, ...], options: Any
) -> str:
    """Says what is wrong with an op's tensors or options, "" where nothing is seen.

    Args:
        name: the builtin op, e.g. "CONV_2D"; others are passed over.
        inputs: numbers of its tensors, -1 for one that is left out.
        outputs: the same of its outputs.
        options: the schema's options object or None.
    """
    if name not in ops.TFLITE:
        return ""
    op = ops.TFLITE[name]
    least, most = op.inputs
    if not least <= len(inputs) <= most:
        many = f"{least}" if most == least else f"{least} to {most}"
        return f"has {len(inputs)} inputs; it takes {many}"
    if min(inputs[:least]) < 0:
        return f"has no input {inputs.index(-1)}, which it needs"
    for field in op.positive:
        value = getattr(options, field, None)
        if not isinstance(value, int) or value < 1:
            return f"has {field} {value}; it must be above 0"
    wanted = op.outputs
    if isinstance(wanted, str):
        wanted = getattr(options, wanted, 0)  # 0: any number.
    if not outputs or min(outputs) < 0 or wanted not in (0, len(outputs)):
        return f"has {len(outputs)} outputs; it gives {wanted or 'some'}"
    if name == "PACK" and options.valuesCount != len(inputs):
        return f"has {len(inputs)} inputs; it packs {options.valuesCount}"
    return ""
