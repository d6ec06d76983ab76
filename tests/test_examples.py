"""The examples are whole training scripts with at most three lines of tfslim."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tf_keras

from tfslim import tflite

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def _run(folder, script, *arguments):
    """Returns what a script prints that runs in `folder` to its end."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_at_most_three_lines_are_ours(path):
    lines = path.read_text().partition('"""\n\n')[2].splitlines()
    marked = [line for line in lines if line.endswith("# tfslim")]
    assert 2 <= len(marked) <= 3
    # No name of tfslim's is used on a line without the mark.
    names = re.search(r"from tfslim import (.+?)  #", path.read_text()).group(1)
    ours = re.compile(rf"\b(tfslim|{'|'.join(names.split(', '))})\b")
    for line in lines:
        assert not ours.search(line.replace("callbacks=", "")) or line in marked, line


@pytest.mark.parametrize(
    "path",
    [
        # Three processes that each import TensorFlow: one will do for every day.
        pytest.param(p, marks=() if "loop" in p.stem else pytest.mark.slow, id=p.stem)
        for p in SCRIPTS
    ],
)
def test_it_runs_and_writes_a_smaller_model(path, tmp_path):
    out = tmp_path / ("m.tflite" if "loop" in path.stem else "m.keras")
    said = _run(tmp_path, path, "--epochs=3", f"--out={out}")
    sizes = [
        int(number.replace(",", ""))
        for number in re.findall(r": ([\d,]+) params", said)
    ]
    before, after = sizes
    assert after < before
    if out.suffix == ".tflite":
        constants = [t for t in tflite.read(out).tensors if t.is_constant]
        assert sum(tensor.size for tensor in constants) < before / 2
    else:
        package = tf_keras if "tf_keras" in path.stem else keras
        assert package.models.load_model(out).count_params() == after


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path, tmp_path):
    cells = json.loads(path.read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(code))
    said = _run(tmp_path, script)
    if path.stem == "slim_your_own_model":
        found = re.findall(r"([\d,]+) params, accuracy ([\d.]+)%", said)
        (before, _), (after, accuracy) = found
        assert int(after.replace(",", "")) < int(before.replace(",", "")) / 3
        assert float(accuracy) > 90
    else:
        assert "int8" in said and (tmp_path / "phone/report.html").exists()
