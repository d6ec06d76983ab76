"""INT8 files of one model, made with other ranges or rules, and how good each is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import tflite
from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization import backend
from tfslim.quantization.ranges import as_calibration
from tfslim.quantization.rules import policy, recipe, rule_order, runtime_limits


class Candidates(FileErrors):
    """Makes INT8 files of one model and measures them against it.

    Attributes:
        graph: of `source`, the float model without a softmax at its end.
    """

    def __init__(self, source: bytes, samples: Sequence[tflite.Inputs]):
        """Runs the float model over single samples."""
        super().__init__(source, samples)
        self.graph = tflite.read(self.source).graphs[0]
        self._exempt = policy.exemptions("static_int8", self.graph)

    def quantize(
        self,
        ranges: Mapping[str, tuple[float, float]],
        ordered: Sequence[Mapping[str, Any]] | None = None,
    ) -> bytes:
        """Makes an INT8 file with `ranges`, by rules other than the recipe's if given.

        Args:
            ranges: tensor name -> (min, max), of the model with its softmax.
            ordered: as `rule_order.ordered` makes them.
        """
        names = {tensor.name for tensor in self.graph.tensors}
        known = {name: bounds for name, bounds in ranges.items() if name in names}
        if ordered is not None:
            given = as_calibration.handover(self.graph, known, ordered)
            return backend.quantize(self.source, ordered, given)
        plan = functools.partial(
            rule_order.plan, recipe.get("int8"), self.graph, ranges=known
        )
        made = runtime_limits.quantize(
            self.source, self.graph, known, self._exempt, plan
        )
        self._exempt += made.refused
        return made.content
