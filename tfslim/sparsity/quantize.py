"""Quantization-aware training: the model learns with 8-bit weights and activations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_wrapper,
)

from tfslim import checks, errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.sparsity import kernels, wrapped
from tfslim.sparsity.fold import fold
from tfslim.sparsity.library import tfmot
from tfslim.sparsity.plain import plain
from tfslim.sparsity.quantizers import MAX_CLUSTERS, keep_frozen, stop_training_kernels
from tfslim.sparsity.schemes import KEEP, OutputConfig, Scheme


def quantize_aware(
    model: Any, *, keep: str = "nothing", ignore: str | Iterable[str] = ()
) -> wrapped.Wrapped:
    """Trains with the rounding of an INT8 file, so that weights get used to it.

    Within the context, compile and fit `training.model`; after it, `training.result`
    is a tf_keras model with fake quantization, whichever Keras the model came from:
    Keras 3 has no such layers. `tfslim.convert.convert_quantized` makes the INT8
    `.tflite` of it. Weights of frozen layers become INT8, too, but do not move. Source:
    Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        keep: what the kernels have that training must not undo: "nothing", "zeros"
            (PQAT, after pruning), "clusters" (CQAT, after clustering), "both" (PCQAT).
        ignore: names of layers, or patterns, or one of them, to leave in float.

    Raises:
        ConfigError: an unknown option, or a model that TF-MOT cannot rebuild; on
            leaving, that no training step ran.
        GraphError: the model cannot be read.
    """
    checks.choice("keep", keep, known=KEEP)
    graph = graph_keras.read(model)
    if keep in ("nothing", "zeros"):
        graph = fold(graph)  # It would tear clusters apart.
    graph = plain(graph)
    ignored = checks.matching("layer to ignore", ignore, names=graph.layers)
    unwrapped = _unwrapped(graph)
    skipped = {**unwrapped, **dict.fromkeys(ignored, "ignored as asked")}
    quantized = _quantized(graph, keep, ignored=ignored, unwrapped=unwrapped)
    at_start = _state(quantized)

    def finish() -> tuple[Any, wrapped.SparsityReport]:
        if all(map(np.array_equal, at_start, _state(quantized))):
            raise errors.ConfigError(
                "No training step ran inside the context, so the ranges of the "
                "activations are not known. Fit training.model there."
            )
        treated = {
            layer.name: _treated(layer, keep)
            for layer in kernels.with_kernels(graph)
            if layer.name not in skipped
        }
        notes = ("The result is a tf_keras model with fake quantization.",)
        method = "Trained with 8-bit weights and activations"
        if keep != "nothing":
            kept = "zeros and clusters" if keep == "both" else keep
            method += f", {kept} kept"
        return quantized, wrapped.SparsityReport(method, treated, skipped, notes)

    return wrapped.Wrapped(quantized, finish)


def _unwrapped(graph: ir.Graph) -> dict[str, str]:
    """Returns the layers that TF-MOT cannot wrap, and why."""
    return {
        node.layer: f"TF-MOT cannot wrap {graph.layer_of(node).op} as it is called here"
        for node in graph.nodes
        if graph.layer_of(node).op not in ("Input", "Constant")
        and (len(node.shapes), len(node.args), len([*ir.refs(node.kwargs)]))
        != (1, 1, 0)
    }


def _quantized(
    graph: ir.Graph, keep: str, *, ignored: Collection[str], unwrapped: Collection[str]
) -> Any:
    """Returns the model with fake quantization, by TF-MOT."""
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    inputs = [n for n, layer in graph.layers.items() if layer.op == "Input"]
    whole = {*inputs, *ignored, *unwrapped}
    apart = _norms_after_dense(graph)

    def annotated_layer(native: Any) -> Any:
        if native.name in whole:
            return native
        return annotate(native, OutputConfig() if native.name in apart else None)

    own = {
        layer.keras_class.__name__: layer.keras_class
        for layer in graph.layers.values()
        if layer.keras_class is not None
    }
    with tf_keras.utils.custom_object_scope({**own, "OutputConfig": OutputConfig}):
        try:
            annotated = tf_keras.models.clone_model(
                graph_keras.write(graph, "tf_keras"),
                clone_function=annotated_layer,
            )
            quantized = tfmot.quantization.keras.quantize_apply(
                annotated, Scheme(keep, unwrapped)
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise errors.ConfigError(
                f"TF-MOT cannot quantize '{graph.name}': {' '.join(str(error).split())}"
            ) from error
    for layer in quantized.layers:
        if isinstance(layer, quantize_wrapper.QuantizeWrapper):
            stop_training_kernels(layer)
            keep_frozen(layer)
    if keep in ("zeros", "both"):
        for variable in quantized.trainable_variables:
            if len(variable.shape) > 1:
                wrapped.hold_zeros(variable)
    return quantized


def _norms_after_dense(graph: ir.Graph) -> set[str]:
    """Finds norms that TF-MOT would join with a Dense layer.

    The converter cannot: it would compute both in float.
    """
    return {
        node.layer
        for node in graph.nodes
        if graph.layer_of(node).op == "BatchNormalization"
        and graph.layer_of(graph.nodes[node.inputs[0].node]).op == "Dense"
    }


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
    if not layer.trainable:
        words.append("frozen (trainable=False)")
    return ", ".join(words)


def _state(model: tf_keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.non_trainable_weights]
