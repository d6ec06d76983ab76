"""What a method hands out while its model is trained, and takes back after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from tfslim import checks, errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras

# Layer -> weight -> value.
Weights = Mapping[str, Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """What a method did, and what it skipped.

    Attributes:
        method: what was done, in words.
        layers: treated layer -> what its kernel is now, in words.
        skipped: layer with a kernel -> why it was not treated.
        notes: what else the user should know.
    """

    method: str
    layers: Mapping[str, str]
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_alone = checks.renamed("left_alone", "skipped")

    def __str__(self) -> str:
        """Returns one line a layer."""
        return "\n".join(
            [
                f"{self.method}: {len(self.layers)} layers",
                *(f"  {name}: {what}" for name, what in self.layers.items()),
                *(f"  {name}: skipped: {w}" for name, w in self.skipped.items()),
                *(f"  {note}" for note in self.notes),
            ]
        )


class Wrapped:
    """A wrapped model while it is trained: the context that a method returns.

    Attributes:
        model: the tf_keras model to compile and fit, a copy: the model that was
            passed in is not touched.
        callbacks: what `fit` must be given.
    """

    def __init__(
        self,
        model: tf_keras.Model,
        finish: Callable[[], tuple[Any, SparsityReport]],
        *,
        callbacks: Sequence[tf_keras.callbacks.Callback] = (),
        after_step: Callable[[], None] = lambda: None,
    ):
        """Takes what the method needs; `finish` makes result and report."""
        self.model = model
        self.callbacks = list(callbacks)
        self._finish = finish
        self._after_step = after_step
        self._finished: tuple[Any, SparsityReport] | None = None

    def __enter__(self) -> Wrapped:
        """Returns itself, to be trained."""
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        """Makes the result, unless the training failed."""
        if error is None:
            self._finished = self._finish()

    def step(self) -> None:
        """Call it after every optimizer step of a training loop of your own."""
        self._after_step()

    @property
    def result(self) -> Any:
        """The plain model, without wrappers; known when the context has been left."""
        return self._known()[0]

    @property
    def report(self) -> SparsityReport:
        """What was done; known when the context has been left."""
        return self._known()[1]

    def _known(self) -> tuple[Any, SparsityReport]:
        if self._finished is None:
            raise errors.ConfigError(
                "The result is made when the `with` block ends: ask for it after."
            )
        return self._finished


def with_weights(graph: ir.Graph, weights: Weights, *, keras: Any) -> Any:
    """Builds the model of a graph with other weights.

    Args:
        graph: as it was read from the user's model.
        weights: layer -> weight -> value, for those layers that have some.
        keras: which Keras the model is for.
    """
    changed = {
        name: dataclasses.replace(
            layer, weights={key: weights[name][key] for key in layer.weights}
        )
        for name, layer in graph.layers.items()
        if name in weights
    }
    return graph_keras.write(graph.with_layers(changed), keras)


def values_of(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Reads variables: layer -> weight -> array."""
    return {
        layer: {name: variable.numpy() for name, variable in weights.items()}
        for layer, weights in variables.items()
    }


def hold_zeros(variable: Any) -> None:
    """Lets the optimizer keep the zeros of a kernel, by a constraint.

    For layers that a method leaves alone, or wraps without a mask, after pruning.
    """
    kept, before = variable.numpy() != 0, variable.constraint
    if kept.all():
        return
    # tf_keras takes a constraint only where it makes the variable. Under a strategy
    # that is one variable a replica.
    for part in getattr(variable, "values", (variable,)):
        part._constraint = lambda value: (before(value) if before else value) * kept
