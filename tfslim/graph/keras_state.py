"""What layers learn in `adapt` and keep in neither their weights nor their config.

Vocabularies and bin boundaries become options in the graph, the same ones by which a
user gives them, so that a layer is rebuilt as it is in either Keras.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfslim import ops

_LOOKUPS = ops.keras("vocabulary")
# What `adapt` counted on the way stands in variables that no result depends on.
WITHOUT_WEIGHTS = _LOOKUPS | {"Discretization"}


def config(native: Any) -> dict[str, Any]:
    """Returns `get_config` of a layer of either Keras, with what it has learned."""
    op = type(native).__name__
    found = native.get_config()
    if op == "Discretization":
        return {**found, **_bins(native)}
    if op in _LOOKUPS:
        # The size follows from the vocabulary, the type from the kind of output.
        found = {
            k: v for k, v in found.items() if k not in ("dtype", "vocabulary_size")
        }
        return {**found, **_vocabulary(native)}
    return found


def _bins(native: Any) -> dict[str, Any]:
    boundaries = native.bin_boundaries
    if boundaries is None:  # Never adapted.
        return {}
    return {"bin_boundaries": np.asarray(boundaries).tolist(), "num_bins": None}


def _vocabulary(native: Any) -> dict[str, Any]:
    lookup = getattr(native, "_lookup_layer", native)
    tokens = list(native.get_vocabulary(include_special_tokens=False))
    if not tokens:
        return {}
    found = {"vocabulary": np.asarray(tokens).tolist()}
    if lookup.output_mode == "tf_idf":
        first = lookup._token_start_index()
        weights = np.asarray(lookup.idf_weights)[first : first + len(tokens)]
        found["idf_weights"] = weights.tolist()
    return found
