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
    """Returns the name of the layer that made `op`; "" if its tensors tell none.

    A model's output has a name of its own; there the op's weights tell. An output of an
    op without weights is named after the layer itself.
    """
    tensors = [graph.tensors[op.outputs[0]]]
    tensors += [t for i in op.inputs if i >= 0 and (t := graph.tensors[i]).is_constant]
    for tensor in tensors:
        paths = [part.split("/") for part in tensor.name.split(";")]
        paths = [path for path in paths if len(path) >= 3]
        for ending in _OWN:
            for path in paths:
                if path[-1] == ending:
                    return path[-2]
        if paths:
            return paths[0][-2]
    ends = {tensor.index for tensor in graph.outputs}
    return graph.tensors[op.outputs[0]].name if ends & set(op.outputs) else ""
