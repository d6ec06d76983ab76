"""The only file that knows litert-quantizer: rules and ranges in, a `.tflite` out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from litert_quantizer import (
    model_modifier,
    params_generator,
    qtyping,
    recipe_manager,
)
from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor
from litert_quantizer.utils import tfl_flatbuffer_utils

from tfslim import errors, ops
from tfslim.quantization.rules.graph_outputs import Outputs
from tfslim.tflite import flatbuffer, reading

# What litert-quantizer calls differently.
_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
# Of a kernel that it quantizes whole.
_MOST_BYTES = 2**25
Rules = Sequence[Mapping[str, Any]]
# What it raises at a model that it did not foresee.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def quantize(
    model: bytes,
    rules: Rules,
    *,
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> bytes:
    """Quantizes `model` by `rules`.

    Its `Quantizer` class does the same steps but prints a progress bar that cannot be
    turned off, and loads the model once more.

    Args:
        model: a float `.tflite`, its tensor names unique.
        rules: as in a `Recipe`.
        ranges: tensor name -> (min, max), of the tensor's rank; needed for every
            activation by static rules, and used for weights where given.

    Raises:
        ConfigError: a rule is not understood.
        QuantizationError: litert-quantizer fails; with its reason.
    """
    with _quiet(), _in_parts():
        recipes = _manager(rules)
        statistics = {
            name: {"min": low, "max": high}
            for name, (low, high) in (ranges or {}).items()
        }
        try:
            flat = tfl_flatbuffer_utils.read_model(memoryview(model))
            # It walks the signatures, and files older than 2021 have none.
            flat.signatureDefs = flat.signatureDefs or []
            ends = [
                (flatbuffer.numbers(g.inputs), flatbuffer.numbers(g.outputs))
                for g in flat.subgraphs
            ]
            outputs = Outputs(flat)
            output_type = _output_type(recipes, flat.subgraphs[0])
            generator = params_generator.ParamsGenerator(flat)
            params = generator.generate_quantization_parameters(
                recipes, statistics or None, enable_progress_bar=False
            )
            modifier = model_modifier.ModelModifier(flat)
            quantized = modifier.modify_model(params, enable_progress_bar=False)
        except _FAILURES as error:
            raise errors.QuantizationError(
                f"litert-quantizer cannot quantize the model: {_line(error)}"
            ) from error
    result = flatbuffer.unpack(bytes(quantized))
    outputs.restore(result, output_type, _bounds(ranges or {}))
    _pass_on(ends, result)
    _measure_integers(result)
    flatbuffer.share_buffers(result)
    result.source = model  # It is as well known as what it is made of.
    # It keeps constants outside of the flatbuffer, which older runtimes cannot read.
    return flatbuffer.pack(result, attached=flatbuffer.attached_files(model))


def _measure_integers(flat: Any) -> None:
    """Lets ops that ask for a size alone ask the integers, not a float copy of them."""
    graph = flat.subgraphs[0]
    names = [reading.op_name(code)[0] for code in flat.operatorCodes]
    copies = {
        op.outputs[0]: op for op in graph.operators if _name(op, names) == "DEQUANTIZE"
    }
    for op in graph.operators:
        if _name(op, names) in ops.tflite("measuring") and op.inputs[0] in copies:
            op.inputs = [copies[op.inputs[0]].inputs[0]]
    read = {i for op in graph.operators for i in flatbuffer.numbers(op.inputs)}
    read |= set(flatbuffer.numbers(graph.outputs))
    unread = [op for index, op in copies.items() if index not in read]
    graph.operators = [op for op in graph.operators if op not in unread]


def _name(op: Any, names: Sequence[str]) -> str:
    return names[op.opcodeIndex]


def check(rules: Rules) -> None:
    """Raises ConfigError if `quantize` would not understand a rule."""
    with _quiet():
        _manager(rules)


def _manager(rules: Rules) -> recipe_manager.RecipeManager:
    recipes = recipe_manager.RecipeManager()
    try:
        recipes.load_quantization_recipe([_as_known(rule) for rule in rules])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.ConfigError(
            f"litert-quantizer does not understand the recipe: {_line(error)}"
        ) from error
    return recipes


def _output_type(recipes: recipe_manager.RecipeManager, graph: Any) -> int | None:
    """Returns the type that the rules ask of outputs, None for what the ops give."""
    *_, border = tfl_flatbuffer_utils.get_subgraph_input_output_operators(graph)
    scope = tfl_flatbuffer_utils.get_op_scope(border, graph.tensors)
    operation = qtyping.TFLOperationName.OUTPUT
    key, config = recipes.get_quantization_configs(operation, scope)
    if key == "no_quantize":
        return int(schema.TensorType.FLOAT32)
    tensor = config.activation_tensor_config
    if tensor is None:
        return None
    sign = "U" if tensor.dtype == qtyping.TensorDataType.UINT else ""
    return int(getattr(schema.TensorType, f"{sign}INT{tensor.num_bits}"))


def _bounds(
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[float, float]]:
    return {name: (low.min(), high.max()) for name, (low, high) in ranges.items()}


def _pass_on(
    ends: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], quantized: Any
) -> None:
    """Gives inputs that are outputs as they come, not as INT8 that nobody asked for."""
    for (inputs, outputs), new in zip(ends, quantized.subgraphs, strict=True):
        given, found = flatbuffer.numbers(new.inputs), flatbuffer.numbers(new.outputs)
        moved = {
            found[place]: given[inputs.index(index)]
            for place, index in enumerate(outputs)
            if index in inputs
        }
        if not moved:
            continue
        new.outputs = [moved.get(index, index) for index in found]
        for signature in quantized.signatureDefs or []:
            for entry in signature.outputs:
                entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)


def is_op(name: str, op: str) -> bool:
    """Whether a rule's "operation" names ops called `op`."""
    return name in ("*", op, _NAMES.get(op, op))


def _as_known(rule: Mapping[str, Any]) -> dict[str, Any]:
    operation = rule["operation"]
    return {"op_config": {}, **rule, "operation": _NAMES.get(operation, operation)}


def takes(rule: Mapping[str, Any], op: str) -> bool:
    """Whether a rule can be meant for an op of this name."""
    return _takes(json.dumps({**rule, "regex": ".*", "operation": op}, default=str))


@functools.lru_cache(1024)
def _takes(rule: str) -> bool:
    try:
        check([json.loads(rule)])
    except errors.ConfigError:
        return False
    return True


# One at a time: filters of warnings belong to the process, and so do its handlers.
_LOCK = threading.RLock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # It logs by the module-level functions, which hang a handler to the root logger
    # for good where there is none.
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        with _LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(handler)


@contextlib.contextmanager
def _in_parts() -> Iterator[None]:
    """Lets litert-quantizer see large kernels in parts that it can quantize.

    From 32 MiB on version 0.11 lays a kernel flat and then fails to bring the scales of
    its channels, which are not, to the same shape.
    """
    whole = uniform_quantize_tensor.uniform_quantize

    def part(data: Any, params: Any, is_blockwise_quant: bool = False) -> Any:
        if is_blockwise_quant or np.ndim(data) < 3 or data.nbytes <= _MOST_BYTES:
            return whole(data, params, is_blockwise_quant)
        params = uniform_quantize_tensor.fix_quantization_params_rank(data, params)
        axis = next(i for i, size in enumerate(data.shape) if size > 1)
        half = data.shape[axis] // 2
        found = []
        for own in (slice(half), slice(half, None)):
            place = (slice(None),) * axis + (own,)
            values = {
                name: value[place] if value.shape[axis] > 1 else value
                for name in ("scale", "zero_point")
                for value in [getattr(params, name)]
            }
            found.append(part(data[place], dataclasses.replace(params, **values)))
        return np.concatenate(found, axis)

    uniform_quantize_tensor.uniform_quantize = part
    try:
        yield
    finally:
        uniform_quantize_tensor.uniform_quantize = whole


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
