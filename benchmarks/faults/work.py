"""The small jobs that are disturbed, and what their results must look like."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.faults import children

EXPORT = [
    "--data=npz:data.npz",
    "--benchmark=",
    "--quantize=float32,int8",
    "--config.model.preprocessing=unit",
    "--out_dir=out",
]
QUANTIZE = ["model.tflite", "--data=npz:data.npz", "--preprocessing=unit"]
QUANTIZE += ["--out=out.tflite", "--samples=8", "--eval_samples=8", "--overwrite"]


def write_inputs(folder: Path) -> None:
    """Writes data.npz, two models and a float .tflite; runs in a child."""
    import keras

    import tfslim

    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = random.integers(0, 100, (90, 8, 8, 1), "uint8")
    x[np.arange(90), labels] += 150  # Something to learn.
    np.savez(
        folder / "data.npz",
        x_train=x[:60],
        y_train=labels[:60],
        x_test=x[60:],
        y_test=labels[60:],
    )
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4 + seed, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x[:60] / 255.0, labels[:60], epochs=20, verbose=0)
        model.save(folder / f"model{seed}.keras")
    (folder / "model.tflite").write_bytes(tfslim.convert_model(model).tflite)


def problem_of(folder: Path, *, must_be_whole: bool) -> str | None:
    """Says what is wrong with a folder of results, by reading it on its own.

    A folder without a manifest is no result, which a killed job may leave; what
    stands in it under a final name must be whole all the same.
    """
    if not folder.exists():
        return "no result" if must_be_whole else None
    manifest = folder / "manifest.json"
    if manifest.exists():
        named = json.loads(manifest.read_text())["files"]
        for name, facts in named.items():
            path = folder / name
            if not path.exists():
                return f"the manifest names {name}, which is not there"
            if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
                return f"{name} is not the file that the manifest names"
        rest = {path.name for path in folder.glob("[!.]*")} - {*named, manifest.name}
        if rest:
            return f"not of this result: {sorted(rest)}"
    elif must_be_whole:
        return "no manifest"
    for path in folder.glob("[!.]*"):
        problem = _damage(path)
        if problem is not None:
            return f"{path.name}: {problem}"
    return None


def _damage(path: Path) -> str | None:
    if path.suffix == ".tflite":
        return None if path.read_bytes()[4:8] == b"TFL3" else "no .tflite"
    if path.suffix == ".json":
        try:
            json.loads(path.read_text())
        except ValueError as error:
            return str(error)
    if path.suffix == ".keras":
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.testzip()
        except zipfile.BadZipFile as error:
            return str(error)
    return None


def contents(folder: Path) -> dict[str, bytes]:
    """Returns what a finished job must write again, bit for bit."""
    return {path.name: path.read_bytes() for path in folder.glob("*.tflite")}


def prepare(folder: Path) -> None:
    """Makes `folder` with the inputs of the jobs."""
    folder.mkdir(parents=True)
    done = children.call(write_inputs, (folder.absolute(),), folder)
    if done.code != 0:
        raise RuntimeError(done.stderr)
