"""The arrows between the rooms point down, and light things stay light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tfslim import commands

ROOT = Path(__file__).parents[1] / "tfslim"

_BASE = {
    *("errors", "registry", "files", "containers", "quiet", "escape", "streams"),
    *("checks", "fields", "settings", "ops", "recipe_names", "targets"),
}
_GROUND = _BASE | {"preprocessing", "tasks"}
_PRUNING = _GROUND | {"graph", "training", "pruning"}
_STEPS = _GROUND | {
    "tflite",
    "graph",
    "models",
    "data",
    "training",
    "convert",
    "quantization",
    "evaluation",
    "benchmark",
    "pruning",
    "slimming",
    "proximal",
    "bayesian",
    "activation",
    "factorization",
    "sparsity",
    "distillation",
    "detection",
}
# Room -> the rooms it may import. A room may always import itself.
ALLOWED = {
    "__init__": {"errors", "quiet"},
    "errors": {"escape"},
    "registry": {"errors"},
    "checks": {"errors", "registry"},
    "fields": {"errors", "registry"},
    "settings": {"fields"},
    "recipe_names": set(),
    "targets": {"errors", "files", "ops", "registry"},
    "files": {"errors"},
    "containers": {"errors"},
    "ops": set(),
    "quiet": set(),
    "escape": set(),
    "streams": set(),
    "preprocessing": _BASE,
    "tasks": _BASE | {"binary"},
    "binary": _BASE,
    "manifest": _BASE,
    "tflite": _BASE,
    "graph": _BASE,
    "models": _GROUND,
    "evaluation": _GROUND | {"tflite"},
    "data": _GROUND | {"tflite"},
    "loading": _GROUND | {"graph", "models"},
    "training": _GROUND | {"graph"},
    "pruning": _GROUND | {"graph", "training"},
    "slimming": _PRUNING,
    "proximal": _PRUNING,
    "bayesian": _PRUNING,
    "activation": _PRUNING,
    "factorization": _PRUNING,
    "sparsity": _PRUNING | {"tflite"},
    "distillation": _PRUNING | {"evaluation", "tflite"},
    "convert": _GROUND | {"graph", "tflite", "apps"},
    "quantization": _GROUND | {"graph", "tflite", "evaluation"},
    "apps": _GROUND | {"tflite"},
    "consumers": _GROUND | {"tflite", "evaluation"},
    "benchmark": _BASE | {"tflite"},
    "detection": _GROUND | {"graph", "tflite"},
    "analysis": _STEPS,
    "search": _STEPS,
    "report": _BASE | {"evaluation"},
    "callbacks": {"slimming", "training"},
    "optimizers": {"proximal"},
    "config": _BASE,
    "output_paths": _BASE | {"quantization"},
    "interruption": set(),
    "cli": _BASE | {"config", "interruption"},
    "commands": _BASE | {"cli"},
    "completion": _BASE | {"cli", "commands", "models"},
}
# The commands that are one module.
_COMMANDS = {module.split(".")[1] for module, _ in commands.COMMANDS.values()}
TOP = {"pipeline", "__main__"} | (_COMMANDS - ALLOWED.keys())

KERAS = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization"}
# Room (or file) prefix -> heavy packages it may import.
HEAVY = {
    "graph/keras": KERAS - {"tensorflow_model_optimization"},
    "models": {"tf_keras"},
    "data": {"tensorflow", "tensorflow_datasets"},
    "training": KERAS,
    "pruning": KERAS,
    "slimming": KERAS,
    "proximal": KERAS,
    "bayesian": KERAS,
    "activation": KERAS,
    "factorization": KERAS,
    "sparsity": KERAS,
    "distillation": KERAS,
    "loading": {"tensorflow"},
    "convert": KERAS,
    "detection/loss": KERAS,
    "pipeline": KERAS,
}

FILES = sorted(ROOT.rglob("*.py"))


def _room(path: Path) -> str:
    relative = path.relative_to(ROOT)
    if relative.name == "__main__.py":
        return "__main__"  # A command line, whichever room it stands in.
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_points_up(path):
    room = _room(path)
    if room in TOP:
        return
    inner = {
        name.split(".")[1] for name in _imports(path) if name.startswith("tfslim.")
    }
    # The version is a fact about the package, not a room.
    rest = inner - ALLOWED[room] - {room, "__version__"}
    assert not rest, f"{path.relative_to(ROOT)} must not import {sorted(rest)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tensorflow_only_at_the_edges(path):
    relative = path.relative_to(ROOT).as_posix()
    allowed = set().union(*(v for k, v in HEAVY.items() if relative.startswith(k)))
    heavy = {name.split(".")[0] for name in _imports(path)} & (
        KERAS | {"tensorflow_datasets"}
    )
    assert heavy <= allowed, f"{relative} must not import {sorted(heavy - allowed)}"


def test_the_table_has_no_circle():
    graphlib.TopologicalSorter({a: b - {a} for a, b in ALLOWED.items()}).prepare()


def test_tfmot_stands_behind_one_door():
    users = [
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if any(n.startswith("tensorflow_model_optimization") for n in _imports(path))
    ]
    assert users
    assert all(user.startswith("sparsity/") for user in users), users


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("name", ["tfslim", "tfslim.detection", "tfslim.detect"])
def test_import_brings_no_tensorflow(name):
    assert not _modules_after(f"import {name}") & KERAS


def test_every_public_name_exists_and_is_not_a_module():
    import types

    import tfslim

    for name in tfslim.__all__:
        assert not isinstance(getattr(tfslim, name), types.ModuleType), name


@pytest.mark.parametrize("users", [None, pytest.param("1", marks=pytest.mark.slow)])
def test_tfmot_leaves_the_users_keras_alone(users, monkeypatch):
    # At import TF-MOT sets TF_USE_LEGACY_KERAS=1, after which tf.keras is tf_keras.
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    if users:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", users)
    code = (
        "import os, tensorflow as tf; from tfslim import sparsity;"
        "import tensorflow.compat.v2 as v2;"
        "print(tf.keras.Model.__module__, v2.keras.Model.__module__,"
        " os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    *modules, left = result.stdout.split()[-3:]
    wanted = "tf_keras" if users else "keras"
    assert [module.split(".")[0] for module in modules] == [wanted, wanted]
    assert left == str(users)
