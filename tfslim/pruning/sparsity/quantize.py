"""Quantization-aware training: the model learns with 8-bit weights and activations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_wrapper,
)

from tfslim import errors, registry
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning.sparsity import kernels, training
from tfslim.pruning.sparsity.fold import fold
from tfslim.pruning.sparsity.plain import plain
from tfslim.pruning.sparsity.quantizers import MAX_CLUSTERS, stop_training_kernels
from tfslim.pruning.sparsity.schemes import KEEP, Scheme


@contextlib.contextmanager
def quantize_aware(
    model: Any, *, keep: str = "nothing", ignore: Iterable[str] = ()
) -> Iterator[training.Training]:
    """Trains with the rounding of an INT8 file, so that weights get used to it.

    Within the context, compile and fit `training.model`; after it, `training.result`
    is a tf_keras model with fake quantization, whichever Keras the model came from:
    Keras 3 has no such layers. `tfslim.convert.convert_quantized` makes the INT8
    `.tflite` of it. Source: Jacob et al., CVPR 2018,
    https://arxiv.org/abs/1712.05877.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        keep: what the kernels have that training must not undo: "nothing", "zeros"
            (PQAT, after pruning), "clusters" (CQAT, after clustering), "both" (PCQAT).
        ignore: names of layers, or patterns, to leave in float.

    Raises:
        ConfigError: an unknown option, or a model that TF-MOT cannot rebuild; on
            leaving, that no training step ran.
        GraphError: the model cannot be read.
    """
    if keep not in KEEP:
        raise registry.unknown_name("keep", keep, KEEP)
    graph = graph_keras.read(model)
    if keep in ("nothing", "zeros"):
        graph = fold(graph)  # It would tear clusters apart.
    graph = plain(graph)
    left_alone = _left_alone(graph, ignore)
    quantized = _quantized(graph, keep, left_alone)
    at_start = _state(quantized)

    def finish() -> tuple[Any, training.SparsityReport]:
        if all(map(np.array_equal, at_start, _state(quantized))):
            raise errors.ConfigError(
                "No training step ran inside the context, so the ranges of the "
                "activations are not known. Fit training.model there."
            )
        treated = {
            layer.name: _treated(layer, keep)
            for layer in kernels.with_kernels(graph)
            if layer.name not in left_alone
        }
        notes = ("The result is a tf_keras model with fake quantization.",)
        method = "Trained with 8-bit weights and activations"
        if keep != "nothing":
            kept = "zeros and clusters" if keep == "both" else keep
            method += f", {kept} kept"
        return quantized, training.SparsityReport(method, treated, left_alone, notes)

    active = training.Training(quantized, finish)
    yield active
    active.finish()


def _left_alone(graph: ir.Graph, ignore: Iterable[str]) -> dict[str, str]:
    """Returns the layers that stay float, and why."""
    left_alone = dict.fromkeys(
        kernels.matching(ignore, graph.layers), "ignored as asked"
    )
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if layer.op in ("Input", "Constant"):
            continue
        if len(node.shapes) != 1 or len(node.args) != 1 or any(ir.refs(node.kwargs)):
            left_alone.setdefault(
                layer.name, f"TF-MOT cannot wrap {layer.op} as it is called here"
            )
    return left_alone


def _quantized(graph: ir.Graph, keep: str, left_alone: dict[str, str]) -> Any:
    """Returns the model with fake quantization, by TF-MOT."""
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    whole = {n for n, layer in graph.layers.items() if layer.op == "Input"} | {
        *left_alone
    }
    own = {
        layer.keras_class.__name__: layer.keras_class
        for layer in graph.layers.values()
        if layer.keras_class is not None
    }
    with tf_keras.utils.custom_object_scope(own):
        try:
            annotated = tf_keras.models.clone_model(
                graph_keras.write(graph, "tf_keras"),
                clone_function=lambda native: (
                    native if native.name in whole else annotate(native)
                ),
            )
            quantized = tfmot.quantization.keras.quantize_apply(annotated, Scheme(keep))
        except (ValueError, TypeError, RuntimeError) as error:
            raise errors.ConfigError(
                f"TF-MOT cannot quantize '{graph.name}': {' '.join(str(error).split())}"
            ) from error
    for layer in quantized.layers:
        if isinstance(layer, quantize_wrapper.QuantizeWrapper):
            stop_training_kernels(layer)
    if keep in ("zeros", "both"):
        for variable in quantized.trainable_variables:
            if len(variable.shape) > 1:
                training.hold_zeros(variable)
    return quantized


def _treated(layer: ir.Layer, keep: str) -> str:
    """Says what happens to a layer's kernel."""
    words = ["INT8"]
    if layer.op in kernels.PRUNABLE and keep != "nothing":
        kernel = kernels.kernel_of(layer)
        if keep in ("zeros", "both"):
            words.append(f"{np.mean(kernel == 0):.1%} zeros kept")
        if keep in ("clusters", "both"):
            number = len(np.unique(kernel))
            is_few = 1 < number <= MAX_CLUSTERS
            words.append(f"{number} values{' kept' if is_few else ', no clusters'}")
    return ", ".join(words)


def _state(model: tf_keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.non_trainable_weights]
