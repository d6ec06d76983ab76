"""Low rank for Keras models: read, factorize, write."""

from __future__ import annotations

from typing import Any

from tfslim import factorization
from tfslim.graph import keras


def factorize_model(
    model: Any, **options: Any
) -> tuple[Any, factorization.FactorizationReport]:
    """Returns a smaller model that computes nearly the same; fine-tune it.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        **options: those of `factorize.factorize_graph`: `method`, exactly one of
            `energy`, `ranks` and `target`, `divisor`, `ignore`.

    Returns:
        A plain model of the same Keras, not compiled, and the report.

    Raises:
        ConfigError: an option is wrong.
        GraphError: the model cannot be read.
    """
    graph, report = factorization.factorize_graph(keras.read(model), **options)
    return keras.write(graph, keras.keras_of(model)), report
