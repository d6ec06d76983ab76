"""SavedModel folders that tf.keras wrote.

TensorFlow runs functions of such a folder as soon as it opens it. So the model is
built anew from its config, and its variables are read as from a checkpoint: nothing in
the folder is run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tensorflow.core.protobuf import (
    saved_model_pb2,
    saved_object_graph_pb2,
    trackable_object_graph_pb2,
)

from tfslim import containers, errors, quiet
from tfslim.loading import budget, build, safety

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
    saved, metadata = _read(path, allow_links=allow_unsafe)
    configs = _configs(metadata, path)
    check = safety.check(
        # The functions of other layers are run only by TensorFlow's own opener.
        configs if allow_unsafe else configs[0],
        source=str(path),
        keras=tf_keras,
        custom_objects=custom_objects,
        allow_unsafe=allow_unsafe,
        risks=["functions of its own, which TensorFlow runs"],
    )
    with containers.private_folder() as folder:

        def explain(cause: str) -> str:
            cause = cause.replace(str(folder), str(path / _VARIABLES))
            return f"SavedModel '{path}' cannot be opened: {cause}"

        with errors.raised_as(errors.DataError, explain):
            if allow_unsafe:
                return _load_trusted(path, tf_keras, objects=check.objects)
            return _build(path, folder, saved=saved, config=configs[0], check=check)


def _load_trusted(path: Path, tf_keras: Any, *, objects: Mapping[str, Any]) -> Any:
    library = importlib.import_module("tf_keras.src.saving.serialization_lib")
    with quiet.captured_stderr(), library.SafeModeScope(safe_mode=False):
        return tf_keras.models.load_model(
            str(path), custom_objects=objects, compile=False
        )


def _build(
    path: Path,
    folder: Path,
    *,
    saved: saved_model_pb2.SavedModel,
    config: Any,
    check: safety.Check,
) -> Any:
    """Builds the model from its config and reads its variables."""
    tensorflow = importlib.import_module("tensorflow")
    _copy_variables(path, folder)
    prefix = str(folder / _VARIABLES)
    reader = tensorflow.train.load_checkpoint(prefix)
    shapes = _shapes(reader, folder, path=path)
    with budget.limited(check, shapes, source=str(path)):
        model = build.from_legacy(check.keras, config, objects=check.objects)
    if model.built:
        for nodes in (
            saved.meta_graphs[0].object_graph_def.nodes,
            _checkpointed(reader).nodes,
        ):
            _require_one_model(nodes, model, path=path)
    status = tensorflow.train.Checkpoint(root=model).read(prefix)
    status.assert_existing_objects_matched()
    # An optimizer's state stays in the file; TensorFlow warns of each part at the end.
    status.expect_partial()
    build.finish(model)
    return model


def _checkpointed(reader: Any) -> trackable_object_graph_pb2.TrackableObjectGraph:
    """Returns the graph of the objects whose variables the checkpoint holds."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    return graph


def _require_one_model(nodes: Any, model: Any, *, path: Path) -> None:
    """Refuses variables of another model: what is missing would go unnoticed."""
    found = [
        sum(_is_variable(nodes[item.node_id]) for item in nodes[i].children)
        for i in (
            c.node_id for c in nodes[_ROOT].children if c.local_name == _VARIABLES
        )
    ]
    number = sum(hasattr(weight, "shape") for weight in model.weights)
    if found and found != [number]:
        raise errors.DataError(
            f"'{path}' holds {found[0]} variables, and its config is of a model with "
            f"{number}: its files are not of one model. Save or copy it again."
        )


def _is_variable(node: Any) -> bool:
    if isinstance(node, saved_object_graph_pb2.SavedObject):
        return node.HasField("variable")
    return any(value.name == "VARIABLE_VALUE" for value in node.attributes)


def _copy_variables(path: Path, folder: Path) -> None:
    """Copies the variables; a link among them could lead to any file."""
    found = sorted((path / _VARIABLES).glob(f"{_VARIABLES}.*"))
    if path / _VARIABLES / f"{_VARIABLES}.index" not in found:
        raise errors.DataError(
            f"SavedModel '{path}' has no variables/variables.index: it is cut short. "
            "Save or copy it again."
        )
    _require_own(path / _VARIABLES)
    for file in found:
        _require_own(file)
        containers.copy_file(file, folder / file.name)


def _require_own(file: Path) -> None:
    if file.is_symlink():
        raise errors.DataError(
            f"'{file}' is a link to '{file.readlink()}'. A SavedModel holds all that "
            "is its own; copy it with `cp -rL` if you trust where the link leads."
        )


def _shapes(reader: Any, folder: Path, *, path: Path) -> list[_Array]:
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


def _configs(metadata: list[tuple[int, str, str]], path: Path) -> list[Any]:
    """Returns the config of every Keras object in the folder, the model's first."""
    if not metadata or metadata[0][0] != _ROOT or metadata[0][1] not in _MODELS:
        raise errors.ConfigError(
            f"SavedModel '{path}' holds functions but no Keras model (model.export() "
            "of Keras 3 and tf.saved_model.save write such ones): there are no layers "
            "to slim. Save the model itself, model.save('model.keras'), and give that."
        )
    return [
        _parse(text, path)
        for _, identifier, text in metadata
        if identifier.startswith("_tf_keras") and identifier != "_tf_keras_metric"
    ]


def _parse(text: str, path: Path) -> Any:
    """Returns class and config of a Keras object."""
    with _undamaged(path / _METADATA):
        value = json.loads(text)
        return {"class_name": value["class_name"], "config": value.get("config")}


def _undamaged(file: Path) -> contextlib.AbstractContextManager[None]:
    return errors.raised_as(
        errors.DataError, lambda cause: f"'{file}' is damaged: {cause} {errors.AGAIN}"
    )


def _read(
    path: Path, *, allow_links: bool
) -> tuple[saved_model_pb2.SavedModel, list[tuple[int, str, str]]]:
    """Returns the folder's graph, and (node, identifier, JSON) of its Keras objects."""
    saved = saved_model_pb2.SavedModel()
    files = {path / _FILE: saved}
    if (path / _METADATA).exists():
        protos = importlib.import_module("tf_keras.protobuf.saved_metadata_pb2")
        files[path / _METADATA] = protos.SavedMetadata()
    for file, proto in files.items():
        containers.require_file(file)
        if not allow_links:
            _require_own(file)
        with _undamaged(file):
            proto.ParseFromString(file.read_bytes())
            nodes = saved.meta_graphs[0].object_graph_def.nodes
    if path / _METADATA in files:
        kept = files[path / _METADATA].nodes
        return saved, sorted((n.node_id, n.identifier, n.metadata) for n in kept)
    # TensorFlow before 2.5 kept it in the graph of objects.
    objects = [(index, n.user_object) for index, n in enumerate(nodes)]
    found = [(i, o.identifier, o.metadata) for i, o in objects if o.metadata]
    return saved, sorted(found)
