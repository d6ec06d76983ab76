"""INT8 files of one model, made with other ranges or rules, and how good each is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfslim import tflite
from tfslim.evaluation.compare_files import FileErrors
from tfslim.quantization import backend
from tfslim.quantization.make_file import by_rules, make_file
from tfslim.quantization.rules import plan, recipe


class Candidates(FileErrors):
    """Makes INT8 files of one model and measures them against it.

    Attributes:
        graph: of `source`, the float model without a softmax at its end.
    """

    def __init__(self, source: bytes, samples: Sequence[tflite.Inputs]):
        """Runs the float model over single samples."""
        super().__init__(source, samples)
        content = tflite.read(self.source)
        self.graph = content.graphs[0]
        self._request = plan.request(recipe.get("int8"), content)

    def quantize(
        self,
        ranges: Mapping[str, tuple[float, float]],
        rules: backend.Rules | None = None,
    ) -> bytes:
        """Makes an INT8 file with `ranges`, by rules other than the recipe's if given.

        Args:
            ranges: tensor name -> (min, max), of the model with its softmax.
            rules: as in `Plan`.
        """
        names = {tensor.name for tensor in self.graph.tensors}
        known = {name: bounds for name, bounds in ranges.items() if name in names}
        self._request = dataclasses.replace(self._request, ranges=known)
        if rules is not None:
            return by_rules(self.source, self._request, rules=rules)
        made = make_file(self.source, self._request)
        self._request = made.request  # What was refused once will be again.
        return made.content
