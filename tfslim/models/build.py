"""From a name and options to a Keras model."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, cast

import tf_keras

from tfslim import errors
from tfslim.models import registry
from tfslim.models import weights as weights_lib
from tfslim.registry import unknown_name

# Options of `build_model` itself, not of one architecture.
_COMMON = ("input_shape", "batch_size", "weights", "model_name")


def build_model(
    name: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    batch_size: int | None = None,
    weights: str | None = None,
    model_name: str | None = None,
    **options: Any,
) -> tf_keras.Model:
    """Builds model `name` from plain Keras layers.

    Args:
        name: a key of `tfslim.models.registry.MODELS`.
        input_shape: (height, width, channels) without the batch; None: the model's
            own default.
        batch_size: fixed batch size of the input; None: any.
        weights: None starts from random weights; "imagenet" takes those of
            `tf_keras.applications` (downloaded once, then cached by Keras); else the
            path of an `.npz` in `get_weights()` order, or of an `.h5` or `.keras`
            file. Where only the number of classes differs, the classifier layer
            keeps its random start, ready to be fine-tuned.
        model_name: name of the Keras model; None: `name`.
        **options: the architecture's own, e.g. `num_classes`, `alpha`,
            `classifier_activation` (None for logits); see its function.

    Returns:
        A functional `tf_keras.Model` with input float32 [batch, *input_shape]. It
        saves to `.keras` and loads without tfslim.

    Raises:
        ConfigError: unknown name or option, a value or input shape that the
            architecture does not allow, or weights that do not fit it.
        DataError: the weights cannot be downloaded or read.

    Example:
        >>> build_model("mobilenet_v2", alpha=0.35, input_shape=(96, 96, 3),
        ...             num_classes=5).output_shape
        (None, 5)
    """
    spec = registry.model_spec(
        name, input_shape=input_shape, weights=weights, **options
    )
    builder = _builder(spec)
    _check_options(name, builder, options=options)
    if batch_size is not None and not _is_count(batch_size):
        raise errors.ConfigError(
            f"batch_size must be a positive whole number or None, got {batch_size!r}."
        )
    inputs = tf_keras.Input(spec.input_shape, batch_size=batch_size, name="input")
    outputs = builder(inputs, **options)
    model = tf_keras.Model(inputs, outputs, name=model_name or name)
    if weights is not None:
        weights_lib.load(model, weights, spec=spec, options=options)
    return model


def takes_option(name: str, option: str) -> bool:
    """Tells whether `build_model` takes `option` for model `name`.

    Raises:
        ConfigError: no such model.
    """
    return option in _known_options(_builder(registry.model_spec(name)))


def _builder(spec: registry.ModelSpec) -> Callable[..., Any]:
    module, function = spec.builder.split(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module), function))


def _known_options(builder: Callable[..., Any]) -> list[str]:
    _inputs, *own = inspect.signature(builder).parameters
    return [*own, *_COMMON]


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not _is_flag(value) and int(value) >= 1


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, Real) and not _is_flag(value)
    return is_number and 0 < float(value) < float("inf")


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and not _is_flag(value) and 0 <= float(value) < 1


def _is_activation(value: Any) -> bool:
    try:
        tf_keras.activations.get(value)
    except (TypeError, ValueError):
        return False
    return True


# Options that mean the same in every architecture: their test, and what passes it.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alpha": (_is_positive, "a positive number; 0.5 halves the channels"),
    "num_classes": (_is_count, "a positive whole number"),
    "num_outputs": (_is_count, "a positive whole number"),
    "dropout_rate": (_is_rate, "a number in [0, 1); 0 drops nothing"),
    "classifier_activation": (
        _is_activation,
        "the name of a Keras activation, e.g. 'softmax', or None for logits",
    ),
    "batch_norm": (_is_flag, "True or False"),
    "minimalistic": (_is_flag, "True or False"),
    "include_preprocessing": (_is_flag, "True or False"),
}


def _check_options(
    name: str, builder: Callable[..., Any], *, options: dict[str, Any]
) -> None:
    own = inspect.signature(builder).parameters
    known = _known_options(builder)
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of {name}", option, known=known)
        if value is None and own[option].default is None:
            continue
        passes, expected = _CHECKS.get(option, (None, ""))
        if passes is not None and not passes(value):
            raise errors.ConfigError(
                f"{option} of {name} must be {expected}, got {value!r}."
            )
