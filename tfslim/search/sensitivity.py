"""What each group's channels are worth: the outputs' error with them masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib
from tfslim.pruning import surgery
from tfslim.search.space import Space, keep_one

OnStep = Callable[[str], None]

# A group without which the outputs are this wrong is no worse for being worse.
_MOST = 2.0


def measure_damage(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    *,
    space: Space,
    inputs: Sequence[np.ndarray],
    kind: graph_keras.KerasName,
    divisor: int,
    on_step: OnStep = lambda text: None,
) -> np.ndarray:
    """Masks each group alone at each ratio and runs the model, without training.

    Args:
        channels: of the model's graph.
        scores: which channels go first.
        space: groups and ratios.
        inputs: one array for each input of the model, some hundred examples.
        kind: which Keras runs it.
        divisor: as the space was built with.
        on_step: called with a line of text before each group.

    Returns:
        float array [groups, ratios]: squared error of the outputs over their squares,
        at most 2, never falling with the ratio.
    """
    graph = channels.graph
    runner = _Runner(graph, kind, inputs=inputs)
    truth = runner(graph)
    power = sum(float(np.square(t).sum()) for t in truth) or 1.0
    found = np.zeros((len(space.groups), len(space.ratios)))
    for row, name in enumerate(space.groups):
        on_step(f"sensitivity of group {row + 1} of {len(space.groups)}")
        for column, ratio in enumerate(space.ratios):
            keep = keep_one(channels, scores, group=name, ratio=ratio, divisor=divisor)
            masked = surgery.mask_channels(graph, keep, channels=channels)
            outputs = runner(masked)
            pairs = zip(truth, outputs, strict=True)
            error = sum(float(np.square(t - o).sum()) for t, o in pairs)
            found[row, column] = min(error / power, _MOST)
    keras_run.forget_kernels()
    return np.maximum.accumulate(found, axis=1)


class _Runner:
    """One model whose weights are set for each graph of the same layers."""

    def __init__(
        self,
        graph: ir.Graph,
        kind: graph_keras.KerasName,
        *,
        inputs: Sequence[np.ndarray],
    ):
        self._graph, self._kind = graph, kind
        self._inputs = inputs[0] if len(inputs) == 1 else list(inputs)
        self._model = keras_run.write(graph, kind)
        self._call = keras_run.compiled(self._model)

    def __call__(self, graph: ir.Graph) -> list[np.ndarray]:
        changed = {
            name: layer
            for name, layer in graph.layers.items()
            if layer is not self._graph.layers.get(name)
        }
        is_same = graph.nodes == self._graph.nodes
        if not is_same or not all(self._set(*item) for item in changed.items()):
            call = keras_run.compiled(keras_run.write(graph, self._kind))
            return _arrays(call(self._inputs))
        outputs = _arrays(self._call(self._inputs))
        for name in changed:
            self._set(name, self._graph.layers[name])
        return outputs

    def _set(self, name: str, layer: ir.Layer) -> bool:
        """Sets a layer's weights; False where they cannot be told apart."""
        try:
            variables = self._model.get_layer(name).weights
        except ValueError:
            return False
        by_name = {_short(variable): variable for variable in variables}
        if set(by_name) != set(layer.weights):
            return False
        for key, value in layer.weights.items():
            if tuple(by_name[key].shape) != value.shape:
                return False
            by_name[key].assign(value)
        return True


def _short(variable: Any) -> str:
    return str(variable.name).split("/")[-1].split(":")[0]


def _arrays(outputs: Any) -> list[np.ndarray]:
    if isinstance(outputs, Mapping):
        outputs = [outputs[name] for name in sorted(outputs)]
    if not isinstance(outputs, list | tuple):
        outputs = [outputs]
    return [np.asarray(output, np.float64) for output in outputs]
