"""A multilayer perceptron, for regression or classification."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from tf_keras import layers

from tfslim import errors
from tfslim.models import blocks
from tfslim.models.blocks import Tensor


def mlp(
    inputs: Tensor,
    *,
    num_outputs: int | None = None,
    num_classes: int | None = None,
    classifier_activation: str | None = "softmax",
    hidden: Sequence[int] = (1000,),
) -> Tensor:
    """Builds dense layers with ReLU, and a linear output or a classifier.

    With its defaults this is the toy of the source, section 2.2.2: two inputs, 1000
    hidden units, one output, to learn y = i1 + i2.
    Source: Çallı, "Optimizing Neural Networks for Mobile Devices", Radboud
    University, 2017.

    Args:
        inputs: [batch, ...], flattened if of more than two axes.
        num_outputs: width of the linear output of a regression; None: 1.
        num_classes: width of the output of a classifier; None: a regression.
        classifier_activation: activation of a classifier; None gives logits.
        hidden: units of each hidden layer; () for a linear model.

    Returns:
        [batch, num_classes or num_outputs].
    """
    if num_outputs is not None and num_classes is not None:
        raise errors.ConfigError(
            f"mlp takes num_classes (got {num_classes}, a classifier) or num_outputs "
            f"(got {num_outputs}, a regression), not both."
        )
    if not isinstance(hidden, Sequence) or not all(
        isinstance(units, Integral) and units >= 1 for units in hidden
    ):
        raise errors.ConfigError(
            "hidden of mlp must be positive whole numbers, one per hidden layer, "
            f"e.g. (1000,), got {hidden!r}."
        )
    x = inputs
    if len(inputs.shape) > 2:
        x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(hidden, start=1):
        x = layers.Dense(units, activation="relu", name=f"hidden{index}")(x)
    if num_classes is not None:
        return blocks.classifier(x, num_classes, activation=classifier_activation)
    return layers.Dense(num_outputs or 1, name="output")(x)
