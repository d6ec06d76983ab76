"""Weights that are no numbers, found before they spoil what is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfslim import errors


def require_finite(model: Any) -> None:
    """Raises for a weight that is NaN or infinite.

    Args:
        model: of either Keras.

    Raises:
        ConversionError: there is one; names its layer.
    """
    for name, weight in _weights(model):
        values = np.asarray(weight)
        if values.dtype.kind in "iub" or np.isfinite(values).all():
            continue
        bad = values[~np.isfinite(values)]
        raise errors.ConversionError(
            f"Layer '{name}' has {bad.size} weights that are not finite "
            f"({float(bad[0])}), of {values.size} in '{weight.name}'. Its training "
            "diverged (lower the learning rate) or its file is damaged."
        )


def largest_weight(model: Any) -> tuple[str, float]:
    """Returns the layer with the largest weight, and its absolute value."""
    found = [
        (name, float(np.abs(values).max()))
        for name, weight in _weights(model)
        if (values := np.asarray(weight)).size and values.dtype.kind not in "iub"
    ]
    return max(found, key=lambda pair: pair[1], default=("", 0.0))


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields layer names and weights; nested models by their own layers."""
    for layer in getattr(model, "layers", ()):
        if getattr(layer, "layers", None):
            yield from _weights(layer)
        else:
            for weight in layer.weights:
                if _is_numeric(weight):
                    yield layer.name, weight


def _is_numeric(weight: Any) -> bool:
    dtype = str(getattr(weight.dtype, "name", weight.dtype))
    return dtype not in ("string", "resource")
