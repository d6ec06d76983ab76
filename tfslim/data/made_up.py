"""Inputs from a seed for models that take no images: for trials without any file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfslim import data, tflite

_EXAMPLES = 500
# Ops that take rows of a table by number, and the positions of table and numbers.
_LOOKUPS = {"GATHER": (0, 1), "EMBEDDING_LOOKUP": (1, 0)}
_NOTE = (
    "The inputs are made up, by the shapes that the file names: real data has other "
    "ranges. Calibrate with your own before you rely on the file."
)


def examples(
    content: tflite.TfliteModel, sizes: Mapping[str, tuple[int, ...]], *, seed: int
) -> data.Dataset:
    """Makes up inputs of a file: normal numbers, or whole ones that its tables have.

    Args:
        content: the file.
        sizes: input name -> shape without the batch.
        seed: the same seed gives the same inputs.
    """
    random = np.random.default_rng(seed)
    found = {
        name: _values(content, content.input_names[name], size=size, random=random)
        for name, size in sizes.items()
    }
    made = data.NamedExamples(found, data.no_targets(_EXAMPLES))
    options = data.LoadOptions(seed=seed)
    return data.unlabelled("synthetic", {"train": made}, options=options, notes=[_NOTE])


def _values(
    content: tflite.TfliteModel,
    index: int,
    *,
    size: tuple[int, ...],
    random: np.random.Generator,
) -> np.ndarray:
    shape = (_EXAMPLES, *size)
    dtype = np.dtype(content.tensors[index].dtype)
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype)
    return random.integers(0, _rows(content.graphs[0], index), shape).astype(dtype)


def _rows(graph: tflite.Graph, index: int) -> int:
    """Returns how many rows the table has that an input chooses from; 2 if none."""
    for op in graph.consumers.get(index, []):
        if op.name in _LOOKUPS:
            table, numbers = _LOOKUPS[op.name]
            if op.inputs[numbers] == index:
                return graph.tensors[op.inputs[table]].shape[0]
        if op.name in ("CAST", "RESHAPE"):
            return _rows(graph, op.outputs[0])
    return 2
