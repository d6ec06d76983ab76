"""What the papers' scripts share: data, rows that outlive a kill, and measurements."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record

Arrays = tuple[np.ndarray, np.ndarray]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns the flags that all of these scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="minutes, not hours")
    parser.add_argument("--seeds", default="0,1,2", type=_numbers)
    parser.add_argument("--work_dir", default=Path("out/papers"), type=Path)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


class Rows:
    """The rows of a result, saved one by one; those that are there are not made anew.

    A file made under other conditions is begun anew.
    """

    def __init__(self, name: str, **conditions: Any):
        """Reads what an earlier run under the same conditions left."""
        self._name = name
        self._conditions = json.loads(json.dumps(conditions))
        self.rows: list[dict[str, Any]] = []
        path = record.RESULTS / f"{name}.json"
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["conditions"] == self._conditions:
                self.rows = content["rows"]

    def make(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Returns the row of a key, made by `make` unless it is there already."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        started = time.perf_counter()
        row = {**key, **make()}
        row["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps(row), flush=True)
        self.rows.append(row)
        record.save(self._name, self.rows, **self._conditions)
        return row


def data_folder() -> Path:
    """Returns the folder of the data sets.

    Raises:
        SystemExit: the variable is not set.
    """
    folder = os.environ.get("TFSLIM_DATA")
    if not folder:
        raise SystemExit("Set TFSLIM_DATA to the folder that docs/data.md describes.")
    return Path(folder)


def mnist(validation: int = 2000) -> dict[str, Arrays]:
    """Returns MNIST at 32x32x1 in [0, 1], two pixels of black around each image.

    Args:
        validation: how many of the 60,000 images choose the best epoch.
    """

    def read(name: str, head: int) -> np.ndarray:
        with gzip.open(data_folder() / "mnist" / f"{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=head)

    def split(name: str) -> Arrays:
        x = read(f"{name}-images-idx3", 16).reshape(-1, 28, 28, 1)
        x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))).astype(np.float32) / 255.0
        return x, read(f"{name}-labels-idx1", 8).astype(np.int64)

    x, y = split("train")
    return {
        "train": (x[:-validation], y[:-validation]),
        "validation": (x[-validation:], y[-validation:]),
        "test": split("t10k"),
    }


def flowers(pixels: int) -> dict[str, Arrays]:
    """Returns photos of five flowers in [-1, 1]; `test` is a folder of its own."""
    import tfslim
    from tfslim import data, preprocessing

    dataset = tfslim.load_data(f"folder:{data_folder() / 'flowers'}", seed=0)
    steps = preprocessing.preset("symmetric", (pixels, pixels, 3))
    splits = {}
    for name in ("train", "validation", "test"):
        parts = list(data.batches(getattr(dataset, name), steps, batch_size=64))
        x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        splits[name] = (x, y.astype(np.int64))
    return splits


def size(model: Any) -> dict[str, int]:
    """Returns the weights and multiply-accumulates of a Keras model."""
    from tfslim.graph import count, keras

    counts = count.count(keras.read(model))
    return {"params": counts.params, "macs": counts.macs}


def accuracy(model: Any, data: Arrays) -> float:
    """Returns the share of the images that a Keras model names rightly."""
    outputs = model.predict(data[0], batch_size=250, verbose=0)
    return round(float((outputs.argmax(1) == data[1]).mean()), 4)


def file_accuracy(content: bytes, data: Arrays) -> float:
    """Returns the same of a `.tflite` file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    [entry] = interpreter.get_input_details()
    [exit_] = interpreter.get_output_details()
    right = 0
    for image, label in zip(*data, strict=True):
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(exit_["index"]).argmax() == label)
    return round(right / len(data[1]), 4)


def times(files: dict[str, bytes], rounds: int = 5) -> dict[str, float]:
    """Returns the median latency of each file in microseconds, one thread.

    The files take turns, so that what else the machine does meets them all.
    """
    from tfslim import benchmark

    options = benchmark.BenchmarkOptions(num_runs=10, rounds=rounds)
    results = benchmark.run_host(files, options)
    return {
        name: round(result.latency.p50, 1)
        for name, result in zip(files, results, strict=True)
    }
