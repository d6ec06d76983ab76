"""From any Keras model to a functional one, whose layers can be read."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.loading import budget

# Same layers, same order of operations: only the runtime's own rounding is left.
_MAX_RELATIVE_ERROR = 1e-5


def to_functional(
    model: Any, *, source: str, input_shape: Sequence[int] | None = None
) -> Any:
    """Returns `model` as a functional or Sequential model with known inputs.

    A subclassed model is converted by running its `call` once on symbolic inputs,
    which works where `call` is a plain chain of layers and operations; the result
    shares its layers and is compared with it on random inputs.

    Args:
        model: a model of tf_keras or Keras 3.
        source: where it comes from, for messages.
        input_shape: [height, width, channels] without the batch, for a model that
            leaves it open or is to have another one.

    Raises:
        ConfigError: the input shape is unknown or does not fit, or the model cannot
            be written as a functional one; says what to do.
    """
    keras = importlib.import_module(graph_keras.keras_of(model))
    is_own = type(model).__module__.split(".")[0] == keras.__name__
    known = getattr(model, "inputs", None) if is_own else None
    if is_own and not known and input_shape:
        with budget.without_file(keras, source):
            model.build((None, *input_shape))
        known = model.inputs
    elif known and input_shape:
        return _with_shape(model, tuple(input_shape), source=source, keras=keras)
    if known:
        return model
    inputs = _symbolic_inputs(model, input_shape, source=source, keras=keras)
    try:
        functional = keras.Model(inputs, model.call(inputs), name=model.name)
    except Exception as error:
        raise _not_functional(
            model, source, reason=errors.first_line(error).rstrip(".")
        ) from error
    if len(functional.weights) != len(model.weights):
        raise _not_functional(
            model,
            source,
            reason=f"{len(model.weights)} weights, of which its layers hold "
            f"{len(functional.weights)}",
        )
    _require_equal(model, functional, inputs=inputs, source=source)
    return functional


def _with_shape(model: Any, shape: tuple[int, ...], *, source: str, keras: Any) -> Any:
    """Returns a model with another input shape and the same weights."""
    if len(model.inputs) == 1 and tuple(model.inputs[0].shape[1:]) == shape:
        return model
    found = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(found) != 1:
        raise errors.ConfigError(
            f"'{source}' has {len(found)} inputs of shapes {found}; input_shape is for "
            "models with one."
        )
    name = model.inputs[0].name.split(":")[0]
    inputs = keras.Input(shape, dtype=model.inputs[0].dtype, name=name)
    with errors.raised_as(
        errors.ConfigError,
        lambda cause: (
            f"'{source}' takes {found[0]} and cannot take input_shape {shape}: {cause}"
        ),
    ):
        changed = keras.models.clone_model(model, input_tensors=inputs)
        changed.set_weights(model.get_weights())
        return changed


def _symbolic_inputs(
    model: Any, input_shape: Sequence[int] | None, *, source: str, keras: Any
) -> Any:
    """Returns the inputs to call a subclassed model on: one, a list or a dict."""
    if input_shape:
        return keras.Input(tuple(input_shape), name="input")
    shapes = (model.get_build_config() or {}).get("input_shape")
    if isinstance(shapes, dict):
        return {
            name: keras.Input(tuple(shape[1:]), name=name)
            for name, shape in shapes.items()
        }
    if not shapes:
        raise errors.ConfigError(
            f"'{source}' gives a model, '{model.name}', without a known input. Give "
            "its shape, e.g. input_shape=(224, 224, 3) "
            "(--config.model.input_shape=224,224,3), or call it once on an array."
        )
    if isinstance(shapes[0], list | tuple):
        return [keras.Input(tuple(shape[1:])) for shape in shapes]
    return keras.Input(tuple(shapes[1:]), name="input")


def _not_functional(model: Any, source: str, *, reason: str) -> errors.ConfigError:
    return errors.ConfigError(
        f"'{source}' gives the subclassed model '{type(model).__name__}', whose call() "
        f"is no plain chain of layers ({reason}). Export its functional core: write "
        "the forward pass as inputs = Input(shape); Model(inputs, outputs)."
    )


def _require_equal(model: Any, functional: Any, *, inputs: Any, source: str) -> None:
    random = np.random.default_rng(0)

    def array(tensor: Any) -> np.ndarray:
        # An open size may be anything: the model is the same at each.
        shape = [8 if size is None else size for size in tensor.shape[1:]]
        return random.normal(size=(2, *shape)).astype(np.float32)

    given = ir.map_leaves(array, inputs)
    for wanted, got in zip(
        _arrays(model(given, training=False)),
        _arrays(functional(given, training=False)),
        strict=True,
    ):
        scale = float(np.max(np.abs(wanted))) or 1.0
        if float(np.max(np.abs(wanted - got))) > _MAX_RELATIVE_ERROR * scale:
            raise _not_functional(
                model, source, reason="its outputs depend on more than that"
            )


def _arrays(outputs: Any) -> list[np.ndarray]:
    if isinstance(outputs, dict):
        outputs = [outputs[name] for name in sorted(outputs)]
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(output, np.float32) for output in outputs]
