"""Instructions of arm64 that networks run, whole and op by op, counted by QEMU.

  python -m benchmarks.instructions
  python -m benchmarks.instructions --models=mobilenet_v1 --cpus=cortex-a53

A plugin of QEMU (instructions.c, built with gcc) counts what LiteRT's Interpreter with
XNNPACK runs on one emulated thread: the same on every machine, whatever else runs. It
needs `tfslim consumers --setup=arm64`, apt-get, dpkg-deb and gcc; QEMU with
plugins is unpacked beside that, not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record

MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
CPUS = ("cortex-a76", "cortex-a53")
# One thread of a Pixel 3a, float32: https://github.com/google/XNNPACK, its README.
PIXEL_3A_MS = {
    "mobilenet_v1": 88,
    "mobilenet_v2": 55,
    "mobilenet_v3_large": 44,
    "mobilenet_v3_small": 14,
}
_RUNS = 2
_PACKAGES = ("qemu-user", "libcapstone4", "liburing2")
_GUEST = """
import glob, os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def ask(number):
    try:
        os.close(-number)
    except OSError:
        pass

random = np.random.default_rng(0)
for number, path in enumerate(sorted(glob.glob(sys.argv[2] + "/*.tflite"))):
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        values = random.uniform(-1, 1, entry["shape"])
        if np.dtype(entry["dtype"]).kind != "f":
            values = values * 100
        interpreter.set_tensor(entry["index"], values.astype(entry["dtype"]))
    interpreter.invoke()
    ask(1000 + 2 * number)
    for _ in range(int(sys.argv[3])):
        interpreter.invoke()
    ask(1001 + 2 * number)
"""


def _emulator() -> tuple[Path, Path]:
    """Unpacks QEMU with plugins, and builds ours; returns both."""
    from tfslim.consumers import base

    own = base.folder("instructions")
    own.mkdir(parents=True, exist_ok=True)
    found = own / "usr" / "bin" / "qemu-aarch64"
    if not found.exists():
        subprocess.run(["apt-get", "download", *_PACKAGES], cwd=own, check=True)
        for package in own.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, own], check=True)
    plugin, source = own / "count.so", Path(__file__).with_name("instructions.c")
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(plugin), str(source)]
    subprocess.run(command, check=True)
    return found, plugin


def count(files: list[bytes], cpu: str) -> list[int]:
    """Returns the instructions of one run of each file, the first run apart."""
    from tfslim.consumers import arm64, base

    emulator, plugin = _emulator()
    libraries = emulator.parents[1] / "lib" / "x86_64-linux-gnu"
    arm = base.folder("arm64")
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(files):
            Path(folder, f"{number:05}.tflite").write_bytes(content)
        script = Path(folder, "guest.py")
        script.write_text(_GUEST, encoding="utf-8")
        options = ["-cpu", cpu, "-plugin", str(plugin), "-L", str(arm / "root")]
        options += ["-E", "LD_LIBRARY_PATH=", "-E", "PYTHONHOME="]
        python = str(arm64.python_of(arm / "root"))
        guest = [python, str(script), str(arm / "site"), folder, str(_RUNS)]
        done = subprocess.run(
            [str(emulator), *options, *guest],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"The emulated program fails: {done.stderr[-500:]}")
    asked = dict(re.findall(r"^count (\d+) (\d+)$", done.stderr, re.M))
    marks = {int(number): int(value) for number, value in asked.items()}
    return [
        (marks[1001 + 2 * number] - marks[1000 + 2 * number]) // _RUNS
        for number in range(len(files))
    ]


def _files(name: str) -> dict[str, bytes]:
    import tf_keras

    import tfslim

    tf_keras.utils.set_random_seed(0)
    model = tfslim.build_model(name)
    floating = tfslim.convert_model(model).tflite
    shape = (1, *model.inputs[0].shape[1:])
    samples = [
        np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
        for seed in range(2)
    ]
    done = tfslim.quantize_tflite(floating, "int8", samples=samples)
    return {"float32": floating, "int8": done.tflite}


def _rows(name: str, recipe: str, content: bytes, *, cpu: str) -> dict[str, Any]:
    from tfslim import tflite
    from tfslim.benchmark import costs

    graph = tflite.read(content).graphs[0]
    pieces = costs.specs_of(content)
    ops = [op for op, piece in zip(graph.ops, pieces, strict=True) if piece is not None]
    keys = [piece.key for piece in pieces if piece is not None]
    unique = dict(zip(keys, ops, strict=True))
    singles = [tflite.single_op(content, op.index) for op in unique.values()]
    whole, *parts = count([content, *singles], cpu)
    by_key = dict(zip(unique, parts, strict=True))
    kinds: dict[str, int] = {}
    for op, key in zip(ops, keys, strict=True):
        kinds[op.name] = kinds.get(op.name, 0) + by_key[key]
    return {
        "model": name,
        "recipe": recipe,
        "cpu": cpu,
        "instructions": whole,
        "sum_of_ops": sum(kinds.values()),
        "by_op": kinds,
        "ops": [
            {"op": op.name, "tensor": graph.name_of(op), "instructions": by_key[key]}
            for op, key in zip(ops, keys, strict=True)
        ],
    }


def _table() -> str:
    rows = json.loads((record.RESULTS / "instructions.json").read_text())["rows"]
    found = {(r["model"], r["recipe"], r["cpu"]): r["instructions"] for r in rows}
    columns = list(dict.fromkeys(key[1:] for key in found))
    titles = [f"{recipe}, {cpu.removeprefix('cortex-')}" for recipe, cpu in columns]
    lines = [
        f"| network | {' | '.join(titles)} | Pixel 3a, float32 |",
        "|---" + "|---:" * (len(columns) + 1) + "|",
    ]
    for model in dict.fromkeys(key[0] for key in found):
        cells = [f"{found[model, *column] / 1e6:.0f} M" for column in columns]
        lines.append(f"| {model} | {' | '.join(cells)} | {PIXEL_3A_MS[model]} ms |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cpus", default=",".join(CPUS))
    parser.add_argument("--table", action="store_true", help="Show the results.")
    options = parser.parse_args()
    if options.table:
        print(_table())
        return
    rows = []
    for name in options.models.split(","):
        for recipe, content in _files(name).items():
            for cpu in options.cpus.split(","):
                rows.append(_rows(name, recipe, content, cpu=cpu))
                row = rows[-1]
                print(name, recipe, cpu, row["instructions"], row["sum_of_ops"])
        record.save(
            "instructions", rows, runs=_RUNS, emulator="qemu-user 7.2", threads=1
        )


if __name__ == "__main__":
    main()
