"""Models to learn from: Keras models, `.tflite` files, functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, ops, registry
from tfslim.evaluation.predict import Predictor
from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.tflite import flatbuffer
from tfslim.tflite import model as tflite_model
from tfslim.training import training

# Between a softmax and the output of a file.
_PASSING = ops.tflite("converting", "reshaping")
# Runs a batch of inputs as the model takes them: the output, then the features.
Teacher = Callable[[Any], list[np.ndarray]]
# Smaller probabilities of a float model have no digits in float32.
_SMALLEST = 1e-30


def build(teacher: Any, *, features: Sequence[str], has_logits: bool) -> Teacher:
    """Returns a teacher as a function of a batch.

    Args:
        teacher: a functional or Sequential model of either Keras, a `.tflite` file by
            its path or bytes, or a function from inputs to outputs.
        features: names of layers whose outputs are wanted too.
        has_logits: whether the output is wanted before the softmax.

    Raises:
        ConfigError: features of what has no layers, or an output that is no logits.
        GraphError: the model cannot be read, or there is no such layer.
    """
    if training.is_model(teacher):
        return _keras(teacher, features, has_logits=has_logits)
    if features:
        raise errors.ConfigError(
            f"features need a Keras model as teacher, got a {type(teacher).__name__}: "
            "a file or function shows nothing but its outputs."
        )
    if isinstance(teacher, bytes | str | Path):
        return _tflite(teacher, has_logits)
    if callable(teacher):
        return lambda inputs: [np.asarray(teacher(inputs))]
    raise errors.ConfigError(
        f"teacher is a {type(teacher).__name__}; expected a Keras model, a .tflite "
        "(path or bytes), or a function from inputs to outputs."
    )


def with_logits(graph: ir.Graph) -> tuple[ir.Graph, bool]:
    """Returns the graph without the softmax at its output, and whether it had one.

    Raises:
        ConfigError: it ends in something else that is no logits.
    """
    [ref] = graph.output_refs
    node = graph.nodes[ref.node]
    layer = graph.layer_of(node)
    activation = layer.config.get("activation") or "linear"
    if layer.op in ("Softmax", "softmax"):
        return dataclasses.replace(graph, outputs=node.inputs[0]), True
    if activation == "linear" and layer.op not in ops.keras("elementwise"):
        return graph, False
    if activation == "softmax" and layer.op == "Activation":
        return dataclasses.replace(graph, outputs=node.inputs[0]), True
    if activation == "softmax" and _count(graph, layer.name) == 1:
        bare = dataclasses.replace(
            layer, config={**layer.config, "activation": "linear"}
        )
        return graph.with_layers({layer.name: bare}), True
    raise errors.ConfigError(
        f"Model '{graph.name}' ends in {layer.op} with activation {activation}, which "
        "gives no logits of classes. Compare the outputs as they are: outputs='mse'."
    )


def _count(graph: ir.Graph, layer: str) -> int:
    """Returns how often a layer's result is used, as an output too."""
    places = [n for n, node in enumerate(graph.nodes) if node.layer == layer]
    uses = [ref for node in graph.nodes for ref in node.inputs]
    return sum(ref.node in places for ref in [*uses, *graph.output_refs])


def feature_ref(graph: ir.Graph, layer: str) -> ir.TensorRef:
    """Returns what a layer gives where it is first called.

    Raises:
        ConfigError: there is no such layer.
    """
    for number, node in enumerate(graph.nodes):
        if node.layer == layer:
            return ir.TensorRef(number)
    raise registry.unknown_name("layer", layer, known=graph.layers)


def _keras(model: Any, features: Sequence[str], *, has_logits: bool) -> Teacher:
    kind = graph_keras.keras_of(model)
    graph = graph_keras.read(model)
    if len(graph.output_refs) != 1:
        raise errors.ConfigError(
            f"The teacher '{graph.name}' has {len(graph.output_refs)} outputs; "
            "distillation compares one."
        )
    if has_logits:
        graph, _ = with_logits(graph)
    refs = [feature_ref(graph, name) for name in features]
    probe = dataclasses.replace(graph, outputs=[*graph.output_refs, *refs])
    built = keras_run.write(probe, kind)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any) -> Any:
        shown = tf.nest.flatten(built(inputs, training=False))
        return [tf.cast(each, tf.float32) for each in shown]

    return lambda inputs: [each.numpy() for each in step(inputs)]


def _tflite(source: bytes | str | Path, has_logits: bool) -> Teacher:
    content = source if isinstance(source, bytes) else flatbuffer.read_file(source)
    predictor = Predictor(content)
    model = tflite_model.read(content)
    if len(model.outputs) != 1:
        raise errors.ConfigError(
            f"The teacher has {len(model.outputs)} outputs; distillation compares one."
        )
    smallest = _smallest_probability(model) if has_logits else None

    def run(inputs: Any) -> list[np.ndarray]:
        [values] = predictor(inputs)
        if smallest is not None:
            # Equal to the logits but for a constant, which a softmax does not see.
            values = np.log(np.maximum(values, smallest))
        return [values.astype(np.float32)]

    return run


def _smallest_probability(model: tflite_model.TfliteModel) -> float | None:
    """Returns what a probability of 0 stands for, None if the file ends in no softmax.

    In a quantized file it stands for all below half a step.
    """
    graph, tensor = model.graphs[0], model.outputs[0]
    smallest = _SMALLEST
    while True:
        if tensor.quantization is not None:
            smallest = float(tensor.quantization.scale[0]) / 2
        op = graph.producers.get(tensor.index)
        if op is None or op.name not in _PASSING:
            return smallest if op is not None and op.name == "SOFTMAX" else None
        tensor = graph.tensors[op.inputs[0]]
