"""Does the verdict hold? Equal files must not differ, and 5% must be found.

A chain of 20 equal convolutions is compared 20 times with itself, and 20 times with a
chain of 21, which is 5% slower; each with the defaults of `python -m tfslim.benchmark`.

  python -m benchmarks.verdict

Goals: at most 1 of 20 "differs" between equal files, at least 18 of 20 found.
"""

from __future__ import annotations

import argparse
import os

from benchmarks import record
from tfslim import benchmark


def chain(length: int) -> bytes:
    import tf_keras

    import tfslim

    inputs = outputs = tf_keras.Input((32, 32, 16))
    for _ in range(length):
        outputs = tf_keras.layers.Conv2D(16, 3, padding="same")(outputs)
    return tfslim.convert_model(tf_keras.Model(inputs, outputs)).tflite


def compare(base: bytes, new: bytes) -> dict:
    options = benchmark.Options(num_runs=100, rounds=20)
    first, second = benchmark.run_host({"base": base, "new": new}, options)
    done = benchmark.compare(first, second)
    return {
        "verdict": done.verdict,
        "ratio": done.ratio,
        "low": done.low,
        "high": done.high,
        "base_p50_us": first.latency.p50,
        "invalid": sorted(first.invalid),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    short, long = chain(20), chain(21)
    # In turn, so that both meet the same machine.
    equal, slower = [], []
    for _ in range(arguments.trials):
        equal.append(compare(short, short))
        slower.append(compare(short, long))
    differ = sum(row["verdict"] != "no difference found" for row in equal)
    found = sum(row["verdict"] == "slower" for row in slower)
    print(f"equal files: {differ} of {arguments.trials} differ (goal: at most 1 of 20)")
    print(f"5% slower: {found} of {arguments.trials} found (goal: at least 18 of 20)")
    rows = {"equal": equal, "slower": slower, "differ": differ, "found": found}
    record.save("verdict", rows, trials=arguments.trials)


if __name__ == "__main__":
    main()
