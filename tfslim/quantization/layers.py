"""Which Keras layer an op comes from, as far as its tensor names tell.

TensorFlow's converter joins the names of all that it fused by ";", each of the form
model/layer/op. A hint, not a proof: weights that it shares between ops leave traces of
the other's layer.
"""

from __future__ import annotations

from tfslim import tflite

# Where a part of the name ends so, it is the layer's own.
_OWN = ("BiasAdd", "MatMul", "depthwise", "Conv2D", "convolution", "add", "mul")


def layer_name(op: tflite.Op, graph: tflite.Graph) -> str:
    """Returns the name of the layer that made `op`; "" if its tensor tells none."""
    parts = graph.tensors[op.outputs[0]].name.split(";")
    paths = [part.split("/") for part in parts]
    paths = [path for path in paths if len(path) >= 3]
    for ending in _OWN:
        for path in paths:
            if path[-1] == ending:
                return path[1]
    return paths[0][1] if paths else ""
