"""SavedModel folders that tf.keras wrote."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2

from tfslim import errors, quiet
from tfslim.loading import safety
from tfslim.loading.message import first_line

_FILE = "saved_model.pb"
_METADATA = "keras_metadata.pb"
_ROOT = 0
# What tf.keras calls the models it saves.
_MODELS = ("_tf_keras_model", "_tf_keras_network", "_tf_keras_sequential")


def load(path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool) -> Any:
    """Opens the Keras model in a SavedModel folder with tf_keras.

    Raises:
        ConfigError: there is no Keras model in it, or it needs code.
        DataError: it is damaged.
    """
    tf_keras = importlib.import_module("tf_keras")
    for config in _configs(path):
        custom_objects = safety.check(
            config,
            source=str(path),
            keras=tf_keras,
            custom_objects=custom_objects,
            allow_unsafe=allow_unsafe,
        )
    try:
        with quiet.captured_stderr(), safety.keras2_scope(allow_unsafe):
            model = tf_keras.models.load_model(
                str(path), custom_objects=dict(custom_objects), compile=False
            )
            if not allow_unsafe:
                # Without the optimizer and the graphs that were restored with it.
                plain = type(model).from_config(model.get_config(), custom_objects)
                plain.set_weights(model.get_weights())
                model = plain
    except Exception as error:
        raise errors.DataError(
            f"SavedModel '{path}' cannot be opened: {first_line(error)}"
        ) from error
    return model


def _configs(path: Path) -> Iterator[Any]:
    """Yields the config of every Keras object in the folder, the model's first."""
    found = False
    for node, identifier, text in _metadata(path):
        if node == _ROOT and identifier in _MODELS:
            found = True
        if not found:
            break
        if identifier.startswith("_tf_keras") and identifier != "_tf_keras_metric":
            yield json.loads(text)
    if not found:
        raise errors.ConfigError(
            f"SavedModel '{path}' holds functions but no Keras model (model.export() "
            "of Keras 3 and tf.saved_model.save write such ones): there are no layers "
            "to slim. Save the model itself, model.save('model.keras'), and give that."
        )


def _metadata(path: Path) -> list[tuple[int, str, str]]:
    """Returns (node, identifier, JSON) of the Keras objects, sorted by node."""
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / _FILE).read_bytes())
        if (path / _METADATA).exists():
            metadata = importlib.import_module("tf_keras.protobuf.saved_metadata_pb2")
            nodes = metadata.SavedMetadata()
            nodes.ParseFromString((path / _METADATA).read_bytes())
            found = [(n.node_id, n.identifier, n.metadata) for n in nodes.nodes]
        else:
            # TensorFlow before 2.5 kept it in the graph of objects.
            nodes = saved.meta_graphs[0].object_graph_def.nodes
            objects = [(index, n.user_object) for index, n in enumerate(nodes)]
            found = [(i, o.identifier, o.metadata) for i, o in objects if o.metadata]
    except (message.DecodeError, IndexError) as error:
        raise errors.DataError(
            f"'{path / _FILE}' is damaged: {first_line(error)}. Save or copy it again."
        ) from error
    return sorted(found)
