"""Files that load: what the runtime refuses in integers stays float."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfslim import errors, tflite
from tfslim.quantization import backend
from tfslim.quantization.ranges import as_calibration
from tfslim.quantization.rules import policy

_MOST_REFUSED = 16

# What stays float -> all rules, and all that stays float by them; see `rules.plan`.
Plan = Callable[
    [Sequence[policy.Exemption]], tuple[list[dict[str, Any]], list[policy.Exemption]]
]


@dataclasses.dataclass(frozen=True, eq=False)
class Loadable:
    """A quantized file that loads, what it holds and the rules that it was made by.

    Attributes:
        content: the file.
        model: what it holds.
        rules: as litert-quantizer got them.
        exempt: all that stays float by them.
        refused: those among it that the runtime refuses in integers.
    """

    content: bytes
    model: tflite.TfliteModel
    rules: list[dict[str, Any]]
    exempt: list[policy.Exemption]
    refused: list[policy.Exemption]


def quantize(
    source: bytes,
    graph: tflite.Graph,
    ranges: Mapping[str, tuple[float, float]] | None,
    exempt: Sequence[policy.Exemption],
    plan: Plan,
) -> Loadable:
    """Quantizes, and again without the ops that the runtime refuses.

    Args:
        source: the prepared float model.
        graph: its main graph.
        ranges: tensor name -> (min, max) of its activations; None if none are needed.
        exempt: what stays float in any case.
        plan: makes the rules.

    Raises:
        QuantizationError: the file does not load whatever is left out.
        ConversionError: the float model does not load.
    """
    refused: list[policy.Exemption] = []
    while True:
        ordered, spared = plan([*exempt, *refused])
        handed = (
            None if ranges is None else as_calibration.handover(graph, ranges, ordered)
        )
        content = backend.quantize(source, ordered, handed)
        try:
            model = tflite.Runner(content).model
        except errors.ConversionError as error:
            tflite.Runner(source)  # Else it is no fault of the quantizer.
            op = _refused_op(str(error), tflite.read(content).graphs[0], graph)
            if op is None or len(refused) == _MOST_REFUSED:
                raise errors.QuantizationError(
                    f"The quantized file does not load ({error}) This is a fault of "
                    "the quantizer or the runtime with the op it names: keep that op "
                    "float by a recipe of your own."
                ) from error
            reason = f"The runtime refuses it in integers ({error})"
            refused.append(policy.Exemption.of(op, graph, reason))
        else:
            return Loadable(content, model, ordered, spared, refused)


def _refused_op(
    message: str, quantized: tflite.Graph, graph: tflite.Graph
) -> tflite.Op | None:
    """Finds the op of the float graph that the runtime's message is about."""
    # "failed to delegate ADD node #3", or "Node number 3 (ADD) failed to prepare".
    pattern = r"node #(\d+)|Node number (\d+) \((?!Tf)"
    places = [int("".join(pair)) for pair in re.findall(pattern, message)]
    ops = [quantized.ops[place] for place in places if place < len(quantized.ops)]
    names = [quantized.name_of(op) for op in ops]
    names += re.findall(r"scales at tensor '(.+?)' need", message)  # `Runner`'s own.
    return next((op for op in graph.ops if graph.name_of(op) in names), None)
