"""Float against quantized, tensor by tensor: which layer broke it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfslim import errors, tflite
from tfslim.quantization.layers.layer_names import LayerNames

# A layer that loses so much more than the worst before it is named.
_FALL_DB = 6.0
_EXACT_DB = 200.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorError:
    """One tensor that both files have.

    Attributes:
        op: kind of the op that writes it.
        layer: Keras layer, "" where the file does not tell.
        tensor: its name.
        sqnr_db: 10 log10(power of the float values / power of the error).
        fall_db: how much lower that is than the worst of the tensors it is made of.
    """

    op: str
    layer: str
    tensor: str
    sqnr_db: float
    fall_db: float


def compare(
    reference: bytes, other: bytes, *, samples: Iterable[tflite.Inputs]
) -> list[TensorError]:
    """Runs both on the same samples and compares the tensors of one name.

    Args:
        reference: the float file.
        other: what was made of it.
        samples: inputs of the float file; they are quantized for the other where it
            takes integers.

    Returns:
        A row for each tensor in order of execution.

    Raises:
        ConfigError: the files take different inputs or have no tensor in common, or
            there is no sample.
    """
    one = tflite.Runner(reference, preserve_all_tensors=True)
    two = tflite.Runner(other, preserve_all_tensors=True)
    graph = one.model.graphs[0]
    pairs = _pairs(one.model, two.model)
    if not pairs:
        raise errors.ConfigError(
            "The two files have no tensor of the same name: give the float file that "
            "the quantized one was made from."
        )
    signal = dict.fromkeys(pairs, 0.0)
    noise = dict.fromkeys(pairs, 0.0)
    count = 0
    for sample in samples:
        _run(one, two, sample=sample)
        count += 1
        for ours, theirs in pairs.items():
            true = _value(one, ours)
            found = _value(two, theirs)
            if true.shape == found.shape:
                signal[ours] += float(np.square(true).sum())
                noise[ours] += float(np.square(true - found).sum())
    if not count:
        raise errors.ConfigError("There is no sample to compare the files on.")
    return _rows(graph, LayerNames(one.model), signal=signal, noise=noise)


def _pairs(one: tflite.TfliteModel, two: tflite.TfliteModel) -> dict[int, int]:
    """Returns the tensors that ops write under one name in both files.

    Of two of a name in the second file, the one in integers counts: a conversion
    stands behind it.
    """
    written = [op.outputs[0] for op in two.ops if op.outputs]
    by_name: dict[str, int] = {}
    for index in written:
        by_name.setdefault(two.tensors[index].name, index)
    return {
        op.outputs[0]: by_name[name]
        for op in one.ops
        if op.outputs
        for name in [one.tensors[op.outputs[0]].name]
        if name in by_name and "float" in one.tensors[op.outputs[0]].dtype
    }


def _run(one: tflite.Runner, two: tflite.Runner, *, sample: tflite.Inputs) -> None:
    one.set_inputs(sample)
    one.invoke()
    own, other = one.model, two.model
    if len(own.inputs) != len(other.inputs):
        raise errors.ConfigError(
            f"The float file has {len(own.inputs)} inputs, the other "
            f"{len(other.inputs)}: they are not of one model."
        )
    given = {}
    for name, tensor, ours in zip(
        other.input_names, other.inputs, own.inputs, strict=True
    ):
        value = one.interpreter.get_tensor(ours.index)
        given[name] = _quantized(value, tensor)
    two.set_inputs(given)
    two.invoke()


def _quantized(value: np.ndarray, tensor: tflite.Tensor) -> np.ndarray:
    scale = tensor.quantization
    if scale is None:
        return value
    limits = np.iinfo(tensor.dtype)
    steps = np.round(value / scale.scale[0]) + scale.zero_point[0]
    return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)


def _value(runner: tflite.Runner, index: int) -> np.ndarray:
    value = runner.interpreter.get_tensor(index)
    scale = runner.model.tensors[index].quantization
    if scale is None:
        return value.astype(np.float64)
    return (value.astype(np.float64) - scale.zero_point[0]) * scale.scale[0]


def _rows(
    graph: tflite.Graph,
    names: LayerNames,
    *,
    signal: dict[int, float],
    noise: dict[int, float],
) -> list[TensorError]:
    sqnr = {index: _db(signal[index], noise[index]) for index in signal}
    rows = []
    worst_above: dict[int, float] = {}
    for op in graph.ops:
        before = [worst_above.get(i, _EXACT_DB) for i in op.inputs if i >= 0]
        worst = min(before, default=_EXACT_DB)
        for index in op.outputs:
            worst_above[index] = sqnr.get(index, worst)
        if op.outputs and op.outputs[0] in sqnr:
            own = sqnr[op.outputs[0]]
            rows.append(
                TensorError(
                    op=op.name,
                    layer=names.first(op),
                    tensor=graph.name_of(op),
                    sqnr_db=own,
                    fall_db=max(worst, own) - own if worst < _EXACT_DB else 0.0,
                )
            )
    return rows


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return _EXACT_DB
    if signal == 0:
        return -_EXACT_DB
    return min(float(10 * np.log10(signal / noise)), _EXACT_DB)


def broken(rows: list[TensorError]) -> list[TensorError]:
    """Returns the layers that lose most beyond what came to them, the worst first."""
    falls = [row for row in rows if row.fall_db >= _FALL_DB]
    return sorted(falls, key=lambda row: -row.fall_db)
