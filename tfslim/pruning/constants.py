"""Channels that are constant are not lost with a cut: they move into the next bias.

A batch normalization whose gamma is 0 gives beta for every input. Removing such a
channel takes `sum_k W_k f(beta_k)` out of the next layer; adding that to its bias
makes the cut exact, except where zeros are padded around a constant.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tfslim import checks, ops
from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.rules import base

# For each position of a tensor's labels its constant value, NaN where it has none.
_Values: TypeAlias = ir.Array

_FUNCTIONS: dict[str, Callable[[_Values], _Values]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "hard_sigmoid_legacy": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_silu": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
}


FOLDS = ("none", "exact", "all")


@dataclasses.dataclass(frozen=True)
class Folding:
    """What became of the removed channels that are constant.

    Attributes:
        folded: layers whose bias took constants in, with their number.
        padded: among them, those whose border positions are wrong: zeros are padded
            where the constant would have to be.
        left: layers that take in constants which were not folded, with their number.
    """

    folded: Mapping[str, int]
    padded: tuple[str, ...]
    left: Mapping[str, int]


def fold_constants(
    graph: ir.Graph,
    keep: Mapping[str, channels_lib.Mask],
    *,
    channels: channels_lib.Channels | None = None,
    same_padding: bool = False,
) -> tuple[ir.Graph, Folding]:
    """Moves what constant channels that are to be removed contribute into biases.

    The result computes what the graph computes (for `same_padding`, except near
    borders) and no longer needs these channels: cut it by the same `keep`.

    Args:
        graph: what is to be cut.
        keep: as for `cut_channels`.
        channels: the graph's analysis, if it is at hand.
        same_padding: fold also into convolutions that pad with zeros, which errs at
            the border: 12% of the positions of a 3x3 kernel at 32 x 32, 44% at 8 x 8.

    Returns:
        The graph with changed biases, and what was folded and what not.
    """
    channels = channels or channels_lib.analyze(graph)
    folder = _Folder(channels, channels.mask(keep), same=same_padding)
    for number in range(len(graph.nodes)):
        folder.visit(number)
    folding = Folding(folder.folded, tuple(folder.padded), folder.left)
    return graph.with_layers(folder.changed), folding


class _Folder:
    """Follows constants through the graph and gathers the changed layers."""

    def __init__(
        self, channels: channels_lib.Channels, mask: channels_lib.Mask, *, same: bool
    ):
        self._graph = channels.graph
        self._wirings = channels.wirings
        self._mask = mask
        self._same = same
        calls = [node.layer for node in self._graph.nodes]
        self._shared = {name for name in calls if calls.count(name) > 1}
        self._values: dict[ir.TensorRef, _Values] = {}
        self.changed: dict[str, ir.Layer] = {}
        self.folded: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.padded: list[str] = []

    def visit(self, number: int) -> None:
        """Folds into one call and finds which of its outputs are constant."""
        node, wiring = self._graph.nodes[number], self._wirings[number]
        layer = self._graph.layer_of(node)
        inputs = [self._values[ref] for ref in node.inputs]
        if wiring.sums:
            self._fold(layer, wiring, values=inputs[0])
        rule = _RULES.get(layer.op, _by_label if layer.op in _MOVING else None)
        sources = [self._wirings[ref.node].outputs[ref.port] for ref in node.inputs]
        for port, labels in enumerate(wiring.outputs):
            values = np.full(labels.size, np.nan)
            if rule is not None and labels.size > 1:
                values = rule(_Context(layer, labels, sources, inputs, self._same))
            self._values[ir.TensorRef(number, port)] = values

    def _fold(self, layer: ir.Layer, wiring: base.Wiring, *, values: _Values) -> None:
        name, axis = next(iter(wiring.sums.items()))
        vector = wiring.weights[name][axis]
        if vector is None or len(vector) != len(values):
            return
        # A constant 0 contributes nothing: nothing to fold and nothing lost.
        constant = ~self._mask[vector] & np.isfinite(values) & (values != 0.0)
        if not constant.any():
            return
        padded = _pads(layer)
        simple = name == "kernel" and layer.config.get("groups", 1) == 1
        simple = simple and len(wiring.sums) == 1
        if not simple or layer.name in self._shared or (padded and not self._same):
            self.left[layer.name] = int(constant.sum())
            return
        kernel = np.moveaxis(layer.weights[name].astype(np.float64), axis, 0)
        # Sums over the kernel's positions too; the output axis is the one left.
        share = np.tensordot(values[constant], kernel[constant], axes=1)
        share = share.reshape(-1, share.shape[-1]).sum(axis=0)
        self.changed[layer.name] = _with_bias(
            layer, share, kernel=name, axis=axis, gone=constant
        )
        self.folded[layer.name] = int(constant.sum())
        if padded:
            self.padded.append(layer.name)


def _with_bias(
    layer: ir.Layer, share: ir.Array, *, kernel: str, axis: int, gone: ir.Array
) -> ir.Layer:
    """Returns the layer with more bias and without the inputs that it stands for."""
    weights = dict(layer.weights)
    old = weights[kernel]
    weights[kernel] = old.copy()
    np.moveaxis(weights[kernel], axis, 0)[gone] = 0.0
    bias = weights.get("bias", np.zeros(share.shape, old.dtype))
    weights["bias"] = (bias + share).astype(old.dtype)
    config = {**layer.config, "use_bias": True}
    return dataclasses.replace(layer, config=config, weights=weights)


def _pads(layer: ir.Layer) -> bool:
    """Tells whether a layer puts zeros around its input."""
    kernel = layer.weights.get("kernel", layer.weights.get("depthwise_kernel"))
    if kernel is None or math.prod(kernel.shape[:-2]) == 1:
        return False
    # A transposed convolution adds up different kernel positions at each place.
    return layer.op.endswith("Transpose") or layer.config["padding"] != "valid"


@dataclasses.dataclass(frozen=True)
class _Context:
    """What a rule for constants sees of a call."""

    layer: ir.Layer
    labels: ir.Array
    sources: list[ir.Array]
    values: list[_Values]
    same: bool

    def lookup(self, *numbers: int) -> _Values:
        """Returns the constants of inputs in the order of the output's labels.

        A label that stands at several positions has a constant only if it is the same
        at all of them.
        """
        labels = np.concatenate([self.sources[n].ravel() for n in numbers])
        values = np.concatenate([self.values[n] for n in numbers])
        wanted = self.labels.ravel()
        if np.array_equal(labels, wanted):
            return values
        order = np.argsort(labels, kind="stable")
        unique, starts = np.unique(labels[order], return_index=True)
        low = np.minimum.reduceat(values[order], starts)
        high = np.maximum.reduceat(values[order], starts)
        found = np.where(low == high, low, np.nan)
        places = np.searchsorted(unique, wanted).clip(max=len(unique) - 1)
        return np.where(unique[places] == wanted, found[places], np.nan)

    def activated(self, values: _Values) -> _Values:
        """Returns the constants after the layer's own activation."""
        return _activated(self.layer.config.get("activation") or "linear", values)


_RULES: dict[str, Callable[[_Context], _Values]] = {}


def _rule(*ops: str) -> Callable[[Any], Any]:
    def decorate(function: Callable[[_Context], _Values]) -> Any:
        _RULES.update(dict.fromkeys(ops, function))
        return function

    return decorate


def _activated(name: Any, values: _Values) -> _Values:
    function = _FUNCTIONS.get(name) if isinstance(name, str) else None
    with np.errstate(over="ignore"):
        return np.full_like(values, np.nan) if function is None else function(values)


@_rule("Conv1D", "Conv2D", "Conv2DTranspose", "Dense")
def _maker(context: _Context) -> _Values:
    """An output whose kernel is all zero is its bias."""
    kernel = context.layer.weights["kernel"]
    axis = kernel.ndim - (2 if context.layer.op.endswith("Transpose") else 1)
    others = tuple(a for a in range(kernel.ndim) if a != axis)
    silent = (kernel == 0).all(axis=others)
    bias = context.layer.weights.get("bias", np.zeros(len(silent)))
    values = context.activated(np.where(silent, bias.astype(np.float64), np.nan))
    return (
        values
        if values.size == context.labels.size
        else np.full(context.labels.size, np.nan)
    )


@_rule("BatchNormalization")
def _batch_norm(context: _Context) -> _Values:
    """With gamma 0 the output is beta, whatever comes in."""
    weights = {k: v.astype(np.float64) for k, v in context.layer.weights.items()}
    values = context.lookup(0)
    gamma = weights.get("gamma", np.ones_like(values))
    beta = weights.get("beta", np.zeros_like(values))
    if len(gamma) != len(values):
        return np.full_like(values, np.nan)
    spread = np.sqrt(weights["moving_variance"] + context.layer.config["epsilon"])
    normal = (values - weights["moving_mean"]) / spread
    return np.where(gamma == 0, beta, normal * gamma + beta)


@_rule("DepthwiseConv2D")
def _depthwise(context: _Context) -> _Values:
    """A constant stays constant, but for the border where zeros are padded."""
    kernel = context.layer.weights["depthwise_kernel"].astype(np.float64)
    values = context.values[0]
    if len(values) != kernel.shape[2] or context.labels.size != kernel[0, 0].size:
        return np.full(context.labels.size, np.nan)
    if _pads(context.layer) and not context.same:
        values = np.where(values == 0.0, values, np.nan)
    result = (values[:, None] * kernel.sum(axis=(0, 1))).reshape(-1)
    result = result + context.layer.weights.get("bias", 0.0)
    return context.activated(result)


@_rule("Activation", *_FUNCTIONS)
def _activation(context: _Context) -> _Values:
    name = context.layer.config.get("activation", context.layer.op)
    return _activated(name, context.lookup(0))


@_rule("ReLU")
def _relu(context: _Context) -> _Values:
    config, values = context.layer.config, context.lookup(0)
    if config.get("threshold"):
        return np.full_like(values, np.nan)
    slope = config.get("negative_slope") or 0.0
    top = config.get("max_value")
    result = np.where(values > 0, values, slope * values)
    return result if top is None else np.minimum(result, top)


@_rule("LeakyReLU", "leaky_relu")
def _leaky_relu(context: _Context) -> _Values:
    # The layer's own default is steeper than the function's.
    default = 0.3 if context.layer.op == "LeakyReLU" else 0.2
    slope = context.layer.config.get("negative_slope", default)
    values = context.lookup(0)
    return np.where(values > 0, values, slope * values)


@_rule("Add", "add", "Multiply", "multiply", "Subtract", "subtract", "Average")
def _merge(context: _Context) -> _Values:
    values = np.stack([context.lookup(n) for n in range(len(context.values))])
    kind = context.layer.op.lower()
    if kind == "multiply":
        product = values.prod(axis=0)
        return np.where((values == 0).any(axis=0), 0.0, product)
    if kind == "subtract":
        return np.asarray(values[0] - values[1])
    total = np.asarray(values.sum(axis=0))
    return total / len(values) if kind == "average" else total


@_rule(*ops.keras("padding"))
def _zero_padding(context: _Context) -> _Values:
    """Zeros around a constant that is not zero: no longer one value."""
    values = context.lookup(0)
    return values if context.same else np.where(values == 0.0, values, np.nan)


# Ops that bring values elsewhere unchanged: the label says which.
_MOVING = ops.keras("pooling", "cropping", "upsampling", "moving", "idle") | frozenset(
    "Concatenate concatenate getitem max mean min split".split()
)


def _by_label(context: _Context) -> _Values:
    """Returns, for each output label, the constant that it has wherever it comes in."""
    return context.lookup(*range(len(context.values)))


def check_mode(mode: str) -> None:
    """Raises ConfigError unless `mode` is a known way to fold."""
    checks.choice("folding", mode, known=FOLDS)
