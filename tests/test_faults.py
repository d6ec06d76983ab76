"""A slice of `make faults`: what is tried there must survive here, too."""

import subprocess
import sys
from pathlib import Path


def test_nothing_is_lost():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--share=0.01"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    # The last line counts what was tried: a harness that tries nothing loses nothing.
    assert int(done.stdout.strip().splitlines()[-1].split()[0]) > 100
