"""Results of benchmarks: one JSON a run under results/, with its conditions."""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
import sys
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


def command() -> str:
    """Returns the command line that is running, to be typed again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
    module = spec.name.removesuffix(".__main__")
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


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
        "command": command(),
        "machine": machine,
        "conditions": conditions,
        "rows": rows,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return path
