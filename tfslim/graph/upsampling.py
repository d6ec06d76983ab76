"""Nearest upsampling in a form that delegates run."""

from __future__ import annotations

from tfslim.graph import ir
from tfslim.graph.editor import Editor


def tile_upsampling(graph: ir.Graph) -> tuple[ir.Graph, tuple[str, ...]]:
    """Replaces nearest upsampling by concatenations of a tensor with itself.

    XNNPACK runs no RESIZE_NEAREST_NEIGHBOR: every UpSampling2D splits a `.tflite` in
    two partitions. [h, w, c] joined with itself along the channels is [h, w, 2c],
    which is [h, 2w, c] read anew; joined along the rows, each is there twice. The
    outputs are equal bit for bit, in INT8, too, where all these tensors share a scale.

    Args:
        graph: any graph; sizes must be fixed where there is upsampling.

    Returns:
        The graph, and the names of the layers that were replaced.
    """
    editor = Editor(graph)
    replaced = []
    for number, node in enumerate(graph.nodes):
        layer = graph.layer_of(node)
        shape = graph.shape(node.inputs[0]) if node.inputs else ()
        if not _is_nearest(layer) or None in shape[1:]:
            editor.copy(number)
            continue
        source = editor.moved[node.inputs[0]]
        editor.moved[ir.TensorRef(number)] = _tile(editor, layer, x=source, shape=shape)
        replaced.append(layer.name)
    return editor.finish(), tuple(dict.fromkeys(replaced))


def _is_nearest(layer: ir.Layer) -> bool:
    return (
        layer.op == "UpSampling2D"
        and layer.config.get("interpolation", "nearest") == "nearest"
        and layer.config.get("data_format", "channels_last") == "channels_last"
    )


def _tile(
    editor: Editor, layer: ir.Layer, *, x: ir.TensorRef, shape: ir.Shape
) -> ir.TensorRef:
    height, width, channels = (int(side or 0) for side in shape[1:])
    rows, columns = layer.config["size"]
    row = width * columns * channels

    def join(name: str, copies: int, axis: int) -> ir.TensorRef:
        if copies == 1:
            return x
        sides = list(editor.shape(x))
        sides[axis] = (sides[axis] or 0) * copies
        title = f"{layer.name}_{name}"
        parts = ([x] * copies,)
        return editor.add(title, "Concatenate", parts, (*sides,), {"axis": axis})

    x = join("columns", columns, -1)
    x = editor.reshape(f"{layer.name}_row", x, (height, 1, row))
    x = join("rows", rows, 2)
    sides = (height * rows, width * columns, channels)
    return editor.reshape(f"{layer.name}_image", x, sides)
