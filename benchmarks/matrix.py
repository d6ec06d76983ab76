"""Tries tfslim in the oldest and newest environment, and without what it may lack.

Run as `make matrix`. Each environment is made in build/matrix, gets its packages by
pip, and does a few jobs of each Keras: see `JOBS`. What an older version lacks comes as
one line. Of the Pythons those are tried that are on the PATH, as python3.12. It writes
results/matrix.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import record
from tfslim import tflite

_NAMES = flags.DEFINE_list("environments", [], "of these only; none: all")
_INSIDE = flags.DEFINE_bool("inside", False, "do the jobs here, and print JSON")

_ROOT = Path(__file__).parents[1]
_FLOAT = _ROOT / "build" / "matrix" / "float.tflite"
# What pip gets in place of, or with, the extra "tensorflow".
_NEWEST = ["{root}[tensorflow]", "tensorflow==2.21.*", "tf_keras==2.21.*"]
ENVIRONMENTS = {
    "oldest": [
        "{root}[tensorflow]",
        "tensorflow==2.18.*",
        "tf_keras==2.18.*",
        "keras==3.5.0",
        "numpy==2.0.*",
    ],
    "newest": _NEWEST,
    "python3.12": _NEWEST,
    "python3.13": _NEWEST,
    "without TF-MOT": ["{root}", "tensorflow==2.21.*", "tf_keras==2.21.*", "keras"],
    "base": ["{root}"],
}


def _model(k: Any) -> Any:
    image = k.Input((8, 8, 3))
    x = k.layers.Conv2D(32, 3)(image)
    x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
    x = k.layers.GlobalAveragePooling2D()(k.layers.Conv2D(16, 3)(x))
    return k.Model(image, k.layers.Dense(3, activation="softmax")(x))


def _data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 8, 8, 3)).astype("float32")
    return x, random.integers(0, 3, 32)


def _prune(tfslim: Any, k: Any) -> None:
    model = _model(k)
    smaller, _ = tfslim.prune_channels(model, pruning_ratio=0.5)
    assert smaller.count_params() < model.count_params()


def _fit(tfslim: Any, k: Any) -> None:
    options = tfslim.FitOptions(epochs=1)
    tfslim.fit(_model(k), _data(), task="classification", options=options)


def _export(tfslim: Any, k: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = tfslim.export_model(
            _model(k), out_dir=folder, train_data=_data(), eval_data=_data()
        )
    assert not result["failed"], result["failed"]


def _lstm(tfslim: Any, k: Any) -> None:
    steps = k.Input((6, 4))
    model = k.Model(steps, k.layers.Dense(2)(k.layers.LSTM(8)(steps)))
    content = tfslim.convert_model(model).tflite
    names = [op.name for op in tflite.read(content).ops]
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in names, names


def _sparsify(tfslim: Any, k: Any) -> None:
    options = tfslim.FitOptions(epochs=1)
    tfslim.sparsify(_model(k), _data(), options=options)


JOBS: dict[str, Callable[[Any, Any], None]] = {
    "prune": _prune,
    "fit": _fit,
    "lstm": _lstm,
    "export": _export,
    "sparsify": _sparsify,
}


def inside() -> dict[str, str]:
    """Does the jobs in this environment; returns job -> "ok" or the one line."""
    import importlib

    import tfslim

    content = _FLOAT.read_bytes()
    small = tfslim.quantize_tflite(content, "dynamic_int8").tflite
    found = {"quantize a file": "ok" if len(small) < len(content) else "is no smaller"}
    for package in ("keras", "tf_keras"):
        for name, job in JOBS.items():
            try:
                job(tfslim, importlib.import_module(package))
                said = "ok"
            except (tfslim.TfslimError, ModuleNotFoundError) as error:
                said = str(error)
            except Exception as error:
                said = f"CRASH {type(error).__name__}: {error}"[:300]
            found[f"{name}, {package}"] = said
    return found


def _try(name: str) -> dict[str, str]:
    """Makes an environment and does the jobs in it."""
    interpreter = shutil.which(name) if name.startswith("python") else sys.executable
    if interpreter is None:
        return {"skipped": f"There is no {name} on the PATH."}
    folder = _ROOT / "build" / "matrix" / name.replace(" ", "_")
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    packages = [each.format(root=_ROOT) for each in ENVIRONMENTS[name]]
    command = [python, "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [python, "-m", "benchmarks.matrix", "--inside"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(_: list[str]) -> None:
    """Tries the environments that the flags name, and writes what came of them."""
    if _INSIDE.value:
        sys.stdout.write(json.dumps(inside()) + "\n")
        return
    import keras

    import tfslim

    _FLOAT.parent.mkdir(parents=True, exist_ok=True)
    _FLOAT.write_bytes(tfslim.convert_model(_model(keras)).tflite)
    rows = {}
    for name in _NAMES.value or ENVIRONMENTS:
        rows[name] = _try(name)
        print(name, json.dumps(rows[name], indent=1), flush=True)
        if not _NAMES.value:
            record.save("matrix", rows, environments=ENVIRONMENTS)


if __name__ == "__main__":
    app.run(main)
