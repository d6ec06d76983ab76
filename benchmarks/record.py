"""Results of benchmarks: one JSON a run under results/, with its conditions."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

from tfslim.benchmark import environment

RESULTS = Path(__file__).parent / "results"


def commit() -> str:
    """Names the commit that is checked out, "-dirty" where files differ."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip()


def save(name: str, rows: Any, **conditions: Any) -> Path:
    """Writes `rows` to results/NAME.json, replacing an older run."""
    machine = environment.host()
    machine["versions"] |= environment.versions(
        "tensorflow", "tf_keras", "keras", "litert-quantizer"
    )
    content = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine,
        "conditions": conditions,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return path
