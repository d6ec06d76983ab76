"""A trained network for other classes: what it knows of boxes stays."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfslim import errors
from tfslim.detection.darknet.network import Convolutional, Layer, Network, Yolo
from tfslim.detection.darknet.weights import ConvWeights
from tfslim.detection.heads import Head


def change_classes(
    network: Network,
    weights: tuple[ConvWeights, ...],
    *,
    num_classes: int,
    seed: int = 0,
) -> tuple[Network, tuple[ConvWeights, ...]]:
    """Returns the network with `num_classes` in every `[yolo]`.

    The convolution before each keeps the channels of boxes and objectness; those of the
    classes begin anew, normal with the variance 2 / fan-in and a bias of 0.

    Raises:
        GraphError: something else stands before a `[yolo]`, or its output is read by
            others, too.
    """
    rng = np.random.default_rng(seed)
    layers, changed = list(network.layers), list(weights)
    convolutions = [
        index for index, x in enumerate(layers) if isinstance(x.op, Convolutional)
    ]
    for index, layer in enumerate(network.layers):
        if not isinstance(layer.op, Yolo):
            continue
        source = layer.inputs[0]
        last = _last_convolution(network, source)
        head = dataclasses.replace(layer.op.head, num_classes=num_classes)
        number = convolutions.index(source)
        changed[number] = _widen(
            weights[number], layer.op.head.num_classes, head=head, rng=rng
        )
        shape = (*layer.shape[:2], head.num_channels)
        last = dataclasses.replace(last, filters=head.num_channels)
        layers[source] = dataclasses.replace(layers[source], op=last, shape=shape)
        layers[index] = Layer(Yolo(head), layer.inputs, shape)
    return dataclasses.replace(network, layers=tuple(layers)), tuple(changed)


def _last_convolution(network: Network, source: int) -> Convolutional:
    """Returns what stands before a `[yolo]`, checked."""
    readers = [x for x in network.layers if source in x.inputs]
    op = network.layers[source].op if source >= 0 else None
    if isinstance(op, Convolutional) and len(readers) == 1:
        if not op.batch_normalize and op.groups == 1:
            return op
    raise errors.GraphError(
        f"Layer {source} stands before a [yolo]; classes can only be changed where "
        "that is a convolution without batch norm and groups that nothing else reads."
    )


def _widen(
    weights: ConvWeights, old: int, *, head: Head, rng: np.random.Generator
) -> ConvWeights:
    """Returns the last convolution of a head with fresh channels for its classes."""
    kernel = weights.kernel.reshape(head.num_anchors, 5 + old, -1)
    fan_in = kernel.shape[-1]
    shape = (head.num_anchors, head.num_classes, fan_in)
    fresh = rng.standard_normal(shape, np.float32) * math.sqrt(2.0 / fan_in)
    whole = np.concatenate([kernel[:, :5], fresh.astype(np.float32)], axis=1)
    bias = np.zeros((head.num_anchors, 5 + head.num_classes), np.float32)
    if weights.bias is not None:
        bias[:, :5] = weights.bias.reshape(head.num_anchors, 5 + old)[:, :5]
    return ConvWeights(
        whole.reshape(head.num_channels, *weights.kernel.shape[1:]), bias.reshape(-1)
    )
