"""How the layers of a saved config are connected, checked before Keras sees it.

Where a node takes its input from one that does not exist, tf_keras waits for it for
ever, and Keras 3 answers with a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfslim import errors

_CONSTANT = "_CONSTANT_VALUE"
_MODELS = {"Functional", "Model", "Sequential"}
_MAX_OUTPUTS = 10_000

Reference = tuple[Any, Any, Any]


def check(config: Any, source: str) -> None:
    """Checks every network in a config: that all it names exists, once.

    Args:
        config: a model's config as parsed JSON.
        source: where it comes from, for messages.

    Raises:
        DataError: a layer without a name or with another's, a node that takes its
            input from nothing or from what is not there.
    """
    for network in _networks(config):
        try:
            _check_network(network)
        except errors.DataError as error:
            raise errors.DataError(
                f"'{source}': {error}. It is damaged; save or copy it again."
            ) from error


def _networks(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("layers"), list):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _networks(part)


def _check_network(network: dict[str, Any]) -> None:
    ends = [network.get(key) for key in ("input_layers", "output_layers")]
    is_functional = ends != [None, None]
    counts: dict[str, int] = {}
    nodes: list[tuple[str, Any]] = []
    for index, layer in enumerate(network["layers"]):
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise errors.DataError(f"layer {index} has no config")
        name = layer.get("name", layer["config"].get("name"))
        if name is None and not is_functional:
            continue  # Keras names it.
        if not isinstance(name, str):
            raise errors.DataError(f"layer {index} has {name!r:.80} for a name")
        if name in counts:
            raise errors.DataError(f"two layers are called {name!r:.80}")
        inbound = layer.get("inbound_nodes", [])
        if not isinstance(inbound, list):
            raise errors.DataError(f"layer {name!r:.80} has no list of nodes")
        nodes += [(name, node) for node in inbound]
        is_model = layer.get("class_name") in _MODELS
        # An input has a node of its own, and so has a model inside a model.
        counts[name] = max(len(inbound) + is_model, not inbound)
    if not is_functional:
        return
    for name, node in nodes:
        is_keras3 = isinstance(node, dict) and set(node) == {"args", "kwargs"}
        references = list(_tensors(node) if is_keras3 else _references(node))
        if not references:
            raise errors.DataError(f"layer {name!r:.80} is applied to nothing")
        for reference in references:
            _require_there(reference, counts, who=f"layer {name!r:.80}")
    for what, end in zip(("input", "output"), ends, strict=True):
        references = list(_references(end))
        if not references:
            raise errors.DataError(f"the model has no {what}")
        for reference in references:
            _require_there(reference, counts, who=f"the model's {what}")


def _require_there(reference: Reference, counts: dict[str, int], *, who: str) -> None:
    name, node, output = reference
    if not isinstance(name, str) or name not in counts:
        raise errors.DataError(f"{who} names a layer {name!r:.80}, which is not in it")
    for index, count in ((node, counts[name]), (output, _MAX_OUTPUTS)):
        if type(index) is not int or not 0 <= index < count:
            raise errors.DataError(
                f"{who} names node {node!r:.80}, output {output!r:.80} of layer "
                f"{name!r:.80}, which does not exist"
            )


def _tensors(value: Any) -> Iterator[Reference]:
    """Yields (layer, node, output) of the tensors in a node of Keras 3."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = value.get("config")
            history = config.get("keras_history") if isinstance(config, dict) else None
            if not isinstance(history, list) or len(history) != 3:
                raise errors.DataError(f"a node names {history!r:.80} for a tensor")
            yield tuple(history)
            return
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _tensors(part)


def _references(value: Any) -> Iterator[Reference]:
    """Yields (layer, node, output) of the tensors in a node of Keras 1 or 2.

    tf_keras takes every list of three or four that starts with a text for one; the
    fourth are the layer's other arguments.
    """
    if isinstance(value, dict):
        for part in value.values():
            yield from _references(part)
    if not isinstance(value, list):
        return
    if len(value) in (3, 4) and isinstance(value[0], str):
        if value[0] != _CONSTANT:
            yield tuple(value[:3])
        yield from _references(value[3:])
        return
    for part in value:
        yield from _references(part)
