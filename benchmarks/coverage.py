"""What of Keras converts, quantizes and is cut: every layer, and networks in the wild.

Run as `make coverage`, or `python -m benchmarks.coverage --parts=wild --keras=keras`.
It writes results/coverage_PART_KERAS.json and docs/coverage.md, which has all of these.
A cell says how far a file is from Keras on random inputs, in dB, or why there is none.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

import tfslim
from benchmarks import record, wild
from tfslim import tflite

_PARTS = flags.DEFINE_list("parts", ["wild", "layers", "ops"], "what is tried")
_KERAS = flags.DEFINE_list("keras", ["keras", "tf_keras"], "of which Keras")
_NAMES = flags.DEFINE_list("names", [], "of these only, in the file of all")

RECIPES = ("float32", "float16", "dynamic_int8", "int8")
COLUMNS = ("carried", *RECIPES, "cut")
# A cell works from here on: what INT8 of small random networks reaches at least.
LEAST_DB = {"float32": 80.0, "float16": 40.0, "dynamic_int8": 15.0, "int8": 10.0}
_COUNT = 12
_PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"


def samples_of(model: Any) -> list[dict[str, np.ndarray]]:
    """Returns random inputs by name; integers below 8, which every table has."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(_COUNT):
        sample = {}
        for tensor in model.inputs:
            shape = (1, *tensor.shape[1:])
            dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
            name = tensor.name.split(":")[0]
            values = random.integers(0, 8, shape) if "int" in dtype else None
            values = random.normal(size=shape) if values is None else values
            sample[name] = values.astype(dtype)
        found.append(sample)
    return found


def try_model(model: Any, columns: tuple[str, ...] = COLUMNS) -> dict[str, Any]:
    """Returns a cell for each column: dB, a share of params, True, or the reason.

    Args:
        model: of either Keras.
        columns: of `COLUMNS`.
    """
    cells: dict[str, Any] = {}
    convert = functools.cache(lambda: tfslim.convert_model(model).tflite)
    for column in columns:
        try:
            cells[column] = _cell(model, column, convert)
        except tfslim.TfslimError as error:
            cells[column] = str(error)
        except Exception as error:
            cells[column] = f"CRASH {type(error).__name__}: {error}"[:200]
    return cells


def works(column: str, cell: Any) -> bool:
    """Tells whether a cell counts as working."""
    if isinstance(cell, str) or cell is None:
        return False
    return column not in LEAST_DB or cell >= LEAST_DB[column]


def _cell(model: Any, column: str, convert: Callable[[], bytes]) -> Any:
    from tfslim.graph import keras as graph_keras

    if column == "carried":
        kind = graph_keras.keras_of(model)
        written = graph_keras.write(graph_keras.read(model), kind)
        return written.count_params() == model.count_params()
    if column == "cut":
        budget = tfslim.Budget(pruning_ratio=0.5, divisor=1)
        smaller, _ = tfslim.prune_channels(model, budget=budget)
        return round(smaller.count_params() / max(model.count_params(), 1), 3)
    content = convert()
    samples = samples_of(model)
    if column != "float32":
        given = samples if column == "int8" else None
        content = tfslim.quantize_tflite(content, column, samples=given).tflite
    return _decibels(model, content, samples)


def _decibels(
    model: Any, content: bytes, samples: list[dict[str, np.ndarray]]
) -> float:
    """Returns the error of the worst output, at most 160."""
    import tensorflow as tf

    from tfslim.graph import keras as graph_keras

    runner = tflite.Runner(content)
    truth, found = [], []
    for sample in samples:
        packed = graph_keras.pack_inputs(model, list(map(tf.constant, sample.values())))
        outputs = tf.nest.flatten(model(packed, training=False))
        truth.append([np.asarray(each, np.float64) for each in outputs])
        found.append([np.asarray(each, np.float64) for each in runner(sample).values()])
    worst = 160.0
    outputs = zip(zip(*truth, strict=True), zip(*found, strict=True), strict=True)
    for one, other in outputs:
        signal = sum((each**2).sum() for each in one)
        noise = sum(((a - b) ** 2).sum() for a, b in zip(one, other, strict=True))
        if noise == 0:
            continue
        worst = min(worst, 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30)))
    return round(worst, 1)


def models(part: str, k: Any) -> Iterator[tuple[str, Any]]:
    """Yields names and functions to models of a part."""
    if part == "wild":
        for name, build in wild.WILD.items():
            yield name, lambda build=build: build(k)
        return
    if part == "ops":
        table = importlib.import_module("tests.graph.op_table")
        for row in table.ROWS if k.__name__ == "keras" else ():
            yield row.name, functools.partial(table.build, row, k)
        return
    table = importlib.import_module("tests.graph.layer_table")
    for row in table.rows(k):
        if row.kind != "text":  # Tables of words are split off before a file.
            yield row.name, lambda row=row: table.build(row, k)


def run(part: str, package: str, names: list[str]) -> None:
    """Tries all models of a part, and writes what is known after each.

    Args:
        part: one of `--parts`.
        package: of a Keras.
        names: of those to try again, which replaces their rows; none for all.
    """
    k = importlib.import_module(package)
    rows: dict[str, dict[str, Any]] = {}
    path = record.RESULTS / f"coverage_{part}_{package}.json"
    if names:
        rows = json.loads(path.read_text("utf-8"))["rows"]
    for name, build in models(part, k):
        if names and name not in names:
            continue
        start = time.monotonic()
        k.utils.set_random_seed(0)
        rows[name] = try_model(build())
        spent = time.monotonic() - start
        print(f"{part} {package} {name} ({spent:.1f} s): {rows[name]}", flush=True)
        k.backend.clear_session()
        conditions = {"part": part, "keras": package, "samples": _COUNT}
        record.save(path.stem, rows, tried_again=names, **conditions)
        _PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Returns docs/coverage.md, made of all results."""
    lines = [
        "# What of Keras works",
        "",
        "Made by `make coverage`: every function of `keras.ops` in a small network,",
        "every layer of both Keras alone, and networks as users write them, all with",
        "random weights. *carried*: read and written again.",
        "Files: the error against Keras on random inputs in dB, of the worst output",
        "(20 dB is a tenth). *cut*: the share of params that is left of half the",
        "channels, proved. Untrained weights and random inputs are harder on INT8 than",
        "real ones. What is bold is not good enough; a reason stands below its table.",
    ]
    for path in sorted(record.RESULTS.glob("coverage_*.json")):
        content = json.loads(path.read_text("utf-8"))
        lines += ["", *_table(content)]
    return "\n".join(lines) + "\n"


def _table(content: dict[str, Any]) -> Iterator[str]:
    part, package = content["conditions"]["part"], content["conditions"]["keras"]
    rows = content["rows"]
    yield f"## {part}, {package}"
    yield ""
    working = {c: sum(works(c, row[c]) for row in rows.values()) for c in COLUMNS}
    counts = ", ".join(f"{column} {n}" for column, n in working.items())
    yield f"Of {len(rows)}: {counts}."
    yield ""
    yield "| | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    reasons: dict[str, int] = {}
    for name, row in rows.items():
        cells = [_shown(column, row[column], reasons) for column in COLUMNS]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    for reason, number in reasons.items():
        yield f"- ({number}) {reason}"


def _shown(column: str, cell: Any, reasons: dict[str, int]) -> str:
    if isinstance(cell, str):
        return f"({reasons.setdefault(cell, len(reasons) + 1)})"
    if column in LEAST_DB:
        return f"{cell:.0f}" if works(column, cell) else f"**{cell:.0f}**"
    return "yes" if cell is True else str(cell)


def main(_: list[str]) -> None:
    """Tries what the flags name, and writes results and page."""
    for part in _PARTS.value:
        for package in _KERAS.value:
            run(part, package, _NAMES.value)


if __name__ == "__main__":
    app.run(main)
