"""What a model's layers cost and how large its BN scales are, for the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import count, ir
from tfslim.graph import keras as graph_keras

_BARS = 40


def of_models(original: Any, model: Any) -> dict[str, list[dict[str, Any]]]:
    """Returns "layers" and "gammas" as `report.html` takes them.

    Args:
        original: the Keras model before the steps; the same object without steps.
        model: the one that files are made of.
    """
    try:
        after = graph_keras.read(model)
        before = after if original is model else graph_keras.read(original)
    except errors.GraphError:  # The page does without.
        return {}
    graphs = {"before": before, "after": after} if original is not model else {}
    return {
        "layers": _layers(graphs or {"before": after}),
        "gammas": _gammas(graphs or {"": after}),
    }


def _layers(graphs: dict[str, ir.Graph]) -> list[dict[str, Any]]:
    """Returns the MACs of each layer that has any."""
    found: dict[str, dict[str, Any]] = {}
    for moment, graph in graphs.items():
        for node in count.count(graph).nodes:
            if node.macs:
                row = found.setdefault(node.name, {"name": node.name, "unit": "MACs"})
                row[moment] = row.get(moment, 0) + node.macs
    return list(found.values())


def _gammas(graphs: dict[str, ir.Graph]) -> list[dict[str, Any]]:
    """Returns histograms of all BatchNormalization scales, by their size."""
    sizes = {moment: _scales(graph) for moment, graph in graphs.items()}
    top = max((float(values.max(initial=0.0)) for values in sizes.values()), default=0)
    entries = []
    for moment, values in sizes.items():
        if values.size:
            counts, edges = np.histogram(values, _BARS, (0.0, top or 1.0))
            title = f"{values.size:,} BN scales |gamma|"
            entries.append(
                {
                    "name": f"{title}, {moment} the steps" if moment else title,
                    "edges": edges.tolist(),
                    "counts": counts.tolist(),
                }
            )
    return entries


def _scales(graph: ir.Graph) -> np.ndarray:
    found = [
        np.abs(layer.weights["gamma"]).reshape(-1)
        for layer in graph.layers.values()
        if layer.op == "BatchNormalization" and "gamma" in layer.weights
    ]
    return np.concatenate([np.zeros(0), *found])
