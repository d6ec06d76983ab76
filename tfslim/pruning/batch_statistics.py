"""What criteria see of data, batch by batch, gathered by running the model in Keras."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, ops
from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.pruning import scores
from tfslim.training import losses, training

# What a channel passes on its own, up to where its values are looked at.
_FOLLOWED = ops.keras("elementwise", "idle", "trailing")
_BY_WEIGHT = {"gradient", "hessian"}
# Random signs per batch: the estimate's variance falls with their number.
_NUM_SIGNS = 4


def gather(
    graph: ir.Graph,
    kind: graph_keras.KerasName,
    *,
    batches: Sequence[Any],
    needs: frozenset[str],
    loss: Any,
) -> Iterator[scores.BatchStatistics]:
    """Yields what each batch shows, with batch normalization in inference mode.

    Args:
        graph: the model's graph.
        kind: the Keras to run it in.
        batches: `(inputs, targets)` pairs; inputs alone do for activations.
        needs: names of arrays, see `criteria.ARRAYS`.
        loss: a Keras loss, or its name, or a list of one per output; not needed for
            activations.

    Raises:
        ConfigError: targets or a loss are needed and missing, or there is another
            number of losses than of outputs.
    """
    needs_loss = needs & (_BY_WEIGHT | {"activation_gradients"})
    if needs_loss and loss is None:
        raise errors.ConfigError(
            "This criterion looks at gradients: pass data (batches of inputs and "
            "targets) and loss, e.g. loss='sparse_categorical_crossentropy'."
        )
    watched = _behind_activation(graph)
    probe = dataclasses.replace(
        _unfrozen(graph), outputs=[*graph.output_refs, *watched.values()]
    )
    model = keras_run.write(probe, kind)
    functions = None
    if needs_loss:
        runs_in = graph_keras.keras_of(model)
        functions = _losses(runs_in, loss, num_outputs=len(graph.output_refs))
    run = _Run(probe, model, functions, len(graph.output_refs))
    for batch in batches:
        if needs_loss and (not isinstance(batch, tuple) or len(batch) < 2):
            raise errors.ConfigError(
                "Gradients need targets: data must give (inputs, targets) pairs."
            )
        weights = run.by_weight(batch, needs) if needs & _BY_WEIGHT else {}
        layers = {}
        if needs - _BY_WEIGHT:
            layers = run.by_layer(batch, list(watched), needs)
        yield scores.BatchStatistics(weights=weights, layers=layers)


def _losses(
    kind: graph_keras.KerasName, loss: Any, *, num_outputs: int
) -> list[Callable[[Any, Any], Any]]:
    """Returns the loss of each output; a single one is that of all."""
    given = loss if isinstance(loss, list | tuple) else [loss] * num_outputs
    if len(given) != num_outputs:
        raise errors.ConfigError(
            f"The model has {num_outputs} outputs and {len(given)} losses; give one "
            "loss for all outputs or one for each."
        )
    package = importlib.import_module(kind).losses
    return [package.get(losses.resolve(one)) for one in given]


class _Run:
    """A model whose outputs are followed by the tensors to look at."""

    def __init__(
        self,
        graph: ir.Graph,
        model: Any,
        functions: list[Callable[[Any, Any], Any]] | None,
        num_outputs: int,
    ):
        self._graph = graph
        self._model = model
        self._losses = functions
        self._num_outputs = num_outputs
        self._names, self._variables = [], []
        for layer, named in graph_keras.variables(graph, model).items():
            for weight, variable in named.items():
                if weight not in graph.layers[layer].state:
                    self._names.append((layer, weight))
                    self._variables.append(_tensor(variable))

    def _forward(self, batch: Any) -> tuple[Any, list[Any]]:
        """Returns the sum over samples of the loss, and the tensors to look at."""
        outputs = self._model(training.inputs_of(batch), training=False)
        ours, seen = outputs[: self._num_outputs], outputs[self._num_outputs :]
        if self._losses is None or not isinstance(batch, tuple):
            return None, seen
        # As in Keras, a single target is that of all outputs.
        is_single = not isinstance(batch[1], list | tuple)
        targets = [batch[1]] * len(ours) if is_single else batch[1]
        total = 0.0
        for loss, target, output in zip(self._losses, targets, ours, strict=True):
            # A function gives a value per sample or position, a Loss object their mean.
            value = loss(target, output)
            total += tf.reduce_mean(value) * len(target)
        return total, seen

    def by_weight(
        self, batch: Any, needs: frozenset[str]
    ) -> dict[str, dict[str, dict[str, ir.Array]]]:
        """Returns gradients of the mean loss, and the Hessian's diagonal if needed."""
        samples = _num_samples(batch)
        found = {"gradient": self._gradients(batch)}
        if "hessian" in needs:
            found["hessian"] = self._hessian(batch)
        result: dict[str, dict[str, dict[str, ir.Array]]] = {}
        for kind, arrays in found.items():
            for (layer, weight), array in zip(self._names, arrays, strict=True):
                place = result.setdefault(layer, {}).setdefault(weight, {})
                place[kind] = np.asarray(array) / samples
        return result

    def _gradients(self, batch: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            total, _ = self._forward(batch)
        return _gradient(tape, total, sources=self._variables)

    def _hessian(self, batch: Any) -> list[Any]:
        """Hutchinson's estimate of the diagonal: the mean of v * (Hv) over signs v."""
        random = np.random.default_rng(0)
        sums = [np.zeros(tuple(variable.shape)) for variable in self._variables]
        for _ in range(_NUM_SIGNS):
            signs = [
                random.choice([-1.0, 1.0], tuple(v.shape)).astype("float32")
                for v in self._variables
            ]
            with tf.GradientTape() as outer:
                gradients = self._gradients(batch)
                product = tf.add_n(
                    [
                        tf.reduce_sum(gradient * sign)
                        for gradient, sign in zip(gradients, signs, strict=True)
                    ]
                )
            seconds = _gradient(outer, product, sources=self._variables)
            for total, sign, second in zip(sums, signs, seconds, strict=True):
                total += sign * np.asarray(second) / _NUM_SIGNS
        return sums

    def by_layer(
        self, batch: Any, layers: list[str], needs: frozenset[str]
    ) -> dict[str, dict[str, ir.Array]]:
        """Returns what each layer gave, and the gradient by it if needed."""
        with tf.GradientTape() as tape:
            total, seen = self._forward(batch)
        result = {
            layer: {"activations": np.asarray(tensor)}
            for layer, tensor in zip(layers, seen, strict=True)
        }
        if "activation_gradients" in needs:
            gradients = _gradient(tape, total, sources=seen)
            for layer, gradient in zip(layers, gradients, strict=True):
                result[layer]["activation_gradients"] = np.asarray(gradient)
        return result


def _gradient(tape: tf.GradientTape, value: Any, *, sources: list[Any]) -> list[Any]:
    return tape.gradient(
        value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def _num_samples(batch: Any) -> int:
    inputs = training.inputs_of(batch)
    while isinstance(inputs, Mapping | list | tuple):
        inputs = next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs))
    return len(inputs)


def _behind_activation(graph: ir.Graph) -> dict[str, ir.TensorRef]:
    """Returns, for each layer that makes channels, where its values are looked at."""
    readers: dict[ir.TensorRef, list[int]] = {}
    for number, node in enumerate(graph.nodes):
        for ref in node.inputs:
            readers.setdefault(ref, []).append(number)
    found: dict[str, ir.TensorRef] = {}
    for number, node in enumerate(graph.nodes):
        layer = graph.layer_of(node)
        if not {"kernel", "pointwise_kernel"} & set(layer.weights):
            continue
        ref = ir.TensorRef(number)
        while len(readers.get(ref, [])) == 1 and ref not in graph.output_refs:
            reader = readers[ref][0]
            if graph.layer_of(graph.nodes[reader]).op not in _FOLLOWED:
                break
            ref = ir.TensorRef(reader)
        found.setdefault(layer.name, ref)
    return found


def _tensor(variable: Any) -> Any:
    """Returns the TensorFlow variable, which Keras 3 keeps inside its own."""
    return variable if callable(variable.value) else variable.value


def _unfrozen(graph: ir.Graph) -> ir.Graph:
    return graph.with_layers(
        {
            name: dataclasses.replace(layer, trainable=True)
            for name, layer in graph.layers.items()
            if layer.weights and layer.op != "Constant"
        }
    )
