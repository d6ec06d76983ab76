"""What ops are: the one place that answers "is this op a ...?".

`ops.toml` is the table: a row for each Keras op (a layer by its class, a function by
its name in the vocabulary of `graph.ir`) and for each builtin op of TFLite. It says
what the traits mean.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class KerasOp:
    """A layer or function of Keras.

    Attributes:
        traits: what holds for it.
        kernels: weight that inputs are multiplied with -> its axes that count output
            channels, from the end.
        tflite: ops that may hold its kernel in a `.tflite`.
        gates: parts of the last axis of a recurrent layer's weights.
        switches: the gates that take the recurrent activation.
    """

    traits: frozenset[str] = frozenset()
    kernels: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    tflite: frozenset[str] = frozenset()
    gates: int = 0
    switches: tuple[int, ...] = ()


class Weights(NamedTuple):
    """Where an op has its weights: places among its inputs, and an axis of the kernel.

    A bias may be left out.
    """

    input: int
    kernel: int
    bias: int
    output_axis: int


@dataclasses.dataclass(frozen=True)
class TfliteOp:
    """A builtin op of TFLite, as LiteRT's kernels have it.

    Attributes:
        inputs: least and greatest number of inputs.
        outputs: number of outputs, the option that counts them, or "any".
        traits: what holds for it.
        positive: options that must be above zero.
        weights: of an op that multiplies its input with a kernel.
        integer: the quantization of what an INT8 kernel gives out: "same", "own" or
            (scale, zero point); None where there is no such kernel, or weights.
    """

    inputs: tuple[int, float]
    outputs: int | str = 1
    traits: frozenset[str] = frozenset()
    positive: tuple[str, ...] = ()
    weights: Weights | None = None
    integer: str | tuple[float, int] | None = None


def _keras_op(row: str | dict[str, Any]) -> KerasOp:
    row = {"traits": row} if isinstance(row, str) else row
    return KerasOp(
        frozenset(row["traits"].split()),
        {name: tuple(axes) for name, axes in row.get("kernels", {}).items()},
        frozenset(row.get("tflite", "").split()),
        row.get("gates", 0),
        tuple(row.get("switches", ())),
    )


def _tflite_op(row: dict[str, Any]) -> TfliteOp:
    inputs = row["inputs"]
    return TfliteOp(
        (inputs, inputs) if isinstance(inputs, int) else tuple(inputs),
        row.get("outputs", 1),
        frozenset(row.get("traits", "").split()),
        tuple(row.get("positive", "").split()),
        Weights(*row["weights"]) if "weights" in row else None,
        _integer(row.get("integer")),
    )


def _integer(text: str | None) -> str | tuple[float, int] | None:
    if text in (None, "same", "own"):
        return text
    scale, zero_point = str(text).split()
    return float(fractions.Fraction(scale)), int(zero_point)


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
KERAS = {name: _keras_op(row) for name, row in _TABLE["keras"].items()}
TFLITE = {name: _tflite_op(row) for name, row in _TABLE["tflite"].items()}
# Ops of a `.tflite` that multiply their input with a kernel -> where that is.
WEIGHTS = {name: op.weights for name, op in TFLITE.items() if op.weights is not None}


@functools.cache
def keras(*traits: str) -> frozenset[str]:
    """Returns the names of the Keras ops that have one of the traits."""
    return _having(KERAS, traits)


@functools.cache
def tflite(*traits: str) -> frozenset[str]:
    """Returns the names of the TFLite ops that have one of the traits."""
    return _having(TFLITE, traits)


def _having(
    table: Mapping[str, KerasOp] | Mapping[str, TfliteOp], traits: tuple[str, ...]
) -> frozenset[str]:
    known = frozenset[str]().union(*(op.traits for op in table.values()))
    if not known.issuperset(traits):
        raise KeyError(
            f"No op has the trait {sorted({*traits} - known)}; there are "
            f"{sorted(known)}."
        )
    return frozenset(name for name, op in table.items() if op.traits & {*traits})
