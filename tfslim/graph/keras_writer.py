"""Building a Keras model from a graph: the part that both Keras share."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tfslim import errors, ops
from tfslim.graph import (
    ir,
    keras_config,
    keras_reader,
    keras_state,
    keras_wrappers,
)


class Builder(abc.ABC):
    """What one Keras needs to build layers; `name` is how messages call it."""

    name: ClassVar[str]
    # Names of activations of the graph -> what this Keras calls them.
    activations: ClassVar[Mapping[str, str]]
    # What is a layer of this Keras, or a function that it builds like one.
    base: ClassVar[type]
    # An initializer that costs nothing.
    zeros: ClassVar[Any]

    def __init__(self, dialect: keras_reader.Dialect):
        """Takes over the names of options and weights by which the Keras is read."""
        self._dialect = dialect
        # (op, name in the graph) -> name here.
        self.options = _inverse(dialect.options)
        self._weights = _inverse(dialect.weight_names)

    def free_name(self, name: str) -> str:
        """Returns the name of a layer as this Keras allows it."""
        return name

    def weight_name(self, op: str, name: str, *, known: Container[str]) -> str:
        """Returns how a layer of this Keras calls a weight of the graph."""
        own = self._weights.get((op, name), name)
        return own if own in known else name

    def layer_class(self, layer: ir.Layer) -> type | None:
        """Returns the class of a layer, None if this Keras has none."""
        if layer.keras_class is None:
            return self._dialect.class_of(layer.op)
        return layer.keras_class if issubclass(layer.keras_class, self.base) else None

    @abc.abstractmethod
    def input(self, layer: ir.Layer) -> Any:
        """Returns a new input tensor."""

    def call(
        self, native: Any, layer: ir.Layer, node: ir.Node, args: Any, kwargs: Any
    ) -> Any:
        """Calls a layer on tensors; a Keras that can skip a trace overrides this."""
        return native(*args, **kwargs)

    @abc.abstractmethod
    def function(
        self, op: str, name: str, operands: Sequence[Any], config: Mapping[str, Any]
    ) -> Any:
        """Calls a function of the vocabulary on tensors."""

    @abc.abstractmethod
    def model(self, inputs: Any, outputs: Any, name: str) -> Any:
        """Returns the functional model from `inputs` to `outputs`."""


def _inverse(
    names: Mapping[tuple[str, str], str],
) -> dict[tuple[str, str], str]:
    return {(op, new): old for (op, old), new in names.items()}


def write(graph: ir.Graph, builder: Builder) -> Any:
    """Builds the model of a graph; see `tfslim.graph.keras.write`."""
    natives, tensors = _called(graph, builder)
    inputs = ir.substitute(graph.inputs, tensors)
    outputs = ir.substitute(graph.outputs, tensors)
    with errors.raised_as(
        errors.GraphError,
        lambda cause: (
            f"Model '{graph.name}' cannot be built in {builder.name}: {cause}"
        ),
    ):
        model = builder.model(inputs, outputs, graph.name)
    for name, native in natives.items():
        _assign(builder, graph.layers[name], native=native)
    return model


def dtypes(graph: ir.Graph, builder: Builder) -> dict[ir.TensorRef, str]:
    """Returns the type of every tensor; see `tfslim.graph.keras.dtypes`."""
    _, tensors = _called(graph, builder)
    found = {ref: getattr(value, "dtype", "float32") for ref, value in tensors.items()}
    return {ref: str(getattr(each, "name", each)) for ref, each in found.items()}


def _called(
    graph: ir.Graph, builder: Builder
) -> tuple[dict[str, Any], dict[ir.TensorRef, Any]]:
    """Makes all calls; returns the layers, still without weights, and the tensors."""
    natives: dict[str, Any] = {}
    tensors: dict[ir.TensorRef, Any] = {}
    for number, node in enumerate(graph.nodes):
        layer = graph.layer_of(node)
        with _named_errors(layer, builder):
            results = _results(
                builder, node, layer=layer, natives=natives, tensors=tensors
            )
        flat = _flat(results)
        tensors |= {ir.TensorRef(number, p): value for p, value in enumerate(flat)}
    return natives, tensors


def _named_errors(
    layer: ir.Layer, builder: Builder
) -> contextlib.AbstractContextManager[None]:
    """Turns what Keras says of a layer it cannot build into one line with its name."""
    return errors.raised_as(
        errors.GraphError,
        lambda cause: (
            f"Layer '{layer.name}' ({layer.op}) cannot be built in {builder.name}: "
            f"{cause} Replace it, or do this step in the Keras that the model is of."
        ),
    )


def _results(
    builder: Builder,
    node: ir.Node,
    *,
    layer: ir.Layer,
    natives: dict[str, Any],
    tensors: Mapping[ir.TensorRef, Any],
) -> Any:
    """Makes one call; returns its tensors as the layer gives them."""
    if layer.op == "Input":
        return builder.input(layer)
    if layer.op == "Constant":
        return _constant(layer)
    args = ir.substitute(node.args, tensors)
    if layer.op in ops.keras("function"):
        operands = args[0] if layer.op == "concatenate" else args
        name = builder.free_name(layer.name)
        return builder.function(layer.op, name, operands, layer.config)
    kwargs = ir.substitute(node.kwargs, tensors)
    return _call(builder, node, layer=layer, natives=natives, arguments=(args, kwargs))


def _flat(results: Any) -> list[Any]:
    if isinstance(results, Mapping):
        results = [results[key] for key in sorted(results)]
    if isinstance(results, list | tuple):
        return [leaf for item in results for leaf in _flat(item)]
    return [results]


def _constant(layer: ir.Layer) -> Any:
    value = layer.weights["value"]
    # A Python number takes the type of the tensor that it meets, as it once did.
    return value.item() if value.ndim == 0 else value


def _call(
    builder: Builder,
    node: ir.Node,
    *,
    layer: ir.Layer,
    natives: dict[str, Any],
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> Any:
    activation = layer.config.get("activation")
    if not isinstance(activation, str) or activation in builder.activations:
        activation = None
    elif layer.op in ops.keras("recurrent"):
        raise _unknown_activation(builder, layer, activation=activation)
    elif layer.op == "Activation":
        return _activate(
            builder,
            layer,
            activation=activation,
            tensor=arguments[0][0],
            name=layer.name,
        )
    if layer.name not in natives:
        natives[layer.name] = _native(builder, layer, plain=activation is not None)
    native = natives[layer.name]
    with _zeros_for_weights(builder, native, layer=layer):
        result = builder.call(native, layer, node, *arguments)
    if activation is None:
        return result
    # This Keras has no such activation: its formula follows the layer.
    return _activate(
        builder,
        layer,
        activation=activation,
        tensor=result,
        name=f"{layer.name}_{activation}",
    )


def _unknown_activation(
    builder: Builder, layer: ir.Layer, *, activation: str
) -> errors.GraphError:
    return errors.GraphError(
        f"Layer '{layer.name}' ({layer.op}) has the activation '{activation}', which "
        f"{builder.name} does not have. Write the model in the Keras it came from, or "
        f"build it with one of: {', '.join(sorted(builder.activations))}."
    )


@contextlib.contextmanager
def _zeros_for_weights(
    builder: Builder, native: Any, *, layer: ir.Layer
) -> Iterator[None]:
    """Builds a layer without drawing random numbers that `_assign` overwrites."""
    drawn = {
        name: initializer
        for name, initializer in vars(native).items()
        if name.endswith("_initializer") and layer.keras_class is None
    }
    for name in drawn:
        setattr(native, name, builder.zeros)
    try:
        yield
    finally:
        for name, initializer in drawn.items():
            setattr(native, name, initializer)


def _activate(
    builder: Builder, layer: ir.Layer, *, activation: str, tensor: Any, name: str
) -> Any:
    if activation not in ops.keras("function") & ops.keras("elementwise"):
        raise _unknown_activation(builder, layer, activation=activation)
    return builder.function(activation, builder.free_name(name), [tensor], {})


def _native(builder: Builder, layer: ir.Layer, *, plain: bool) -> Any:
    layer_class = builder.layer_class(layer)
    if layer_class is None:
        raise errors.GraphError(
            f"Layer '{layer.name}' ({layer.op}) cannot be built in {builder.name}: it "
            "is no layer of it, or is made of layers of the other Keras. Write the "
            "model in the Keras it came from."
        )
    native = _construct(builder, layer, layer_class=layer_class, plain=plain)
    if not layer.trainable and hasattr(native, "trainable"):
        native.trainable = False  # Not every constructor takes it.
    return native


def _construct(
    builder: Builder, layer: ir.Layer, *, layer_class: Any, plain: bool
) -> Any:
    name = builder.free_name(layer.name)
    if layer.keras_class is not None:
        return keras_config.made_from(layer_class, layer.config, name=name)

    def build(op: str, config: Mapping[str, Any], name: str) -> Any:
        return _native(builder, ir.Layer(name, op, config), plain=False)

    config = keras_config.accepted(
        layer.name,
        layer.op,
        config={
            builder.options.get((layer.op, k), k): v
            for k, v in keras_wrappers.built(layer.config, build).items()
        },
        layer_class=layer_class,
        keras=builder.name,
    )
    inner = config.get("recurrent_activation")
    if isinstance(inner, str) and inner not in builder.activations:
        raise _unknown_activation(builder, layer, activation=inner)
    for key in ("activation", "recurrent_activation"):
        if isinstance(config.get(key), str):
            config[key] = builder.activations.get(config[key], config[key])
    if plain:
        config["activation"] = "linear"
    return layer_class(**config, name=name)


def _assign(builder: Builder, layer: ir.Layer, *, native: Any) -> None:
    """Gives a built layer the weights of the graph's."""
    if layer.keras_class is None and layer.op in keras_state.WITHOUT_WEIGHTS:
        return
    if not hasattr(native, "trainable"):
        return  # An operation of keras.ops, which may call an option `weights`.
    variables = keras_config.named_weights(native.weights)
    renamed = {
        builder.weight_name(layer.op, name, known=variables): weight
        for name, weight in layer.weights.items()
    }
    if {n: tuple(v.shape) for n, v in variables.items()} != {
        n: w.shape for n, w in renamed.items()
    }:
        raise errors.GraphError(
            f"Layer '{layer.name}' ({layer.op}) was built with the weights "
            f"{_shapes(variables)}, but the graph has {_shapes(renamed)}. A layer "
            "that makes its weights from anything but its config and its input "
            "cannot be rebuilt."
        )
    native.set_weights([renamed[name] for name in variables])
    if hasattr(native, "finalize_state"):
        native.finalize_state()  # Normalization computes with copies of its weights.


def variables(
    graph: ir.Graph, model: Any, builder: Builder
) -> dict[str, dict[str, Any]]:
    """Returns a written model's variables; see `tfslim.graph.keras.variables`."""
    found = {}
    for layer in graph.layers.values():
        if not layer.weights or layer.op == "Constant":
            continue
        native = model.get_layer(builder.free_name(layer.name))
        named = keras_config.named_weights(native.weights)
        found[layer.name] = {
            name: named[builder.weight_name(layer.op, name, known=named)]
            for name in layer.weights
        }
    return found


def _shapes(weights: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {tuple(w.shape)}" for name, w in weights.items())
