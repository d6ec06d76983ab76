"""What a detector's file gives: raw maps, their parts, or boxes and scores.

In a raw map, numbers of very different size stand side by side, and INT8 has one scale
for them all. Passes over the layer graph give each kind a tensor, so a scale, of its
own, or go on to boxes and scores, computed in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfslim import errors
from tfslim.detection import boxes as boxes_lib
from tfslim.detection.heads import Head
from tfslim.graph import ir
from tfslim.graph.editor import Editor

# "raw": a map for each head; "split": for each head its `PARTS`; "decoded": boxes and
# scores of all heads.
FORMATS = ("raw", "split", "decoded")
# Numbers that share a scale, and how many each anchor has of them.
PARTS = ("xy", "wh", "objectness", "classes")
DECODED = ("boxes", "scores")
# What must stay float when a decoded file is quantized: the layers that `decode_heads`
# adds, in the form of `quantization.Options.layers`.
FLOAT_LAYERS: Mapping[str, str] = {"decode_*": "float32"}


def split_heads(graph: ir.Graph, heads: Sequence[Head]) -> ir.Graph:
    """Gives the parts of each head outputs of their own.

    The last convolution of a head becomes four with a part of its kernels each, so
    nothing is computed twice and nothing is sliced.

    Args:
        graph: of a YOLO network with raw maps as outputs.
        heads: what they mean, in order.

    Returns:
        A graph whose outputs are, for each head, `PARTS`: [batch, n, 2], [batch, n, 2],
        [batch, n, 1] and [batch, n, num_classes], as `join_parts` takes them.

    Raises:
        GraphError: an output is no convolution's, or not of its head.
    """
    editor, parts = _split(graph, heads)
    return editor.finish([part for head in parts for part in head.values()])


def decode_heads(graph: ir.Graph, heads: Sequence[Head]) -> ir.Graph:
    """Adds what turns raw maps into boxes and scores, as `boxes.decode` does.

    Args:
        graph: as for `split_heads`.
        heads: as for `split_heads`.

    Returns:
        A graph with two outputs, `DECODED`: boxes [batch, n, 4], corners as shares of
        the image, and scores [batch, n, num_classes]. They need suppression. When the
        file is quantized, `FLOAT_LAYERS` have to stay float.

    Raises:
        GraphError: as for `split_heads`.
    """
    editor, parts = _split(graph, heads)
    boxes, scores = [], []
    for number, (head, part) in enumerate(zip(heads, parts, strict=True)):
        _, height, width, _ = graph.shape(graph.output_refs[number])
        decoder = _Decoder(editor, head, name=f"decode_{number}")
        cells = (height or 0, width or 0)
        boxes.append(decoder.boxes(part["xy"], part["wh"], cells))
        scores.append(decoder.scores(part["objectness"], part["classes"]))
    results = []
    for name, tensors in zip(DECODED, (boxes, scores), strict=True):
        shapes = [editor.shape(tensor) for tensor in tensors]
        total = sum(shape[1] or 0 for shape in shapes)
        whole = (shapes[0][0], total, shapes[0][2])
        title = f"decode_{name}"
        results.append(editor.add(title, "Concatenate", (tensors,), whole, {"axis": 1}))
    return editor.finish(results)


def join_parts(
    parts: Sequence[np.ndarray], heads: Sequence[Head], *, size: tuple[int, int]
) -> list[np.ndarray]:
    """Puts the outputs of `split_heads` together again.

    Args:
        parts: for each head its `PARTS`, in order.
        heads: in the same order.
        size: (height, width) of the network's input.

    Returns:
        Raw maps, as `boxes.decode` takes them.

    Raises:
        ConfigError: the parts are not of these heads.
    """
    maps = []
    for number, head in enumerate(heads):
        mine = parts[number * len(PARTS) : (number + 1) * len(PARTS)]
        cells = size[0] // head.stride, size[1] // head.stride
        count = cells[0] * cells[1] * head.num_anchors
        wanted = [(count, n) for n in _sizes(head).values()]
        if [part.shape[1:] for part in mine] != wanted:
            raise errors.ConfigError(
                f"The parts of head {number} are {[p.shape for p in mine]}; expected "
                f"{wanted} after the batch."
            )
        whole = np.concatenate(mine, axis=-1)
        maps.append(whole.reshape(len(whole), *cells, head.num_channels))
    return maps


def _sizes(head: Head) -> dict[str, int]:
    return dict(zip(PARTS, (2, 2, 1, head.num_classes), strict=True))


def _split(
    graph: ir.Graph, heads: Sequence[Head]
) -> tuple[Editor, list[dict[str, ir.TensorRef]]]:
    """Copies the graph with the last convolutions split; returns their outputs."""
    ends = graph.output_refs
    if len(ends) != len(heads):
        raise errors.GraphError(
            f"The model has {len(ends)} outputs, and {len(heads)} heads were given."
        )
    _check_ends(graph, heads)
    editor = Editor(graph)
    for number in range(len(graph.nodes)):
        if ir.TensorRef(number) not in ends:
            editor.copy(number)
    parts = [
        _parts(editor, ref, head=head) for ref, head in zip(ends, heads, strict=True)
    ]
    return editor, parts


def _check_ends(graph: ir.Graph, heads: Sequence[Head]) -> None:
    read = {ref for node in graph.nodes for ref in node.inputs}
    for ref, head in zip(graph.output_refs, heads, strict=True):
        layer = graph.layer_of(graph.nodes[ref.node])
        is_linear = layer.config.get("activation", "linear") == "linear"
        if layer.op != "Conv2D" or not is_linear or ref in read:
            raise errors.GraphError(
                f"'{layer.name}' ({layer.op}) is an output; a YOLO head ends in a "
                "linear Conv2D that nothing else reads."
            )
        _, height, width, channels = graph.shape(ref)
        if channels != head.num_channels or height is None or width is None:
            raise errors.GraphError(
                f"'{layer.name}' gives {graph.shape(ref)[1:]}; its head has "
                f"{head.num_channels} channels, and sizes must be fixed."
            )


def _parts(editor: Editor, ref: ir.TensorRef, *, head: Head) -> dict[str, ir.TensorRef]:
    node = editor.graph.nodes[ref.node]
    layer = editor.graph.layer_of(node)
    batch, height, width, _ = node.shapes[0]
    count = (height or 0) * (width or 0) * head.num_anchors
    channels = np.arange(head.num_channels).reshape(head.num_anchors, -1)
    found, start = {}, 0
    for name, size in _sizes(head).items():
        mine = channels[:, start : start + size].reshape(-1)
        start += size
        conv = editor.add(
            f"{layer.name}_{name}",
            "Conv2D",
            ir.substitute(node.args, editor.moved),
            (batch, height, width, len(mine)),
            {**layer.config, "filters": len(mine)},
            {key: weight[..., mine] for key, weight in layer.weights.items()},
        )
        title = f"{layer.name}_{name}_rows"
        found[name] = editor.reshape(title, conv, (count, size))
    return found


class _Decoder:
    """Adds the arithmetic of one head."""

    def __init__(self, editor: Editor, head: Head, *, name: str):
        self._editor = editor
        self._head = head
        self._name = name

    def _call(self, what: str, op: str, *args: ir.TensorRef) -> ir.TensorRef:
        shape = self._editor.shape(args[0])
        return self._editor.add(f"{self._name}_{what}", op, args, shape)

    def _constant(self, what: str, value: np.ndarray) -> ir.TensorRef:
        array = np.asarray(value, np.float32)
        name = f"{self._name}_{what}"
        return self._editor.add(
            name, "Constant", (), array.shape, None, {"value": array}
        )

    def boxes(
        self, xy: ir.TensorRef, wh: ir.TensorRef, cells: tuple[int, int]
    ) -> ir.TensorRef:
        """Returns corners [batch, n, 4]; `cells` is (height, width) of the map."""
        grid = np.array([cells[1], cells[0]], np.float32)
        index = np.arange(self._editor.shape(xy)[1] or 0)
        columns, rows, anchors = boxes_lib.places(index, cells, head=self._head)
        corner = np.stack([columns, rows], axis=-1) / grid
        half_anchors = anchors / (2 * self._head.stride * grid)
        # Where a cell begins, and how far its anchor reaches at exp(0).
        cell = self._call("sigmoid_xy", "sigmoid", xy)
        cell = self._call("cell", "divide", cell, self._constant("grid", grid))
        corners = self._constant("corners", corner[None])
        centre = self._call("centre", "add", cell, corners)
        half = self._call("exp_wh", "exp", wh)
        sizes = self._constant("anchors", half_anchors[None])
        half = self._call("half", "multiply", half, sizes)
        low = self._call("low", "subtract", centre, half)
        high = self._call("high", "add", centre, half)
        whole = (*self._editor.shape(low)[:-1], 4)
        title = f"{self._name}_corners"
        return self._editor.add(
            title, "Concatenate", ([low, high],), whole, {"axis": -1}
        )

    def scores(self, objectness: ir.TensorRef, classes: ir.TensorRef) -> ir.TensorRef:
        """Returns scores [batch, n, num_classes]."""
        seen = self._call("sigmoid_objectness", "sigmoid", objectness)
        likely = self._call("sigmoid_classes", "sigmoid", classes)
        return self._call("scores", "multiply", likely, seen)
