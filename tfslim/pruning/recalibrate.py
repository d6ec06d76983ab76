"""Batch normalization statistics for a model whose channels have changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import ir, keras_run
from tfslim.graph import keras as graph_keras
from tfslim.training import training


def recalibrate_batch_norm(model: Any, data: Iterable[Any]) -> Any:
    """Estimates the moving statistics of batch normalization again, without training.

    After a cut the mean and variance that reach a normalization are others. They are
    taken from the data in one pass in which every normalization uses its batch and
    dropout does nothing. Weights that are trained stay as they are.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        data: batches of inputs or `(inputs, targets)`, in all some hundred samples.

    Returns:
        The same model with new statistics, not compiled.

    Raises:
        DataError: there are no batches.
    """
    kind = graph_keras.keras_of(model)
    graph = graph_keras.read(model)
    norms = [n for n, layer in graph.layers.items() if layer.op == "BatchNormalization"]
    watched = keras_run.write(_watching(graph), kind)
    variables = graph_keras.variables(graph, watched)
    means: dict[str, list[ir.Array]] = {name: [] for name in norms}
    spreads: dict[str, list[ir.Array]] = {name: [] for name in norms}
    number = 0
    for batch in data:
        number += 1
        watched(training.inputs_of(batch))
        for name in norms:
            means[name].append(np.array(variables[name]["moving_mean"].numpy()))
            spreads[name].append(np.array(variables[name]["moving_variance"].numpy()))
    if not number:
        raise errors.DataError("Recalibration needs data: there was no batch.")
    changed = {
        name: _with_statistics(graph.layers[name], means[name], spreads=spreads[name])
        for name in norms
    }
    return graph_keras.write(graph.with_layers(changed), kind)


def _watching(graph: ir.Graph) -> ir.Graph:
    """Returns the graph whose normalizations keep the last batch's statistics."""
    norms = {
        name: dataclasses.replace(
            layer, config={**layer.config, "momentum": 0.0}, trainable=True
        )
        for name, layer in graph.layers.items()
        if layer.op == "BatchNormalization"
    }
    nodes = tuple(
        dataclasses.replace(node, kwargs={**node.kwargs, "training": True})
        if node.layer in norms
        else node
        for node in graph.nodes
    )
    # This `training` is nobody's habit of one Keras: it must hold in the other, too.
    return dataclasses.replace(graph.with_layers(norms), nodes=nodes, source="")


def _with_statistics(
    layer: ir.Layer, means: list[ir.Array], *, spreads: list[ir.Array]
) -> ir.Layer:
    mean = np.mean(means, axis=0, dtype=np.float64)
    # Law of total variance: within the batches and between them.
    variance = np.mean(spreads, axis=0, dtype=np.float64) + np.var(means, axis=0)
    weights = dict(layer.weights)
    weights["moving_mean"] = mean.astype(weights["moving_mean"].dtype)
    weights["moving_variance"] = variance.astype(weights["moving_variance"].dtype)
    return dataclasses.replace(layer, weights=weights)
