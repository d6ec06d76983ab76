"""Second factors of INT8 matrix products, whose zero point XNNPACK passes over.

Up to TensorFlow 2.21 at least, `tf.lite.Interpreter` gives a BATCH_MATMUL of two
activations to an XNNPACK that takes the second one for symmetric weights: the answers
are wrong by its zero point (ai-edge-litert 2.3 is right). With a zero point of 0 they
are right everywhere, for at most one bit of that factor.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfslim import ops, tflite
from tfslim.quantization.rules.kept_float import Exemption

_REASON = "XNNPACK passes over the zero point of its second factor, which is fixed."


def symmetric(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Returns ranges by which second factors have the zero point 0.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    found = dict(ranges)
    for op in graph.ops:
        if op.name != "BATCH_MATMUL":
            continue
        chain = _handed_on(op.inputs[1], graph)
        names = [graph.tensors[i].name for i in chain]
        bounds = [abs(end) for name in names for end in found.get(name, ())]
        if not bounds or _is_fixed(chain[-1], graph):
            continue
        own = around_zero(max(bounds))
        found |= {name: own for name in names if name in found}
    return found


def around_zero(most: float) -> tuple[float, float]:
    """Returns the range up to a magnitude whose zero point is 0 in INT8."""
    return -most * 128 / 127, most


def fixed(graph: tflite.Graph) -> list[Exemption]:
    """Finds products whose second factor has a zero point that nobody can choose."""
    return [
        Exemption.of(op, graph, _REASON, is_backends=True)
        for op in graph.ops
        if op.name == "BATCH_MATMUL"
        and _is_fixed(_handed_on(op.inputs[1], graph)[-1], graph)
    ]


def _handed_on(index: int, graph: tflite.Graph) -> list[int]:
    """Returns a tensor and those that it has its scale from, the first one last."""
    chain = [index]
    while (op := graph.producers.get(chain[-1])) is not None:
        row = ops.TFLITE.get(op.name)
        reals = [i for i in op.inputs if i >= 0 and graph.tensors[i].dtype == "float32"]
        if row is None or row.integer != "same" or len(reals) != 1:
            break
        chain.append(reals[0])
    return chain


def _is_fixed(index: int, graph: tflite.Graph) -> bool:
    op = graph.producers.get(index)
    row = ops.TFLITE.get(op.name) if op is not None else None
    rule = row.integer if row is not None else None
    return isinstance(rule, tuple) and rule[1] != 0
