"""A slice of `make faults`: what is tried there must survive here, too."""

import subprocess
import sys
from pathlib import Path

import pytest

# What the rooms' own tests try of these is for every day.
_CHEAP = "fuzz,hostile,limits"


@pytest.mark.slow
@pytest.mark.parametrize("parts", [_CHEAP, "kills,crowd"])
def test_nothing_is_lost(parts):
    command = ["-m", "benchmarks.faults", "--share=0.01", f"--parts={parts}"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    # The last line counts what was tried: a harness that tries nothing loses nothing.
    tried = int(done.stdout.strip().splitlines()[-1].split()[0])
    assert tried > (100 if parts == _CHEAP else 4)
