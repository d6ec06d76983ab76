"""SavedModel folders that tf.keras wrote.

TensorFlow runs functions of such a folder as soon as it opens it. So the model is
built anew from its config, and its variables are read as from a checkpoint: nothing in
the folder is run.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2

from tfslim import containers, errors, quiet
from tfslim.loading import budget, build, safety, watch
from tfslim.loading.message import first_line

_FILE = "saved_model.pb"
_METADATA = "keras_metadata.pb"
_VARIABLES = "variables"
_ROOT = 0
# What tf.keras calls the models it saves.
_MODELS = ("_tf_keras_model", "_tf_keras_network", "_tf_keras_sequential")


class _Array(NamedTuple):
    shape: tuple[int, ...]


def load(path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool) -> Any:
    """Opens the Keras model in a SavedModel folder with tf_keras.

    Raises:
        ConfigError: there is no Keras model in it, or it needs code.
        DataError: it is damaged.
    """
    tf_keras = importlib.import_module("tf_keras")
    configs = _configs(path, with_layers=allow_unsafe)
    check = safety.check(
        configs,
        source=str(path),
        keras=tf_keras,
        custom_objects=custom_objects,
        allow_unsafe=allow_unsafe,
        told=[_FUNCTIONS],
    )
    try:
        with quiet.captured_stderr():
            if allow_unsafe:
                return _load_trusted(path, tf_keras, check.objects)
            with watch.watched(configs[0], path, str(path)):
                return _build(path, configs[0], check)
    except errors.TfslimError:
        raise
    except Exception as error:
        raise errors.DataError(
            f"SavedModel '{path}' cannot be opened: {first_line(error)}"
        ) from error


_FUNCTIONS = "functions of its own, which TensorFlow runs"


def _load_trusted(path: Path, tf_keras: Any, objects: Mapping[str, Any]) -> Any:
    library = importlib.import_module("tf_keras.src.saving.serialization_lib")
    with library.SafeModeScope(safe_mode=False):
        return tf_keras.models.load_model(
            str(path), custom_objects=objects, compile=False
        )


def _build(path: Path, config: Any, check: safety.Check) -> Any:
    """Builds the model from its config and reads its variables."""
    tensorflow = importlib.import_module("tensorflow")
    with containers.private_folder() as folder:
        _copy_variables(path, folder)
        prefix = str(folder / _VARIABLES)
        shapes = _shapes(tensorflow.train.load_checkpoint(prefix), folder, path)
        with budget.limited(check, shapes, str(path)):
            model = build.from_legacy(check.keras, config, check.objects)
        status = tensorflow.train.Checkpoint(root=model).read(prefix)
        status.assert_existing_objects_matched()
        build.finish(model)
        return model


def _copy_variables(path: Path, folder: Path) -> None:
    """Copies the variables; a link among them could lead to any file."""
    found = sorted((path / _VARIABLES).glob(f"{_VARIABLES}.*"))
    for file in (path / _VARIABLES, *found):
        _require_own(file)
    for file in found:
        containers.copy_file(file, folder / file.name)


def _require_own(file: Path) -> None:
    if file.is_symlink():
        raise errors.DataError(
            f"'{file}' is a link to '{file.readlink()}'. A SavedModel holds all that "
            "is its own; copy it with `cp -rL` if you trust where the link leads."
        )
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise errors.DataError(f"'{file}' is no plain file. Save or copy it again.")


def _shapes(reader: Any, folder: Path, path: Path) -> list[_Array]:
    """Returns the shapes of the variables, which the shards must be able to hold."""
    types = reader.get_variable_to_dtype_map()
    shapes = {
        name: _Array(tuple(shape))
        for name, shape in reader.get_variable_to_shape_map().items()
        if types[name].is_floating or types[name].is_integer or types[name].is_bool
    }
    declared = sum(
        math.prod(array.shape) * types[name].size for name, array in shapes.items()
    )
    held = sum(shard.stat().st_size for shard in folder.glob(f"{_VARIABLES}.data-*"))
    if declared > held:
        raise errors.DataError(
            f"The variables of '{path}' are {declared:,} bytes and its shards hold "
            f"{held:,}: it is damaged or cut short. Save or copy it again."
        )
    return list(shapes.values())


def _configs(path: Path, *, with_layers: bool) -> list[Any]:
    """Returns the model's config, and after it those of its parts if asked for."""
    found: list[Any] = []
    for node, identifier, text in _metadata(path):
        if not found and (node != _ROOT or identifier not in _MODELS):
            break
        if identifier.startswith("_tf_keras") and identifier != "_tf_keras_metric":
            found.append(_parse(text, path))
        if not with_layers:
            break
    if not found:
        raise errors.ConfigError(
            f"SavedModel '{path}' holds functions but no Keras model (model.export() "
            "of Keras 3 and tf.saved_model.save write such ones): there are no layers "
            "to slim. Save the model itself, model.save('model.keras'), and give that."
        )
    return found


def _parse(text: str, path: Path) -> Any:
    """Returns class and config of a Keras object."""
    try:
        value = json.loads(text)
        return {"class_name": value["class_name"], "config": value.get("config") or {}}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise errors.DataError(
            f"'{path / _METADATA}' is damaged: {first_line(error)}. Save or copy it "
            "again."
        ) from error


def _metadata(path: Path) -> list[tuple[int, str, str]]:
    """Returns (node, identifier, JSON) of the Keras objects, sorted by node."""
    saved = saved_model_pb2.SavedModel()
    for file in (path / _FILE, path / _METADATA):
        _require_own(file)
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
