"""Vela, the compiler for Arm's Ethos-U NPUs: what it leaves to the CPU, and costs.

It runs nothing, so there are no outputs to compare.
"""

from __future__ import annotations

import csv
import importlib.metadata
import tempfile
import time
from collections import Counter
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from tfslim.consumers import process
from tfslim.consumers.base import Consumer, Outcome, folder
from tfslim.consumers.samples import Samples
from tfslim.tflite import reading

ACCELERATOR = "ethos-u55-128"
# The custom op that holds what the NPU runs.
_NPU = "ethos-u"
# Column of Vela's summary -> name in the conditions.
_FIGURES = {
    "inference_time": "estimated_seconds",
    "cycles_total": "estimated_cycles",
    "sram_memory_used": "sram_kib",
    "off_chip_flash_memory_used": "flash_kib",
}


def command() -> Path:
    """Returns Vela's command."""
    return folder("vela") / "bin" / "vela"


def _missing() -> str:
    if command().exists():
        return ""
    return f"there is no environment in '{folder('vela')}'"


def _run(content: bytes, inputs: Samples) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="tfslim-") as name:
        job = Path(name)
        (job / "model.tflite").write_bytes(content)
        start = time.monotonic()
        chosen = ["--accelerator-config", ACCELERATOR, "--output-dir", name]
        process.call([str(command()), *chosen, str(job / "model.tflite")], folder=job)
        seconds = time.monotonic() - start
        names = _op_names((job / "model_vela.tflite").read_bytes())
        figures = _figures(job) if _NPU in names else {}
    left = Counter(name for name in names if name != _NPU)
    return Outcome(
        outputs={},
        is_fully_accelerated=not left,
        fell_back=tuple(f"{name} x{n} on the CPU" for name, n in left.most_common()),
        versions={"ethos-u-vela": _version()},
        conditions={"accelerator": ACCELERATOR, **figures},
        seconds=seconds,
    )


def _op_names(compiled: bytes) -> list[str]:
    """Returns the names of a compiled file's ops.

    Its NPU ops read memory that nothing wrote, which `tflite.read` refuses.
    """
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(compiled, 0))
    names = [reading.op_name(code)[0] for code in flat.operatorCodes]
    return [names[op.opcodeIndex] for op in flat.subgraphs[0].operators]


def _figures(job: Path) -> dict[str, float]:
    """Reads Vela's summary, whose figures are estimates."""
    for path in job.glob("*_summary_*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        return {name: float(row[key]) for key, name in _FIGURES.items() if key in row}
    return {}


def _version() -> str:
    found = importlib.metadata.distributions(
        name="ethos-u-vela", path=[str(p) for p in folder("vela").glob("lib/*/*")]
    )
    return next((one.version for one in found), "")


CONSUMER = Consumer(
    name="vela",
    what="Vela, compiler for Ethos-U55 (128 MACs)",
    missing=_missing,
    run=_run,
)
