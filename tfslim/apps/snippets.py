"""Code that runs a file in an app, filled in with what the file says of itself."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfslim import tflite
from tfslim.apps.about import About, is_one_pair, normalization, read_about
from tfslim.preprocessing import RESIZE_METHODS, Preprocessing

_TEMPLATES = Path(__file__).with_name("templates")
PYTHON, KOTLIN_GPU = "app_python.py", "app_compiled.kt"
# MediaPipe opens classifiers whose normalization is one pair of numbers.
_MEDIAPIPE = {
    "app_mediapipe.kt": "mediapipe_kotlin.txt",
    "app_mediapipe.swift": "mediapipe_swift.txt",
}
_NO_INT8 = "\n// A GPU may get INT8 files wrong: give it float16.tflite."
_COLORS = ("Color.red", "Color.green", "Color.blue")


def app_code(files: Mapping[str, bytes]) -> dict[str, str]:
    """Writes the code of apps for the variants of a model.

    A CPU gets the INT8 file where there is one, a GPU the float16 file.

    Args:
        files: name of the file -> its content.

    Returns:
        Name of the file of code -> its text; {} for a model of no image.
    """
    for_cpu = _first(files, ("int8.tflite", "dynamic_int8.tflite"))
    for_gpu = _first(files, ("float16.tflite", "float32.tflite"))
    if for_cpu is None or for_gpu is None:
        return {}
    about = read_about(files[for_cpu])
    shape = tflite.read(files[for_cpu]).inputs[0].shape
    prepare = about.preprocessing
    if prepare is None or not prepare.is_image or len(shape) != 4 or shape[0] != 1:
        return {}
    cpu = _fields(for_cpu, files[for_cpu], about=about, prepare=prepare)
    code = {PYTHON: _filled("python.txt", cpu)}
    ends = tflite.read(files[for_gpu])
    if all(tensor.dtype == "float32" for tensor in (*ends.inputs, *ends.outputs)):
        gpu = _fields(for_gpu, files[for_gpu], about=about, prepare=prepare)
        code[KOTLIN_GPU] = _filled("compiled_kotlin.txt", gpu)
    if _opens_in_mediapipe(files[for_cpu], about, prepare=prepare):
        code |= {name: _filled(source, cpu) for name, source in _MEDIAPIPE.items()}
    return code


def _first(files: Mapping[str, bytes], wanted: Sequence[str]) -> str | None:
    return next((name for name in (*wanted, *files) if name in files), None)


def _opens_in_mediapipe(
    content: bytes, about: About, *, prepare: Preprocessing
) -> bool:
    has_color = prepare.input_shape[-1] == 3
    return bool(about.labels) and is_one_pair(prepare) and has_color


def _filled(template: str, fields: Mapping[str, str]) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return string.Template(text).substitute(fields)


def _fields(
    file: str, content: bytes, *, about: About, prepare: Preprocessing
) -> dict[str, str]:
    model = tflite.read(content)
    height, width, channels = prepare.input_shape
    mean, std = normalization(prepare)
    # In float32, as they are used, and as short as they can be written.
    means, stds = ([_number(value) for value in values] for values in (mean, std))
    shapes = {name: model.tensors[i].shape for name, i in model.output_names.items()}
    labels = list(about.labels)
    return {
        "file": file,
        "stem": Path(file).stem,
        "class_name": _class_name(about.name),
        "height": str(height),
        "width": str(width),
        "channels": str(channels),
        "mean": f"[{', '.join(means)}]",
        "std": f"[{', '.join(stds)}]",
        "order": prepare.channel_order,
        "resize": RESIZE_METHODS[prepare.resize].name,
        "labels": json.dumps(labels, ensure_ascii=False),
        "num_labels": str(len(labels)),
        "outputs": ", ".join(f"{_plain(n)} {list(s)}" for n, s in shapes.items()),
        "advice": _NO_INT8 if model.is_quantized else "",
        "channel_lines": _channel_lines(prepare, len(means)),
        "kotlin_mean": ", ".join(f"{value}f" for value in means),
        "kotlin_std": ", ".join(f"{value}f" for value in stds),
        "kotlin_labels": ", ".join(_kotlin(label) for label in labels),
    }


def _number(value: float) -> str:
    return f"{np.float32(value)!s}"


def _class_name(name: str) -> str:
    """Returns a name of a class in Kotlin and Swift."""
    words = re.findall(r"[A-Za-z0-9]+", Path(name).stem)
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return joined if joined[:1].isalpha() else f"Model{joined}"


def _plain(name: str) -> str:
    """Returns a name that ends no comment."""
    return re.sub(r"[^\w .:;/-]", "_", name).replace("*/", "__")


def _kotlin(text: str) -> str:
    """Returns a string literal; a $ begins a template there."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


def _channel_lines(prepare: Preprocessing, pairs: int) -> str:
    """Returns a line for each channel of a pixel."""
    channels = prepare.input_shape[-1]
    colors = [f"{color}(pixel)" for color in _COLORS]
    if prepare.channel_order == "bgr":
        colors.reverse()
    if channels == 1:
        red, green, blue = colors
        colors = [f"(0.299f * {red} + 0.587f * {green} + 0.114f * {blue})"]
    lines = []
    for index, color in enumerate(colors):
        pair = index if pairs > 1 else 0
        at = f"place * CHANNELS + {index}" if channels > 1 else "place"
        lines.append(f"values[{at}] = ({color} - MEAN[{pair}]) / STD[{pair}]")
    return "\n            ".join(lines)
