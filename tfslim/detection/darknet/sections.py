"""From the sections of a `.cfg` to a network, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from tfslim import errors
from tfslim.detection.darknet import network as net
from tfslim.detection.darknet.cfg import Section, join
from tfslim.detection.heads import Head
from tfslim.registry import unknown_name


def build(sections: Sequence[Section]) -> net.Network:
    """Builds the network that sections describe.

    Raises:
        GraphError: a section or option is unknown or wrong, or shapes do not fit.
    """
    if not sections or sections[0].kind not in ("net", "network"):
        raise errors.GraphError("A .cfg must begin with a [net] section.")
    head = sections[0]
    if not {"height", "width", "channels"} <= set(head.options):
        raise errors.GraphError("[net] must have width, height and channels.")
    height, width, channels = (
        head.number(key, 1, least=1) for key in ("height", "width", "channels")
    )
    network = net.Network((height, width, channels), ())
    for section in sections[1:]:
        if section.kind not in _PARSERS:
            hint = unknown_name("section", section.kind, known=_PARSERS)
            raise errors.GraphError(f"Line {section.line} of the .cfg: {hint}")
        layer = _PARSERS[section.kind](section, network)
        if min(layer.shape) < 1:
            raise errors.GraphError(
                f"{section} leaves nothing of {network.shape(layer.inputs[0])}."
            )
        network = dataclasses.replace(network, layers=(*network.layers, layer))
    _check_ends(network, sections)
    return network


def _check_ends(network: net.Network, sections: Sequence[Section]) -> None:
    if not network.heads:
        raise errors.GraphError(
            "The .cfg has no [yolo] section, so no output. Is it cut off?"
        )
    used = {source for layer in network.layers for source in layer.inputs}
    for index, layer in enumerate(network.layers):
        if index not in used and not isinstance(layer.op, net.Yolo):
            raise errors.GraphError(
                f"Nothing reads the output of {sections[index + 1]}. Is the .cfg cut "
                "off?"
            )


def _convolutional(section: Section, network: net.Network) -> net.Layer:
    section.check_options(
        "filters size stride pad padding groups batch_normalize activation".split()
    )
    source = _last(section, network)
    height, width, channels = network.shape(source)
    size = section.number("size", 1, least=1)
    op = net.Convolutional(
        filters=section.number("filters", 1, least=1),
        size=size,
        stride=section.number("stride", 1, least=1),
        padding=size // 2 if section.number("pad", 0) else section.number("padding", 0),
        groups=section.number("groups", 1, least=1),
        batch_normalize=bool(section.number("batch_normalize", 0)),
        activation=_activation(section, "logistic"),
    )
    if channels % op.groups or op.filters % op.groups:
        raise errors.GraphError(
            f"{section} has {op.groups} groups, which divide neither or only one of "
            f"its {channels} inputs and {op.filters} filters."
        )
    rows, columns = (
        (n + 2 * op.padding - size) // op.stride + 1 for n in (height, width)
    )
    return net.Layer(op, (source,), (rows, columns, op.filters))


def _activation(section: Section, default: str) -> str:
    name = section.options.get("activation", default)
    if name not in net.ACTIVATIONS:
        raise errors.GraphError(
            f"{section}: {unknown_name('activation', name, known=net.ACTIVATIONS)}"
        )
    return name


def _shortcut(section: Section, network: net.Network) -> net.Layer:
    section.check_options(["from", "activation", "alpha", "beta"])
    if {*section.numbers("alpha", (1,)), *section.numbers("beta", (1,))} != {1.0}:
        raise errors.GraphError(f"{section}: only alpha=1 and beta=1 are supported.")
    [source] = _sources(section, "from", network=network, count=1)
    last = _last(section, network)
    if network.shape(source) != network.shape(last):
        raise errors.GraphError(
            f"{section} adds outputs of shapes {network.shape(last)} and "
            f"{network.shape(source)}; they must be equal."
        )
    op = net.Shortcut(_activation(section, "linear"))
    return net.Layer(op, (last, source), network.shape(last))


def _route(section: Section, network: net.Network) -> net.Layer:
    section.check_options(["layers", "groups", "group_id"])
    sources = _sources(section, "layers", network=network)
    op = net.Route(section.number("groups", 1, least=1), section.number("group_id", 0))
    shapes = [network.shape(source) for source in sources]
    if len({shape[:2] for shape in shapes}) > 1:
        raise errors.GraphError(
            f"{section} joins outputs of other heights and widths: {shapes}."
        )
    if op.group_id >= op.groups or any(c % op.groups for *_, c in shapes):
        raise errors.GraphError(
            f"{section}: group_id {op.group_id} of {op.groups} groups of {shapes} "
            "does not exist."
        )
    channels = sum(shape[2] // op.groups for shape in shapes)
    return net.Layer(op, sources, (*shapes[0][:2], channels))


def _last(section: Section, network: net.Network) -> int:
    """Returns the number of the layer before the section."""
    if network.layers and isinstance(network.layers[-1].op, net.Yolo):
        raise errors.GraphError(
            f"{section} reads a [yolo], which is an output. Put a [route] before it."
        )
    return len(network.layers) - 1


def _sources(
    section: Section, key: str, *, network: net.Network, count: int | None = None
) -> tuple[int, ...]:
    """Returns layer numbers; negative ones count back from the section."""
    here = len(network.layers)
    found = []
    for number in section.numbers(key, (), count=count):
        index = int(number) + (here if number < 0 else 0)
        if number != int(number) or not 0 <= index < here:
            raise errors.GraphError(
                f"{section}: {key} {number:g} is no layer; it is layer {here} itself, "
                "so earlier ones are 0 and up, or -1 and down."
            )
        if isinstance(network.layers[index].op, net.Yolo):
            raise errors.GraphError(f"{section}: {key} {number:g} is a [yolo].")
        found.append(index)
    if not found:
        raise errors.GraphError(f"{section} has no {key}.")
    return tuple(found)


def _upsample(section: Section, network: net.Network) -> net.Layer:
    section.check_options(["stride", "scale"])
    if section.numbers("scale", (1,)) != (1.0,):
        raise errors.GraphError(f"{section}: only scale=1 is supported.")
    source = _last(section, network)
    height, width, channels = network.shape(source)
    op = net.Upsample(section.number("stride", 2, least=1))
    return net.Layer(op, (source,), (height * op.stride, width * op.stride, channels))


def _maxpool(section: Section, network: net.Network) -> net.Layer:
    section.check_options(["size", "stride", "padding"])
    source = _last(section, network)
    height, width, channels = network.shape(source)
    stride = section.number("stride", 1, least=1)
    size = section.number("size", stride, least=1)
    op = net.Maxpool(size, stride, section.number("padding", size - 1))
    rows, columns = ((n + op.padding - size) // stride + 1 for n in (height, width))
    return net.Layer(op, (source,), (rows, columns, channels))


def _nothing(section: Section, network: net.Network) -> net.Layer:
    """A section that does nothing in use, but counts as a layer; its options too."""
    source = _last(section, network)
    return net.Layer(net.Route(), (source,), network.shape(source))


def _yolo(section: Section, network: net.Network) -> net.Layer:
    # Its other options are of training.
    for key, neutral in (("scale_x_y", 1.0), ("new_coords", 0.0)):
        if section.numbers(key, (neutral,)) != (neutral,):
            raise errors.GraphError(f"{section}: only {key}={neutral:g} is supported.")
    source = _last(section, network)
    height, width, channels = network.shape(source)
    total = section.number("num", 1, least=1)
    sides = section.numbers("anchors", (), count=2 * total)
    anchors = list(zip(sides[::2], sides[1::2], strict=True))
    mask = section.numbers("mask", range(total))
    if not anchors or not all(n in range(total) for n in mask):
        raise errors.GraphError(
            f"{section} has {len(anchors)} anchors and the mask {join(mask)}."
        )
    stride = network.input_shape[1] // max(width, 1)
    if network.input_shape[:2] != (height * stride, width * stride):
        raise errors.GraphError(
            f"{section} sees {height}x{width} cells, which do not divide the image of "
            f"{network.input_shape[0]}x{network.input_shape[1]}."
        )
    head = Head(
        tuple(anchors[int(n)] for n in mask),
        stride,
        section.number("classes", 20, least=1),
    )
    if head.num_channels != channels:
        raise errors.GraphError(
            f"{section} has {head.num_anchors} anchors and {head.num_classes} classes: "
            f"the layer before needs {head.num_channels} filters, and has {channels}."
        )
    return net.Layer(net.Yolo(head), (source,), network.shape(source))


_PARSERS: Mapping[str, Callable[[Section, net.Network], net.Layer]] = {
    "conv": _convolutional,
    "convolutional": _convolutional,
    "dropout": _nothing,
    "empty": _nothing,
    "max": _maxpool,
    "maxpool": _maxpool,
    "route": _route,
    "shortcut": _shortcut,
    "silence": _nothing,
    "upsample": _upsample,
    "yolo": _yolo,
}


def describe(network: net.Network) -> tuple[Section, ...]:
    """Returns the sections of a network, in the words of Darknet's own files."""
    height, width, channels = network.input_shape
    first = {"batch": 1, "subdivisions": 1, "width": width, "height": height}
    first["channels"] = channels
    sections = [Section("net", {key: str(value) for key, value in first.items()})]
    # Darknet lists the anchors of all heads, small first, and a mask for each head.
    anchors = [a for head in network.heads[::-1] for a in head.anchors]
    for index, layer in enumerate(network.layers):
        kind, options = _describe(index, layer, anchors=anchors)
        sections.append(Section(kind, {k: str(v) for k, v in options.items()}))
    return tuple(sections)


def _describe(
    index: int, layer: net.Layer, *, anchors: list[tuple[float, float]]
) -> tuple[str, Mapping[str, object]]:
    op = layer.op
    match op:
        case net.Convolutional():
            return "convolutional", _describe_convolutional(op)
        case net.Shortcut():
            source = layer.inputs[1] - index
            return "shortcut", {"from": source, "activation": op.activation}
        case net.Route():
            first, *more = layer.inputs
            options = {"layers": join([first - index, *more])}
            if op.groups > 1:
                options |= {"groups": str(op.groups), "group_id": str(op.group_id)}
            return "route", options
        case net.Upsample():
            return "upsample", {"stride": op.stride}
        case net.Maxpool():
            pool = {"size": op.size, "stride": op.stride}
            if op.padding != op.size - 1:
                pool["padding"] = op.padding
            return "maxpool", pool
        case net.Yolo():
            mask = [anchors.index(anchor) for anchor in op.head.anchors]
            return "yolo", {
                "mask": join(mask),
                "anchors": join([side for anchor in anchors for side in anchor]),
                "classes": op.head.num_classes,
                "num": len(anchors),
            }


def _describe_convolutional(op: net.Convolutional) -> Mapping[str, object]:
    options: dict[str, object] = {}
    if op.batch_normalize:
        options["batch_normalize"] = 1
    options |= {"filters": op.filters, "size": op.size, "stride": op.stride}
    if op.padding == op.size // 2:
        options["pad"] = 1
    else:
        options["padding"] = op.padding
    if op.groups > 1:
        options["groups"] = op.groups
    return options | {"activation": op.activation}
