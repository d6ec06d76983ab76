"""That a cut model does what the original with masked channels does, and is savable."""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import ir, keras_run, precision
from tfslim.graph import keras as graph_keras
from tfslim.pruning import surgery

# Above this relative error a cut is not a cut but a fault.
MAX_ERROR = 1e-4
# Activations that give nearly the same for inputs far apart.
_SATURATING = {"sigmoid", "softmax", "tanh", "hard_sigmoid", "hard_sigmoid_legacy"}


def prove(
    masked: ir.Graph,
    smaller: ir.Graph,
    *,
    kind: graph_keras.KerasName,
    inputs: Iterable[list[Any]],
) -> float:
    """Compares a cut graph with its masked original, both built and run by Keras.

    Args:
        masked: the original with the removed channels masked (`mask_channels`).
        smaller: the cut graph.
        kind: the Keras to run them in; both compute in float32, compiled, and give
            what stands before a softmax or sigmoid at the output.
        inputs: batches, each a flat list of arrays.

    Returns:
        The largest relative difference.

    Raises:
        VerificationError: it is above `MAX_ERROR`, or the model cannot run here.
    """
    one = graph_keras.write(exposed(masked), kind)
    other = graph_keras.write(exposed(smaller), kind)
    error = max(
        surgery.relative_error(
            run(one, masked, inputs=batch), run(other, smaller, inputs=batch)
        )
        for batch in inputs
    )
    if error > MAX_ERROR:
        raise errors.VerificationError(
            f"The cut model differs from the masked original by {error:.1e} (allowed: "
            f"{MAX_ERROR:.0e}). If the model's outputs are finite and do not depend on "
            "chance, this is a fault of tfslim: please report it with the model."
        )
    return error


def exposed(graph: ir.Graph) -> ir.Graph:
    """Returns the graph as the proof needs it: in float32, with bare outputs.

    A softmax over a thousand classes, or a saturated one, hides most differences, so
    the activations of the outputs are left out.
    """
    graph, _ = precision.to_float32(graph)
    ends = {graph.nodes[ref.node].layer for ref in graph.output_refs}
    changed = {}
    for name, layer in graph.layers.items():
        activation = layer.config.get("activation")
        if name in ends and layer.op in ("Softmax", "softmax"):
            linear = {"activation": "linear", "dtype": "float32"}
            changed[name] = ir.Layer(name, "Activation", linear)
        elif name in ends and isinstance(activation, str) and activation in _SATURATING:
            config = {**layer.config, "activation": "linear"}
            changed[name] = dataclasses.replace(layer, config=config)
    return graph.with_layers(changed)


def run(model: Any, graph: ir.Graph, *, inputs: list[Any]) -> list[Any]:
    """Returns the outputs of a model for flat inputs, flat, as arrays.

    Raises:
        VerificationError: TensorFlow cannot run it here.
    """
    fed = ir.substitute(graph.inputs, dict(zip(graph.input_refs, inputs, strict=True)))
    try:
        outputs = keras_run.compiled(model)(fed)
    except errors.TfslimError:
        raise
    except Exception as error:  # A layer raises what it likes.
        raise errors.VerificationError(
            f"Model '{graph.name}' cannot run here, so nothing can be proved: "
            f"{errors.first_line(error)} Does its own predict() run on such inputs?"
        ) from error
    arrays = [np.asarray(output) for output in flat(outputs)]
    keras_run.forget_kernels()
    return arrays


def check_savable(
    written: Any, graph: ir.Graph, *, original: Any, inputs: list[Any]
) -> str | None:
    """Saves a written model, loads it and compares the outputs.

    Args:
        written: the model of `graph`.
        graph: what it was written from.
        original: the model that the user had; None if there is none.
        inputs: a batch, flat.

    Returns:
        Why the model cannot be saved and loaded if the original cannot either, as
        where a class of the user's is not registered; None if it can.

    Raises:
        VerificationError: the original can and the written model cannot.
    """
    why = _lost_in_file(written, graph, inputs=inputs)
    if why is None:
        return None
    if original is not None and _lost_in_file(original, graph, inputs=inputs) is None:
        raise errors.VerificationError(
            f"The cut model cannot be saved and loaded again ({why}), while the "
            "original can: this is a fault of tfslim, please report it with the model."
        )
    return why


def _lost_in_file(model: Any, graph: ir.Graph, *, inputs: list[Any]) -> str | None:
    """Returns what goes wrong between saving and loading, None if nothing does."""
    package = importlib.import_module(graph_keras.keras_of(model))
    classes = {
        layer.keras_class.__name__: layer.keras_class
        for layer in graph.layers.values()
        if layer.keras_class is not None
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
            loaded = package.models.load_model(
                path, custom_objects=classes, compile=False, safe_mode=False
            )
            before, after = (run(m, graph, inputs=inputs) for m in (model, loaded))
        except Exception as error:
            return errors.first_line(error).rstrip(".")
    # Equal but for what depends on chance or is not a number in both.
    far = surgery.relative_error(before, after)
    return f"its outputs differ by {far:.1e}" if far > MAX_ERROR else None


def flat(structure: Any) -> list[Any]:
    """Returns the leaves of a nested structure, dicts by sorted keys."""
    if isinstance(structure, Mapping):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, list | tuple):
        return [leaf for item in structure for leaf in flat(item)]
    return [structure]


def random_inputs(graph: ir.Graph, *, batch: int = 2, seed: int = 0) -> list[Any]:
    """Returns standard normal arrays for the graph's inputs; unknown sizes become 32.

    Integer inputs (indices) are 0 or 1, texts "a" or "b".
    """
    rng = np.random.default_rng(seed)
    arrays = []
    for ref in graph.input_refs:
        first, *rest = graph.shape(ref)
        shape = (first or batch, *(size or 32 for size in rest))
        dtype = graph.layer_of(graph.nodes[ref.node]).config["dtype"]
        if dtype == "string":
            arrays.append(np.array(["a", "b"])[rng.integers(0, 2, shape)])
        elif "int" in dtype or dtype == "bool":
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
        else:
            arrays.append(rng.normal(size=shape).astype("float32"))
    return arrays
