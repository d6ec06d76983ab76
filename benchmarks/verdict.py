"""Does the latency verdict hold? Equal files must not differ, and 3% must be found.

A chain of 33 equal convolutions is compared 200 times with itself, and 200 times with
a chain of 34, which is 3% slower; each with the defaults of `tfslim benchmark`. What
every round gave is kept, so that another interval can be tried on the same runs.

  python -m benchmarks.verdict

Goals: at most 1% of the comparisons of equal files get a verdict, and at least 90% of
the slower file are found.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np

from benchmarks import record
from tfslim import benchmark
from tfslim.benchmark import comparison, host

LENGTH = 33


def chain(length: int) -> bytes:
    import tf_keras

    import tfslim

    inputs = outputs = tf_keras.Input((32, 32, 16))
    for _ in range(length):
        outputs = tf_keras.layers.Conv2D(16, 3, padding="same")(outputs)
    return tfslim.convert_model(tf_keras.Model(inputs, outputs)).tflite


def compare(base: bytes, new: bytes) -> dict:
    options = benchmark.Options(num_runs=100, rounds=20, min_secs=1.0)
    first, second = benchmark.run_host({"base": base, "new": new}, options)
    done = benchmark.compare(first, second)
    pairs = zip(first.by_round, second.by_round, strict=True)
    return {
        "verdict": done.verdict,
        "ratio": round(done.ratio, 5),
        "low": round(done.low, 5),
        "high": round(done.high, 5),
        "base_p50_us": first.latency.p50,
        "invalid": sorted({*first.invalid, *second.invalid}),
        "load": os.getloadavg()[0],
        "fastest_us": [[round(one.min, 1), round(two.min, 1)] for one, two in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--resume", action="store_true", help="add to what there is")
    arguments = parser.parse_args()
    host._peak_memory = lambda *arguments: None  # Takes longer than all the timing.
    short, long = chain(LENGTH), chain(LENGTH + 1)
    # In turn, so that both meet the same machine.
    equal, slower = [], []
    if arguments.resume:
        rows = json.loads((record.RESULTS / "verdict.json").read_text())["rows"]
        equal, slower = rows["equal"], rows["slower"]
    for trial in range(len(equal) + 1, arguments.trials + 1):
        equal.append(compare(short, short))
        slower.append(compare(short, long))
        if trial % 10 == 0 or trial == arguments.trials:
            save(equal, slower)


def save(equal: list[dict], slower: list[dict]) -> None:
    """Writes what there is: a run that is ended early is not lost."""
    for row in (*equal, *slower):  # Resumed ones by the rule of today.
        row["verdict"] = comparison.verdict_of(
            row["ratio"], row["low"], high=row["high"]
        )
    differ = sum(row["verdict"] != "no difference found" for row in equal)
    found = sum(row["verdict"] == "slower" for row in slower)
    print(f"equal files: {differ} of {len(equal)} differ (goal: at most 1%)")
    print(f"3% slower: {found} of {len(slower)} found (goal: at least 90%)")
    load = [row["load"] for row in (*equal, *slower)]
    rows = {"equal": equal, "slower": slower, "differ": differ, "found": found}
    record.save("verdict", rows, trials=len(equal), median_load=float(np.median(load)))


if __name__ == "__main__":
    main()
