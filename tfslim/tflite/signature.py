"""Names for a file's inputs and outputs, by which an app calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfslim import errors

KEY = "serving_default"


def set_signature(flat: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Names the main graph's ends, in their tensors and in signature `KEY`.

    Args:
        flat: `schema.ModelT`, changed in place.
        inputs: one name an input, in the file's order.
        outputs: one name an output, in the file's order.

    Raises:
        ConversionError: the file has another number of inputs or outputs.
    """
    graph = flat.subgraphs[0]
    maps = []
    for kind, tensors, names in (
        ("inputs", graph.inputs, inputs),
        ("outputs", graph.outputs, outputs),
    ):
        if len(tensors) != len(names):
            raise errors.ConversionError(
                f"The file has {len(tensors)} {kind}, the model {len(names)}: "
                f"{', '.join(names)}. Two of them may be the same tensor."
            )
        rows = []
        for tensor, name in zip(tensors, names, strict=True):
            graph.tensors[tensor].name = name.encode()
            rows.append(schema.TensorMapT(name=name.encode(), tensorIndex=int(tensor)))
        maps.append(rows)
    flat.signatureDefs = [
        schema.SignatureDefT(
            inputs=maps[0], outputs=maps[1], signatureKey=KEY.encode(), subgraphIndex=0
        )
    ]
