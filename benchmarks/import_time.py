"""Time of `import tfslim` and of `--help`, each in new processes; least of ten.

Goals: 0.3 s for the import, 1 s for --help.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import record

COMMANDS = {
    "python, nothing imported": ["-c", "pass"],
    "import tfslim": ["-c", "import tfslim"],
    "tfslim.export --help": ["-m", "tfslim.export", "--help"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(10):
        for name, arguments in COMMANDS.items():
            best[name] = min(best[name], seconds(arguments))
    rows = [{"command": name, "seconds": value} for name, value in best.items()]
    print(rows)
    record.save("import_time", rows, runs=10, statistic="least")


if __name__ == "__main__":
    main()
