"""Every code block and command line of the docs, as a reader would try them."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import reader

from tfslim import cli, commands

# Pages whose code takes more than some seconds.
_SLOW = {
    "activation_pruning",
    "bayesian",
    "distillation",
    "iterative",
    "proximal",
    "quantization",
    "slimming",
    "sparsity",
    "training",
}
_COMMANDS = [
    pytest.param(page, words, id=f"{page.stem}: {' '.join(words)[:70]}")
    for page in reader.PAGES
    for words in reader.commands(page)
]
# What needs a phone, a camera, a network or another program; each has tests of its own.
_WRITES = {"export", "prune", "quantize"}
_ELSEWHERE = {"completion", "consumers", "detect", "verify"}


def _pages():
    for page in reader.PAGES:
        if reader.code_blocks(page):
            marks = [pytest.mark.slow] if page.stem in _SLOW else []
            yield pytest.param(page, id=page.stem, marks=marks)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    reader.write_files(folder, reader.model())
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A working folder with all files that the docs name."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", list(_pages()))
@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_page_runs(page, here):
    known = reader.names() | _more(page.stem)
    for block in reader.code_blocks(page):
        exec(compile(block, page.name, "exec"), known)


def _more(page):
    """Returns what the text of a page has made before its code."""
    return {
        "activation_pruning": _counting,
        "detection": _detecting,
        "distillation": _learning,
        "export": _exporting,
        "own_model": dict,
        "quantization": _mapping,
        "report": _reporting,
        "slimming": lambda: {"loss": 0.0},
        "sparsity": _sparse,
    }.get(page, dict)()


def _counting():
    from tfslim.graph import count
    from tfslim.graph import keras as graph_keras

    return {"count": count, "graph_keras": graph_keras}


def _detecting():
    import tfslim
    from tfslim import detection, preprocessing
    from tfslim.detection import info

    model = tfslim.build_model(
        "yolov3_tiny", input_shape=(64, 64, 3), num_classes=2, alpha=0.125
    )
    heads = tuple(
        detection.Head(head.anchors, head.stride, 2)
        for head in detection.YOLOV3_TINY_HEADS
    )
    tfslim.save_darknet(model, heads, cfg="yolov3.cfg", weights_file="yolov3.weights")
    random = np.random.default_rng(0)
    image = random.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    boxes = np.array([[0.1, 0.1, 0.5, 0.5]])
    about = info.DetectorInfo(
        preprocessing=preprocessing.preset("unit", (64, 64, 3)),
        heads=heads,
        outputs="decoded",
        labels=("red", "blue"),
    )
    return {
        "detection": detection,
        "maps": [np.asarray(part) for part in model(image)],
        "heads": heads,
        "detections": [detection.Detections(boxes, np.array([0.9]), np.array([0]))],
        "truths": [detection.Truth(boxes, np.array([0]))],
        "info": about,
        "samples": [{"input": image}],
    }


def _learning():
    teacher, student = reader.model(), reader.model()
    return {"teacher": teacher, "student": student}


def _exporting():
    def my_metric(predict):
        pixels, labels = reader.images()
        [scores] = predict(np.float32(pixels))
        return float((scores.argmax(axis=1) == labels).mean())

    return {"my_training": lambda model: model, "my_metric": my_metric}


def _mapping():
    import tfslim
    from tfslim import quantization

    content = tfslim.convert_model(reader.model()).tflite
    return {"quantization": quantization, "float_file": content}


def _reporting():
    import tfslim

    result = tfslim.export_model(
        reader.model(),
        out_dir="out",
        config={"quantization": {"recipes": ("float32",)}},
    )
    costs = [{"name": "conv", "before": 10.0, "after": 4.0}]
    histograms = [
        {
            "name": "conv",
            "edges": [0.0, 1.0, 2.0],
            "counts": [3, 1],
            "thresholds": {"min-max": [0.0, 2.0]},
        }
    ]
    return {"result": result, "costs": costs, "histograms": histograms}


def _sparse():
    import tensorflow as tf
    import tf_keras

    pixels, labels = reader.images()
    model = tf_keras.Sequential(
        [
            tf_keras.Input((32, 32, 3)),
            tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(3, activation="softmax"),
        ]
    )
    data = tf.data.Dataset.from_tensor_slices((np.float32(pixels), labels)).batch(8)
    return {"model": model, "data": data}


class _Understood(Exception):
    """What was typed is right; nothing is to be run."""


@pytest.mark.parametrize(("page", "words"), _COMMANDS)
def test_a_command_line_is_understood(page, words, files, monkeypatch):
    """Its command, flags, configs and names exist."""
    monkeypatch.chdir(files)
    whole = cli._parse

    def parse_only(*arguments, **options):
        whole(*arguments, **options)
        raise _Understood

    # Not `run`: a command holds on to it.
    monkeypatch.setattr(cli, "_parse", parse_only)
    with pytest.raises(_Understood):
        commands.main(["tfslim", *words])


@pytest.mark.slow
@pytest.mark.parametrize("page", reader.PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, here):
    """In their order, in one folder, with small networks and short trainings."""
    settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for words in reader.commands(page):
        if words[0] in _ELSEWHERE:
            continue
        again = ["--overwrite"] if words[0] in _WRITES else []
        short = ["--config.training.epochs=1"] if "--epochs=20" in words else []
        done = subprocess.run(
            [sys.executable, "-m", "tfslim", *words, *short, *again],
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr[-2000:])


def test_pages_made_from_the_code_are_current():
    sys.path.insert(0, str(reader.ROOT / "docs"))
    make_pages = importlib.import_module("make_pages")
    for name, make in make_pages.PAGES.items():
        written = (reader.ROOT / "docs" / name).read_text(encoding="utf-8")
        assert written == make(), f"run python docs/make_pages.py: {name} is old"
