"""Everything that is said about one file, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tfslim import benchmark, errors, tflite
from tfslim.analysis import advice, intermediate, layers, redundancy
from tfslim.benchmark import android, costs, host
from tfslim.graph import ir

OnStep = Callable[[str], None]

SCHEMA_VERSION = 1
# Where the sum of the ops and the whole differ by more, that is said.
_UNLIKE = 0.1
_FEW_US = 10.0
# Samples of random numbers, where there are none of the user's.
_RANDOM = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is said of a file.

    Attributes:
        name: what to call it.
        is_timed: whether anything is measured.
        num_threads: of the runs.
        phones: the phone to measure on; None: this machine.
        against: name and content of a file that was made of it, to compare with.
        samples: inputs as the file takes them; None: random numbers where needed.
        graph: of the Keras model that it was made from; None: not known.
        notes: what the user should know besides.
    """

    name: str
    is_timed: bool = True
    num_threads: int = 1
    phones: android.AndroidOptions | None = None
    against: tuple[str, bytes] | None = None
    samples: Sequence[tflite.Inputs] | None = None
    graph: ir.Graph | None = None
    notes: tuple[str, ...] = ()


def analyze_file(
    data: bytes, wanted: Wanted, *, on_step: OnStep = lambda text: None
) -> dict[str, Any]:
    """Analyzes a `.tflite`; see docs/analysis.md for the fields.

    Args:
        data: the file, of any precision and origin.
        wanted: what to say.
        on_step: called with a line of text before each step.

    Raises:
        ConversionError: the runtime refuses the file.
        ConfigError: the file to compare with is of another model.
    """
    options = benchmark.Options(num_threads=wanted.num_threads)
    device = (
        costs.this_device(options)
        if wanted.phones is None
        else costs.phone_device(wanted.phones, options)
    )
    meter = costs.Meter(costs.CostTable(device), wanted.phones, on_step=on_step)
    found = layers.profile(data, meter=meter, is_timed=wanted.is_timed, on_step=on_step)
    notes = [*wanted.notes, *_notes(found)]
    ideas: list[advice.Advice] = []
    pairs: list[advice.Pair] = []
    if wanted.is_timed:
        ideas = advice.advise(data, found, meter=meter)
        pairs = advice.separable_pairs(data, found, meter=meter)
    on_step("looking for redundant weights")
    dead: list[redundancy.DeadChannels] = []
    if wanted.samples:
        dead = redundancy.dead_activations(data, list(wanted.samples))
    else:
        notes.append("Dead activations are found on samples only: pass --data.")
    return {
        "schema_version": SCHEMA_VERSION,
        "model": wanted.name,
        "graph": graph_name(data),
        "total": _total(data, found),
        "device": found.device,
        "peaks": dataclasses.asdict(found.peaks) if found.peaks else None,
        "ops": [_row(row) for row in found.rows],
        "advice": _rows(ideas),
        "separable": _rows(pairs),
        "kernels": _rows(redundancy.kernels(data)),
        "batch_norm": _rows(
            redundancy.batch_norm_scales(wanted.graph) if wanted.graph else []
        ),
        "dead": _rows(dead),
        "against": _against(data, wanted, on_step=on_step),
        "notes": notes,
    }


def graph_name(data: bytes) -> str:
    """Returns what Model Explorer calls the file's main graph."""
    from tfslim.tflite import flatbuffer, reading

    name = flatbuffer.unpack(data).subgraphs[0].name
    return (reading.text(name) if name else "") or "main"


def _total(data: bytes, found: layers.Profile) -> dict[str, Any]:
    return {
        "size_bytes": len(data),
        "params": sum(row.work.params for row in found.rows),
        "macs": found.macs,
        "uncounted": found.uncounted,
        "weight_bytes": sum(row.work.weight_bytes for row in found.rows),
        "whole_us": found.whole_us,
        "sum_us": found.sum_us,
        "load_us": found.load_us,
        "first_us": found.first_us,
        "partitions": found.partitions,
    }


def _notes(found: layers.Profile) -> list[str]:
    unknown = [row for row in found.rows if row.unmeasured and row.us is None]
    if found.whole_us is None:
        return []
    if not unknown:
        ratio = found.sum_us / found.whole_us
        if abs(ratio - 1) <= _UNLIKE or abs(found.whole_us - found.sum_us) < _FEW_US:
            return []
        return [
            f"The ops' sum is {ratio:.2f} of the whole: something else ran on the "
            "machine while one of both was timed. Run it again on a quiet one; "
            f"without '{found.table}' the ops are timed anew."
        ]
    names = ", ".join(dict.fromkeys(row.op for row in unknown))
    rest = found.whole_us - found.sum_us
    return [
        f"{len(unknown)} ops cannot be timed alone ({names}: {unknown[0].unmeasured}); "
        f"the whole takes {rest:,.0f} us more than the others together."
    ]


def _against(data: bytes, wanted: Wanted, *, on_step: OnStep) -> dict[str, Any] | None:
    if wanted.against is None:
        return None
    name, other = wanted.against
    on_step(f"comparing with {name}, tensor by tensor")
    if tflite.read(data).is_quantized:
        raise errors.ConfigError(
            f"'{wanted.name}' is quantized itself: --against compares a float file "
            "with what was made of it."
        )
    samples = list(wanted.samples or _drawn(data))
    rows = intermediate.compare(data, other, samples=samples)
    return {
        "file": name,
        "num_samples": len(samples),
        "is_random": not wanted.samples,
        "tensors": _rows(rows),
        "broken": _rows(intermediate.broken(rows)),
    }


def _drawn(data: bytes) -> list[tflite.Inputs]:
    """Draws inputs, the same each time."""
    import numpy as np

    model = tflite.read(data)
    random = np.random.default_rng(0)
    return [
        {
            name: host.draw(random, name, tensor=model.tensors[index])
            for name, index in model.input_names.items()
        }
        for _ in range(_RANDOM)
    ]


def _row(row: layers.Row) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "intensity": row.work.intensity}


def _rows(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(value) for value in values]
