"""Tables of words at the head of a model, split off, for the app to look up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, ops
from tfslim.graph import ir, tables
from tfslim.graph import keras as graph_keras

# What lists the tables, beside a file of words for each.
NAME = "tables.json"
# Options that say nothing of what a table gives.
_IDLE = ("dtype", "max_tokens", "ragged", "sparse", "vocabulary", "trainable")
_HASH = "FarmHash's Fingerprint64 of the word; with a salt, SipHash-2-4 with it as key"
_USES = {
    "StringLookup": "the number of a word is its line in the vocabulary, from 0; one "
    "that is not there has the line of oov_token, of several by the remainder of "
    "FarmHash's Fingerprint64",
    "IntegerLookup": "the index of a number is its line in the vocabulary, from 0; one "
    "that is not there has the line of oov_token, of several by its remainder",
    "TextVectorization": "standardize the text, split it, join ngrams by a blank, and "
    "take each token's line in the vocabulary, from 0, as its number (1 if it is not "
    "there); in the output_mode int cut or fill up with 0 to output_sequence_length. "
    "lower_and_strip_punctuation: lower case, without any of "
    "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'",
    "Hashing": f"the remainder by num_bins of {_HASH}; with a mask_value, that is 0 "
    "and all others are the remainder by num_bins - 1, plus 1",
    "HashedCrossing": "the remainder by num_bins of a hash of both words together, as "
    "tf.sparse.cross_hashed has it",
}


@dataclasses.dataclass(frozen=True)
class TableSplit:
    """What was split off a model, and what an app does in its place.

    Attributes:
        head: a Keras model from the whole model's inputs to those of the rest.
        made: input of the rest -> the layer that gave it.
        files: name -> content, to be written beside the `.tflite`: `tables.json` says
            what each table does, and names its vocabulary, one word a line.
        entry: the same in short for the file's metadata.
    """

    head: Any
    made: Mapping[str, str]
    files: Mapping[str, bytes]
    entry: tuple[Mapping[str, Any], ...]

    @property
    def note(self) -> str:
        """What the user should know, in one line."""
        layers = ", ".join(f"'{row['layer']}' ({row['op']})" for row in self.entry)
        inputs = ", ".join(f"'{name}'" for name in self.made)
        return (
            "split off, as a .tflite holds no tables of words: "
            f"{layers or 'what reads texts'}; the file takes what that gives as "
            f"{inputs}, and {', '.join(self.files)} tell how the app makes it"
        )

    def apply(self, x: Any) -> Any:
        """Returns what the head makes of the whole model's inputs, as numpy arrays.

        Args:
            x: a batch: an array, or several as a tuple, list or dict.
        """
        return tf.nest.map_structure(np.asarray, self.traced(_as_tensors(x)))

    def traced(self, x: Any) -> Any:
        """Returns the same of tensors, in `tf.data`, too."""
        made = self.head(list(x) if isinstance(x, tuple) else x)
        return tuple(made) if isinstance(made, list | tuple) else made


def _as_tensors(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {key: _as_tensors(value) for key, value in x.items()}
    if isinstance(x, list | tuple) and x and not isinstance(x[0], str | bytes):
        return [_as_tensors(value) for value in x]
    array = np.asarray(x)
    return tf.constant(array.tolist() if array.dtype.kind in "OUS" else array)


def has_tables(model: Any) -> bool:
    """Tells whether a model has inputs of texts, or layers that look up or hash."""
    dtypes = [getattr(t, "dtype", None) for t in getattr(model, "inputs", None) or ()]
    if any(tf.as_dtype(dtype) == tf.string for dtype in dtypes if dtype is not None):
        return True
    known = ops.keras("table")
    return any(type(layer).__name__ in known for layer in model._flatten_layers())


def split_tables(model: Any) -> tuple[Any, TableSplit | None]:
    """Splits the layers that look up words off the head of a model.

    These are StringLookup, IntegerLookup, TextVectorization, Hashing and
    HashedCrossing, and all that reads texts. No kernel of LiteRT does what they do, so
    an app does; the rest is what is converted. `convert_model` and `export_model` do
    this by themselves.

    Args:
        model: of either Keras.

    Returns:
        The rest, a plain model of the same Keras whose inputs are what the tables
        give, and what was split off; of a model without tables itself and None.

    Raises:
        ConversionError: a table stands elsewhere than at the head, or gives sparse or
            ragged tensors.
        GraphError: the model cannot be read.
    """
    if not has_tables(model):
        return model, None
    kind = graph_keras.keras_of(model)
    # Of Keras 3 only TensorFlow computes texts.
    texts = kind if graph_keras.backend_of(model) == "tensorflow" else "tf_keras"
    graph = graph_keras.read(model)
    for layer in graph.layers.values():
        _require_dense(layer)
    done = tables.split(graph, graph_keras.dtypes(graph, texts))
    if done is None:
        return model, None
    head = graph_keras.write(done.head, texts)
    files: dict[str, bytes] = {}
    entry = []
    for name in done.tables:
        native = next(layer for layer in head.layers if layer.name == name)
        entry.append(_describe(done.head.layers[name], native, files=files))
    rows = [{**row, "how": _USES[str(row["op"])]} for row in entry]
    content = {"inputs": dict(done.made), "tables": rows}
    files = {NAME: _json(content), **files}
    return graph_keras.write(done.rest, kind), TableSplit(
        head, done.made, files, tuple(entry)
    )


def _require_dense(layer: ir.Layer) -> None:
    for option in ("sparse", "ragged"):
        if layer.op in ops.keras("table") and layer.config.get(option):
            raise errors.ConversionError(
                f"Layer '{layer.name}' ({layer.op}) gives {option} tensors, which a "
                f".tflite does not take. Build it with {option}=False."
            )


def _describe(
    layer: ir.Layer, native: Any, *, files: dict[str, bytes]
) -> dict[str, Any]:
    """Returns what a table does, and puts its vocabulary into `files`."""
    row: dict[str, Any] = {"layer": layer.name, "op": layer.op}
    if layer.op in ops.keras("vocabulary"):
        words = [
            each.item() if isinstance(each, np.generic) else each
            for each in native.get_vocabulary()
        ]
        lines = [str(word) for word in words]
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in layer.name)
        if any("\n" in line or "\r" in line for line in lines):
            name, content = f"{stem}.vocabulary.json", _json(words)
        else:
            name = f"{stem}.vocabulary.txt"
            content = "".join(f"{line}\n" for line in lines).encode()
        files[name] = content
        row |= {"vocabulary": name, "words": len(words)}
    options = {key: value for key, value in layer.config.items() if key not in _IDLE}
    row["options"] = {
        key: value if _is_plain(value) else getattr(value, "__name__", str(value))
        for key, value in options.items()
        if value is not None
    }
    return row


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
