"""Tries to make tfslim lose something: `make faults`.

  python -m benchmarks.faults                    # all, about half an hour on 2 cores
  python -m benchmarks.faults --share=0.01       # a slice
  python -m benchmarks.faults --parts=kills,fuzz

Prints a table (tried, survived, lost) and exits with 1 if anything was lost. Lost is:
a file that is half written or of another run, a traceback, a dead process, a hang, an
error without a reason, memory that grows, a file that a stranger's model wrote or read.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from benchmarks.faults import (
    children,
    crowd,
    fuzz,
    hostile,
    kills,
    ledger,
    limits,
    work,
)

_PARTS = ("kills", "fuzz", "limits", "crowd", "hostile")
_KILLS, _SIGNALS, _INPUTS = 200, 40, 10_000


def main() -> int:
    """Runs the parts, prints and writes the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--parts", default=",".join(_PARTS))
    arguments.add_argument("--share", type=float, default=1.0, help="of all trials")
    arguments.add_argument("--save", action="store_true", help="under results/")
    given = arguments.parse_args()
    children.start()
    start = time.monotonic()
    rows: list[ledger.Row] = []
    with tempfile.TemporaryDirectory(prefix="tfslim-faults-") as name:
        for part in given.parts.split(","):
            rows += _run(part, Path(name) / part, given.share)
            print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(ledger.table(rows))
    lost = [f"{row.name}: {problem}" for row in rows for problem in row.lost]
    for line in lost:
        print(f"lost: {line}")
    minutes = (time.monotonic() - start) / 60
    print(
        f"{sum(row.tried for row in rows)} tried, {len(lost)} lost, {minutes:.1f} min"
    )
    if given.save:
        record.save(
            "faults",
            [dataclasses.asdict(row) | {"survived": row.survived} for row in rows],
            share=given.share,
            minutes=round(minutes, 1),
        )
    return 1 if lost else 0


def _run(part: str, folder: Path, share: float) -> list[ledger.Row]:
    if part == "kills":
        least = len(kills.jobs())
        return kills.run(
            folder,
            max(least, round(_KILLS * share)),
            max(2 * least, round(_SIGNALS * share)),
        )
    if part == "fuzz":
        work.prepare(folder / "inputs")
        return fuzz.run(folder / "inputs", round(_INPUTS * share))
    return {"limits": limits, "crowd": crowd, "hostile": hostile}[part].run(
        folder, share
    )


if __name__ == "__main__":
    sys.exit(main())
