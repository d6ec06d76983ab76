"""From a YOLO model to the one that is converted: fast, and right in INT8, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import registry
from tfslim.detection import outputs as outputs_lib
from tfslim.detection.heads import Head
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.graph.upsampling import tile_upsampling


@dataclasses.dataclass(frozen=True, eq=False)
class Deployment:
    """What to convert, and what to keep in mind when it is quantized.

    Attributes:
        model: a tf_keras model.
        outputs: one of `outputs.FORMATS`, to be written into the file's metadata.
        layers: for `quantization.Options.layers`: what must stay float.
        notes: what was changed.
    """

    model: Any
    outputs: str
    layers: Mapping[str, str]
    notes: tuple[str, ...]


def prepare_deployment(
    model: Any, heads: Sequence[Head], *, outputs: str = "decoded"
) -> Deployment:
    """Rewrites a YOLO model for conversion; what it computes stays the same.

    Nearest upsampling becomes a form that XNNPACK runs, and the numbers of a head that
    INT8 must not hold in one scale get tensors of their own.

    Args:
        model: of tf_keras or Keras 3, or a layer graph; its outputs are raw maps.
        heads: what they mean, in order.
        outputs: "decoded": boxes and scores, computed in float in the file itself;
            "split": xy, wh, objectness and classes of each head, also for INT8
            outputs; "raw": the maps as they are.

    Raises:
        ConfigError: there is no such format.
        GraphError: the model is no YOLO network with these heads.
    """
    if outputs not in outputs_lib.FORMATS:
        raise registry.unknown_name(
            "format of outputs", outputs, known=outputs_lib.FORMATS
        )
    graph = model if isinstance(model, ir.Graph) else graph_keras.read(model)
    graph, tiled = tile_upsampling(graph)
    notes = [f"upsampling by concatenation: {', '.join(tiled)}"] if tiled else []
    layers: Mapping[str, str] = {}
    if outputs == "decoded":
        graph = outputs_lib.decode_heads(graph, heads)
        layers = outputs_lib.FLOAT_LAYERS
        notes.append("boxes and scores are computed in the file, in float")
    elif outputs == "split":
        graph = outputs_lib.split_heads(graph, heads)
        notes.append("xy, wh, objectness and classes are outputs of their own")
    # Its layers' names reach the file; those of Keras 3's functions do not.
    return Deployment(graph_keras.write(graph), outputs, layers, tuple(notes))
