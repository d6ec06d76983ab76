"""What callbacks and optimizers need of a model, whichever Keras it belongs to."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, ops, registry
from tfslim.graph import keras as graph_keras

# Class of a layer -> its kernels, with the axes that count the output channels. A
# depthwise layer of Keras 3 calls its own `kernel`.
_KERNELS = {
    name: {**op.kernels, "kernel": next(iter(op.kernels.values()))}
    if "depthwise" in op.traits
    else op.kernels
    for name, op in ops.KERAS.items()
    if op.kernels
}


def layers_of(model: Any) -> list[Any]:
    """Returns the model's layers, those inside nested models and layers too.

    A shared layer comes once.
    """
    # Private, but of one name in both Keras and the only way into composite layers.
    found = model._flatten_layers(include_self=False)
    return list({id(layer): layer for layer in found}.values())


def is_a(layer: Any, *class_names: str) -> bool:
    """Tells whether a layer is of a class, or derives from one, by the class' name.

    By name, because the classes of both Keras have the same names and only one of the
    two packages need be imported.
    """
    return any(base.__name__ in class_names for base in type(layer).__mro__)


def choose_layers(
    model: Any, patterns: str | Sequence[str], *, kind: str, classes: Sequence[str]
) -> dict[str, Any]:
    """Returns the layers of some classes whose names fit one of the patterns.

    They come by name; where several layers of the model have one, by that of the models
    around them too: "encoder/norm".

    Args:
        model: a built model of tf_keras or Keras 3.
        patterns: names of either sort, or patterns such as "block_*", as in `fnmatch`.
        kind: what the layers are, for messages.
        classes: names of the classes.

    Raises:
        ConfigError: there is no such layer, or none that a pattern fits.
    """
    graph_keras.keras_of(model)
    wanted = [layer for layer in layers_of(model) if is_a(layer, *classes)]
    if not wanted:
        raise errors.ConfigError(
            f"The model '{model.name}' has no {kind}. It has to have one, and to be "
            "built: call it once on a batch if it has no weights yet."
        )
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    named = dict(zip(_names_of(wanted, model), wanted, strict=True))
    chosen: set[str] = set()
    for pattern in patterns:
        fitting = {
            name
            for name, layer in named.items()
            if fnmatch.filter((name, layer.name), pattern)
        }
        if not fitting:
            raise registry.unknown_name(kind, pattern, known=named)
        chosen |= fitting
    return {name: layer for name, layer in named.items() if name in chosen}


def _names_of(layers: Sequence[Any], model: Any) -> list[str]:
    paths: dict[int, str] = {}

    def walk(holder: Any, prefix: str) -> None:
        for layer in holder._flatten_layers(recursive=False, include_self=False):
            if id(layer) not in paths:
                paths[id(layer)] = f"{prefix}{layer.name}"
                walk(layer, f"{prefix}{layer.name}/")

    walk(model, "")
    times = collections.Counter(layer.name for layer in layers)
    return numbered(
        layer.name if times[layer.name] == 1 else paths[id(layer)] for layer in layers
    )


def numbered(names: Iterable[str]) -> list[str]:
    """Tells equal names apart: the second "a" becomes "a (2)"."""
    times: collections.Counter[str] = collections.Counter()
    found = []
    for name in names:
        times[name] += 1
        found.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return found


def kernels_of(
    model: Any, layers: str | Sequence[str] = "*"
) -> list[tuple[Any, tuple[int, ...]]]:
    """Returns the trainable kernels of a model and the axes of their output channels.

    Biases and normalizations are none of them.

    Args:
        model: a built model of tf_keras or Keras 3.
        layers: names or patterns of convolutions and dense layers.

    Raises:
        ConfigError: no trainable layer with a kernel fits.
    """
    chosen = choose_layers(
        model, layers, kind="layer with a kernel", classes=list(_KERNELS)
    )
    found: list[tuple[Any, tuple[int, ...]]] = []
    for layer in chosen.values():
        known = next(c.__name__ for c in type(layer).__mro__ if c.__name__ in _KERNELS)
        for name, axes in _KERNELS[known].items():
            kernel = getattr(layer, name, None)
            if kernel is not None and kernel.trainable and layer.trainable:
                ndim = len(kernel.shape)
                # Keras 3 knows a depthwise kernel by both names.
                if all(kernel is not other for other, _ in found):
                    found.append((kernel, tuple(axis % ndim for axis in axes)))
    if not found:
        raise errors.ConfigError(
            f"All kernels of '{model.name}' that fit {layers!r} are frozen or not yet "
            "built. Set trainable=True, or call the model once on a batch."
        )
    return found


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What is known of a kernel without its layer.

    Attributes:
        axes: those that count the output channels.
        scale: mean magnitude of its weights, or 1.
    """

    axes: tuple[int, ...]
    scale: float = 1.0


def kernels_by_name(
    model: Any, layers: str | Sequence[str], *, measured: bool
) -> dict[str, Kernel]:
    """Returns `kernels_of` by numbered short name, to find them in a copy of the model.

    Args:
        model: a built model.
        layers: names or patterns.
        measured: whether to measure the scales, which are 1 otherwise.

    Raises:
        ConfigError: no trainable kernel fits.
    """
    axes_of = {id(kernel): axes for kernel, axes in kernels_of(model, layers)}
    found: dict[str, Kernel] = {}
    # In the order that an optimizer is given them, and of all, whatever is chosen.
    variables = model.trainable_variables
    for name, variable in zip(short_names(variables), variables, strict=True):
        if id(variable) in axes_of:
            scale = 1.0
            if measured:
                scale = float(np.abs(tensor_variable(variable).numpy()).mean())
            found[name] = Kernel(axes_of[id(variable)], scale)
    return found


def tensor_variable(variable: Any) -> tf.Variable:
    """Returns the `tf.Variable` that a Keras 3 variable stands for, or itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def short_names(variables: Iterable[Any]) -> list[str]:
    """Returns variables' names with their layers', numbered: "conv1/kernel".

    What stands before, the names of models around the layer, changes when a model is
    copied or loaded.
    """
    paths = [str(getattr(each, "path", None) or each.name) for each in variables]
    return numbered("/".join(p.partition(":")[0].split("/")[-2:]) for p in paths)


def add_penalty(
    model: Any,
    variables: Sequence[Any],
    *,
    penalty: Callable[[Any], tf.Tensor],
    strength: tf.Variable,
) -> Callable[[], None]:
    """Adds a term for each variable to the losses of a model.

    It is part of `model.losses`, as a regularizer's is: both Keras add these to the
    loss they differentiate, divided by the number of replicas under a strategy. The
    step that `fit` runs is traced anew, so that it sees the term.

    Args:
        model: a compiled model of tf_keras or Keras 3.
        variables: trainable variables of the model.
        penalty: variable -> scalar tensor.
        strength: what each term is multiplied by.

    Returns:
        The function that takes the terms out again.
    """
    if graph_keras.keras_of(model) == "tf_keras":
        remove = _add_to_tf_keras(model, variables, penalty=penalty, strength=strength)
    else:
        remove = _add_to_keras3(variables, lambda each: strength * penalty(each))
    # `fit` has made its function already when the first callback runs.
    model.make_train_function(force=True)
    model.test_function = None

    def undo() -> None:
        remove()
        model.train_function = model.test_function = None

    return undo


def _add_to_tf_keras(
    model: Any,
    variables: Sequence[Any],
    *,
    penalty: Callable[[Any], tf.Tensor],
    strength: tf.Variable,
) -> Callable[[], None]:
    model.add_loss(lambda: strength * tf.add_n([penalty(each) for each in variables]))
    # There is no public way to take a loss back.
    term = model._callable_losses[-1]
    # A SavedModel written during the training has to reach the variable; as a variable
    # of the model's own it would become one of its weights.
    model.penalty_strength = tf.train.Checkpoint(value=strength)

    def remove() -> None:
        model._callable_losses.remove(term)
        del model.penalty_strength

    return remove


def _add_to_keras3(
    variables: Sequence[Any], penalty: Callable[[Any], tf.Tensor]
) -> Callable[[], None]:
    before = [variable.regularizer for variable in variables]
    for variable, own in zip(variables, before, strict=True):
        variable.regularizer = _sum_of(own, penalty)

    def restore() -> None:
        for variable, own in zip(variables, before, strict=True):
            variable.regularizer = own

    return restore


def _sum_of(
    own: Callable[[Any], Any] | None, more: Callable[[Any], tf.Tensor]
) -> Callable[[Any], Any]:
    return more if own is None else lambda variable: own(variable) + more(variable)
