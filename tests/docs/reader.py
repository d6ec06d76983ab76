"""What a reader of the docs has: the files that are named, the variables of code."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
_LABELS = ("cat", "dog", "owl")


def code_blocks(page: Path) -> list[str]:
    """Returns the Python of a page, block by block."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """Yields the arguments of each command line of tfslim on a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    is_fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        found = re.match(r"(    )?(?:python -m tfslim[. ]|tfslim )(\S.*)", line)
        if found and (is_fenced or found[1]) and "…" not in line:
            yield shlex.split(found[2], comments=True)


@functools.cache
def images(seed: int = 0, count: int = 36) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures [n, 32, 32, 3] of 0..255 with one strong color, and which."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(_LABELS)
    pixels = random.integers(0, 120, (count, 32, 32, 3))
    pixels[np.arange(count), ..., labels] += 120
    return pixels.astype(np.uint8), labels


def write_files(folder: Path, model: Any) -> None:
    """Writes what the command lines name."""
    import tfslim
    from tfslim import preprocessing

    pixels, labels = images()
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "photos" / _LABELS[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    Image.fromarray(pixels[0]).save(folder / "photo.jpg")
    for name in ("my_model.keras", "model.keras"):
        model.save(folder / name)
    entry = {
        "name": "pets",
        "task": "classification",
        "labels": list(_LABELS),
        "preprocessing": preprocessing.preset("raw", (32, 32, 3)).to_json(),
    }
    content = tfslim.convert_model(model, metadata=entry).tflite
    for name in ("float", "model", "old", "new"):
        (folder / f"{name}.tflite").write_bytes(content)
    small = tfslim.quantize_tflite(content, "dynamic_int8").tflite
    (folder / "int8.tflite").write_bytes(small)
    recipes = {"quantization": {"recipes": ("float32", "dynamic_int8")}}
    first, *others = ("quickstart", "a", "b", "first", "second")
    tfslim.export_model(model, out_dir=folder / "out" / first, config=recipes)
    for name in others:
        shutil.copytree(folder / "out" / first, folder / "out" / name)
    np.savez(folder / "set.npz", x=np.float32(pixels), y=labels)
    (folder / "my_config.py").write_text(
        "def get_config():\n"
        "    return {'model': {'name': 'mlp'}, 'training': {'epochs': 1}}\n"
    )


def model() -> Any:
    """Returns a small network of Keras 3 with a batch normalization."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for filters in (16, 24):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


def names() -> dict[str, Any]:
    """Returns the variables that code on a page takes for granted."""
    import tensorflow as tf

    import tfslim

    pixels, labels = images()
    x, y = np.float32(pixels[:24]), labels[:24]
    x_val, y_val = np.float32(pixels[24:]), labels[24:]
    given = model()
    given.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return {
        "tf": tf,
        "tfslim": tfslim,
        "model": given,
        "my_keras_model": given,
        "x": x,
        "y": y,
        "x_val": x_val,
        "y_val": y_val,
        "x_and_y": (x, y),
        "train": (x, y),
        "validation": (x_val, y_val),
        "test": (x_val, y_val),
        "texts": np.array([["red"], ["blue"]]),
        "Path": Path,
        "loss": "sparse_categorical_crossentropy",
        "learning_rate": 0.05,
    }
