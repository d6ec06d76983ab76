"""Which Keras layers an op comes from: from the file's own map, or by tensor names.

Files that `put_layers` wrote hold a map that was made by comparing values. For others
the names are a hint: TensorFlow's converter joins the names of all that it fused by
";", each of the form model/layer/op. Weights that it shares between ops leave traces
of the other's layer.
"""

from __future__ import annotations

import fnmatch
import re

from tfslim import tflite
from tfslim.tflite import metadata

# The map's key in tfslim's metadata: an op's first output -> its layers.
ENTRY = "layers"

# Where a part of the name ends so, perhaps with a number, it is the layer's own.
_OWN = ("BiasAdd", "MatMul", "depthwise", "Conv2D", "convolution", "add", "mul")


class LayerNames:
    """The layers behind each op of a file's main graph."""

    def __init__(self, model: tflite.TfliteModel, *, use_map: bool = True):
        """Reads the file's map, if it has one and `use_map` is true."""
        self._graph = model.graphs[0]
        entry = (metadata.get_json(model) or {}) if use_map else {}
        self._map: dict[str, list[str]] = entry.get(ENTRY, {})
        self._known: dict[int, tuple[str, ...]] = {}

    def of(self, op: tflite.Op) -> tuple[str, ...]:
        """Returns the layers that `op` computes, the one with the weights first."""
        if op.index not in self._known:
            layers = self._map.get(self._graph.name_of(op))
            if layers is None:
                layers = [hint] if (hint := _hint(op, self._graph)) else []
            self._known[op.index] = tuple(layers)
        return self._known[op.index]

    def first(self, op: tflite.Op) -> str:
        """Returns the layer to call `op` by, "" if none is known."""
        return next(iter(self.of(op)), "")

    def fitting(self, pattern: str) -> list[tflite.Op]:
        """Returns the ops of which `pattern` is the output, or else fits a layer.

        A layer "conv" inside a nested model "block" is called block_conv where
        another layer is called conv; the pattern may be block/conv, too.
        """
        named = [op for op in self._graph.ops if self._graph.name_of(op) == pattern]
        if named:
            return named
        patterns = {pattern, pattern.replace("/", "_")}
        return [
            op
            for op in self._graph.ops
            if any(
                fnmatch.fnmatchcase(layer, wanted)
                for layer in self.of(op)
                for wanted in patterns
            )
        ]


def _hint(op: tflite.Op, graph: tflite.Graph) -> str:
    """Reads the layer out of tensor names, "" if they tell none.

    A model's output has a name of its own; there the op's weights tell. An output of an
    op without weights is named after the layer itself.
    """
    tensors = [graph.tensors[i] for i in op.outputs[:1]]
    tensors += [t for i in op.inputs if i >= 0 and (t := graph.tensors[i]).is_constant]
    for tensor in tensors:
        paths = [part.split("/") for part in tensor.name.split(";")]
        paths = [path for path in paths if len(path) >= 3]
        for ending in _OWN:
            for path in paths:
                if re.fullmatch(rf"{ending}_?\d*", path[-1]):
                    return path[-2]
        if paths:
            return paths[0][-2]
    ends = {tensor.index for tensor in graph.outputs}
    return graph.name_of(op) if ends & set(op.outputs) else ""
