"""Reads and writes models of both Keras, and so carries a model from one to the other.

tf_keras is Keras 2, which TF-MOT needs; `keras` is Keras 3. A model is recognized by
the package of its class; only that package is imported.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from tfslim import errors
from tfslim.graph import crossing, ir

KerasName: TypeAlias = Literal["tf_keras", "keras"]


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


def read(model: Any) -> ir.Graph:
    """Reads a functional or Sequential model of either Keras into a graph.

    Nested models are flattened, a shared layer becomes one `ir.Layer` with several
    nodes, and both Keras are brought to one vocabulary (see `ir`). Weights are copied.

    Raises:
        GraphError: the model is subclassed, not built, or none of Keras.
    """
    if keras_of(model) == "tf_keras":
        from tfslim.graph import keras2

        return keras2.read(model)
    from tfslim.graph import keras3

    return keras3.read(model)


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
    if graph.source not in ("", keras):
        graph = crossing.cross(graph, keras)
    if keras == "tf_keras":
        from tfslim.graph import keras2

        return keras2.write(graph)
    if keras == "keras":
        from tfslim.graph import keras3

        return keras3.write(graph)
    raise errors.ConfigError(f"keras must be 'tf_keras' or 'keras', got {keras!r}.")


def variables(graph: ir.Graph, model: Any) -> dict[str, dict[str, Any]]:
    """Returns the variables of a model that `write` built, by layer and weight name.

    Args:
        graph: what the model was written from.
        model: what `write` returned.
    """
    if keras_of(model) == "tf_keras":
        from tfslim.graph import keras2

        return keras2.variables(graph, model)
    from tfslim.graph import keras3

    return keras3.variables(graph, model)


def own_variables(model: Any) -> dict[str, dict[str, Any]]:
    """Returns the variables of any model that `read` takes, named as `read` names them.

    So a model and one that was written from its graph have equal keys.

    Raises:
        GraphError: the model cannot be read.
    """
    if keras_of(model) == "tf_keras":
        from tfslim.graph import keras2

        return keras2.own_variables(model)
    from tfslim.graph import keras3

    return keras3.own_variables(model)


def to_keras3(model: Any) -> Any:
    """Returns the same model, with the same weights, as a Keras 3 model."""
    return write(read(model), "keras")


def to_tf_keras(model: Any) -> Any:
    """Returns the same model, with the same weights, as a tf_keras model."""
    return write(read(model), "tf_keras")
