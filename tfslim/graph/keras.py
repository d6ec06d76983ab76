"""Reads and writes models of both Keras, and so carries a model from one to the other.

tf_keras is Keras 2, which TF-MOT needs; `keras` is Keras 3. A model is recognized by
the package of its class; only that package is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from tfslim import errors
from tfslim.graph import crossing, ir, keras_reader, keras_writer, names, precision

KerasName: TypeAlias = Literal["tf_keras", "keras"]
# What reads and writes models of each.
_MODULES = {"tf_keras": "tfslim.graph.keras2", "keras": "tfslim.graph.keras3"}


def _module(keras: KerasName) -> Any:
    """Imports what reads and writes models of one Keras, and so that Keras."""
    return importlib.import_module(_MODULES[keras])


def keras_of(model: Any) -> KerasName:
    """Returns which Keras a model belongs to: `tf_keras` or `keras` (Keras 3).

    Raises:
        GraphError: it is no Keras model.
    """
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if package == "tf_keras":
            return "tf_keras"
        if package == "keras":
            return "keras"
    raise errors.GraphError(
        f"A {type(model).__module__}.{type(model).__name__} is no Keras model. Pass a "
        "functional or Sequential model of tf_keras or Keras 3."
    )


def backend_of(model: Any) -> str:
    """Returns what computes a model: "tensorflow", or Keras 3's "jax" or "torch"."""
    return "tensorflow" if keras_of(model) == "tf_keras" else backend()


def backend() -> str:
    """Returns what Keras 3 computes with."""
    import keras

    return str(keras.backend.backend())


def require_tensorflow(model: Any, what: str) -> None:
    """Refuses what works with TensorFlow's variables on another backend of Keras 3.

    Raises:
        ConfigError: the model is one of Keras 3 with JAX or torch.
    """
    if backend_of(model) != "tensorflow":
        raise errors.ConfigError(
            f"{what} works with TensorFlow only, and Keras runs on {backend()}, where "
            "it would have no effect. Set KERAS_BACKEND=tensorflow, or train with "
            "tfslim.fit, which trains a copy in tf_keras."
        )


def read(model: Any) -> ir.Graph:
    """Reads a functional or Sequential model of either Keras into a graph.

    Nested models are flattened, a shared layer becomes one `ir.Layer` with several
    nodes, and both Keras are brought to one vocabulary (see `ir`). Weights are copied.

    Raises:
        GraphError: the model is subclassed, not built, or none of Keras.
    """
    name = keras_of(model)
    return keras_reader.read(model, _module(name).DIALECT, source=name)


def write(graph: ir.Graph, keras: KerasName = "tf_keras") -> Any:
    """Builds the functional model of a graph.

    Args:
        graph: what to build.
        keras: `tf_keras` or `keras` (Keras 3).

    Returns:
        A plain model of that Keras, with equal outputs: bit for bit if the graph was
        read from the same Keras, to float32 rounding otherwise. It is not compiled.

    Raises:
        ConfigError: there is no such Keras.
        GraphError: a layer or option does not exist in that Keras.
    """
    if keras not in _MODULES:
        raise errors.ConfigError(f"keras must be 'tf_keras' or 'keras', got {keras!r}.")
    return keras_writer.write(crossed(graph, keras), _module(keras).BUILDER)


def dtypes(graph: ir.Graph, keras: KerasName) -> dict[ir.TensorRef, str]:
    """Returns the type of every tensor of a graph, e.g. "float32", "string".

    Raises:
        GraphError: as `write`.
    """
    return keras_writer.dtypes(crossed(graph, keras), _module(keras).BUILDER)


def crossed(graph: ir.Graph, keras: KerasName) -> ir.Graph:
    """Returns a graph by the rules of `keras`, whichever Keras it was read from.

    Raises:
        GraphError: a layer does something else in that Keras.
    """
    if graph.source in ("", keras):
        return graph
    source: KerasName = "keras" if graph.source == "keras" else "tf_keras"
    return crossing.cross(graph, keras, source=_module(source).DIALECT)


def variables(graph: ir.Graph, model: Any) -> dict[str, dict[str, Any]]:
    """Returns the variables of a model that `write` built, by layer and weight name.

    Args:
        graph: what the model was written from.
        model: what `write` returned.
    """
    return keras_writer.variables(graph, model, _module(keras_of(model)).BUILDER)


def own_variables(model: Any) -> dict[str, dict[str, Any]]:
    """Returns the variables of any model that `read` takes, named as `read` names them.

    So a model and one that was written from its graph have equal keys.

    Raises:
        GraphError: the model cannot be read.
    """
    return keras_reader.own_variables(model, _module(keras_of(model)).DIALECT)


def to_keras3(model: Any) -> Any:
    """Returns the same model, with the same weights, as a Keras 3 model."""
    return write(read(model), "keras")


def to_tf_keras(model: Any) -> Any:
    """Returns the same model, with the same weights, as a tf_keras model.

    Raises:
        GraphError: a layer or option does not exist in tf_keras.
    """
    try:
        return write(read(model), "tf_keras")
    except errors.GraphError as error:
        if backend_of(model) == "tensorflow":
            raise
        raise errors.GraphError(
            f"With Keras on {backend()} this is done by tf_keras. {error} Or save the "
            "model, and open it with KERAS_BACKEND=tensorflow."
        ) from error


def to_float32(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Returns the same model with every layer computing in float32.

    For a model of float16, bfloat16 or float64 layers, or of mixed precision, whose
    weights are float32 already. It is not compiled.

    Returns:
        The model, the same object if it is in float32, and what it computed in before,
        e.g. ("mixed_float16",).

    Raises:
        GraphError: the model cannot be read or rebuilt.
    """
    if all(_is_float32(layer) for layer in _layers(model)):
        return model, ()
    graph, found = precision.to_float32(read(model))
    if not found:
        return model, ()
    return write(graph, keras_of(model)), found


def to_scoped_names(model: Any) -> tuple[Any, dict[str, str]]:
    """Returns the same model with names of layers that TensorFlow takes as scopes.

    Keras 3 takes any name ("Conv 1", "dense:out"), and eagerly such a model runs, but
    TensorFlow cannot compile it.

    Returns:
        The model, the same object if its names are fine, and the new name of every
        layer that was renamed.

    Raises:
        GraphError: the model cannot be read or rebuilt.
    """
    if all(names.is_scope(layer.name) for layer in _layers(model)):
        return model, {}
    graph, new = names.scoped(read(model))
    return write(graph, keras_of(model)), new


def pack_inputs(model: Any, tensors: Sequence[Any]) -> Any:
    """Returns a model's inputs, given flat, as the model takes them: alone, as dict.

    Args:
        model: of either Keras.
        tensors: one for each of `model.inputs`, in that order.
    """
    if len(model.inputs) == 1 and not isinstance(_inputs(model), Mapping):
        return tensors[0]
    leaves = iter(tensors)
    return _packed(_inputs(model), leaves)


def _packed(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        values = {key: _packed(structure[key], leaves) for key in sorted(structure)}
        return {key: values[key] for key in structure}
    if isinstance(structure, list | tuple):
        return [_packed(item, leaves) for item in structure]
    return next(leaves)


def _inputs(model: Any) -> Any:
    """Returns a model's inputs, nested as it takes them."""
    model = getattr(model, "_functional", None) or model
    for name in ("_inputs_struct", "_nested_inputs"):
        if getattr(model, name, None) is not None:
            return getattr(model, name)
    return model.inputs


def _layers(model: Any) -> list[Any]:
    """Returns a model and all layers inside it, at any depth."""
    return list(model._flatten_layers())


def _is_float32(layer: Any) -> bool:
    types = {getattr(layer, name, None) for name in ("compute_dtype", "dtype")}
    return not types & precision.OTHERS
