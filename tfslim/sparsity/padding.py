"""Padding alike on both sides, as XNNPACK's sparse kernels want it."""

from __future__ import annotations

import dataclasses

from tfslim.graph import ir
from tfslim.graph.editor import Editor


def symmetric(graph: ir.Graph) -> ir.Graph:
    """Pads convolutions with stride 2 by half their kernel on each side.

    'same' padding, and the `ZeroPadding2D(((0, 1), (0, 1)))` that keras.applications
    put before a 'valid' convolution, pad an even image behind only. Here both become
    a `ZeroPadding2D` of (k - 1) / 2 on each side and a 'valid' convolution. Shapes
    stay; the sampled grid moves by a pixel, so the model must be trained on.
    """
    return _with_explicit_padding(_with_even_padding(graph))


def _with_even_padding(graph: ir.Graph) -> ir.Graph:
    """Evens out the padding layers that stand before strided convolutions."""
    layers, nodes = dict(graph.layers), list(graph.nodes)
    uses = [*graph.output_refs, *(ref for node in nodes for ref in node.inputs)]
    for node in graph.nodes:
        conv = graph.layer_of(node)
        if not _is_strided(conv) or conv.config["padding"] != "valid":
            continue
        place = node.inputs[0].node
        before = graph.layer_of(nodes[place])
        size = conv.config["kernel_size"][0]
        if (
            before.op == "ZeroPadding2D"
            and uses.count(node.inputs[0]) == 1
            and all(sum(side) in (size - 2, size - 1) for side in _sides(before))
        ):
            source = nodes[place].inputs[0]
            config = {**before.config, "padding": [[size // 2] * 2] * 2}
            layers[before.name] = dataclasses.replace(before, config=config)
            shape = _padded(nodes[source.node].shapes[source.port], size // 2)
            nodes[place] = dataclasses.replace(nodes[place], shapes=(shape,))
    return dataclasses.replace(graph, layers=layers, nodes=tuple(nodes))


def _with_explicit_padding(graph: ir.Graph) -> ir.Graph:
    """Writes the 'same' padding of strided convolutions as a layer of its own."""
    editor = Editor(graph)
    for number, node in enumerate(graph.nodes):
        layer = graph.layer_of(node)
        if not (_is_strided(layer) and layer.config["padding"] == "same"):
            editor.copy(number)
            continue
        pad = layer.config["kernel_size"][0] // 2
        padded = editor.add(
            f"{layer.name}_both_sides",
            "ZeroPadding2D",
            ir.substitute(node.args, editor.moved),
            _padded(graph.shape(node.inputs[0]), pad),
            {"padding": [[pad, pad], [pad, pad]]},
        )
        config = {**layer.config, "padding": "valid"}
        layer = dataclasses.replace(layer, config=config)
        editor.call(layer, (padded,), node.shapes, node.kwargs)
        editor.move(number)
    return editor.finish()


def _is_strided(layer: ir.Layer) -> bool:
    config = layer.config
    return (
        layer.op in ("Conv2D", "DepthwiseConv2D")
        and list(config["strides"]) == [2, 2]
        and list(config["kernel_size"]) in ([3, 3], [5, 5])
        and list(config["dilation_rate"]) == [1, 1]
        and config["data_format"] == "channels_last"
    )


def _sides(padding: ir.Layer) -> list[list[int]]:
    sides: list[list[int]] = padding.config["padding"]
    return sides


def _padded(shape: ir.Shape, pad: int) -> ir.Shape:
    batch, height, width, channels = shape
    return (
        batch,
        None if height is None else height + 2 * pad,
        None if width is None else width + 2 * pad,
        channels,
    )
