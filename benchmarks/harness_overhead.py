"""What our harness adds to a latency, against ai-edge-litert's own `litert-benchmark`.

Both use the same runtime and XNNPACK, one thread, in processes of their own, in turn.
The tool has another way into the runtime (CompiledModel, with buffers), so a difference
is that of the API and of the harness together. A process counts by its 5th percentile
(noise of other programs only adds time); figures are medians over pairs of processes.

  python -m benchmarks.harness_overhead --models=mnv2_f32.tflite,mnv2_int8.tflite

Without --models it builds MobileNetV2 float and INT8 and a model of about 50 us.
Goal: within 2% or 5 us.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import record

_OURS = """
import json, sys
from pathlib import Path
import numpy as np
from tfslim import benchmark
data = Path(sys.argv[1]).read_bytes()
options = benchmark.Options(num_runs=int(sys.argv[2]), rounds=1, warmup_runs=20)
[samples] = benchmark.run_host({"m": data}, options)[0].samples_us
print(json.dumps(float(np.percentile(samples, 5))))
"""
# The command `litert-benchmark` itself, but for its rounding to 10 us.
_THEIRS = """
from ai_edge_litert.tools import benchmark_litert_model as tool
tool.round = lambda value, digits: value
tool.main()
"""


def build(folder: Path) -> list[Path]:
    import numpy as np
    import tf_keras

    import tfslim

    model = tfslim.build_model("mobilenet_v2")
    random = np.random.default_rng(0)
    samples = [random.uniform(-1, 1, (1, 224, 224, 3)).astype("f4") for _ in range(8)]
    float_file = tfslim.convert_model(model).tflite
    inputs = tf_keras.Input((32, 32, 8))
    hidden = tf_keras.layers.Conv2D(24, 3)(inputs)
    small = tf_keras.Model(inputs, tf_keras.layers.Conv2D(16, 3)(hidden))
    contents = {
        "mobilenet_v2_float32": float_file,
        "mobilenet_v2_int8": tfslim.quantize_tflite(
            float_file, "int8", samples=samples
        ).tflite,
        "two_convolutions": tfslim.convert_model(small).tflite,
    }
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return [folder / f"{name}.tflite" for name in contents]


def ours(path: Path, runs: int) -> float:
    command = [sys.executable, "-c", _OURS, str(path), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def theirs(path: Path, runs: int, folder: Path) -> float:
    out = folder / "theirs.json"
    command = [sys.executable, "-c", _THEIRS, f"--model={path}", "--num_threads=1"]
    command += ["--warmup_runs=20", f"--num_runs={runs}", f"--result_json={out}"]
    subprocess.run(command, capture_output=True, check=True)
    return json.loads(out.read_text())["latency"]["p5_ms"] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="", help="files by comma")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = [Path(path) for path in arguments.models.split(",") if path]
        for path in given or build(folder):
            runs = 200 if path.stat().st_size > 1_000_000 else 5000
            pairs = [
                (ours(path, runs), theirs(path, runs, folder))
                for _ in range(arguments.rounds)
            ]
            tool = statistics.median(pair[1] for pair in pairs)
            difference = statistics.median(a - b for a, b in pairs)
            row = {
                "model": path.stem,
                "litert_benchmark_us": tool,
                "difference_us": difference,
                "difference": difference / tool,
                "is_within_goal": abs(difference) <= max(5.0, 0.02 * tool),
                "pairs_us": pairs,
            }
            rows.append(row)
            print({key: value for key, value in row.items() if key != "pairs_us"})
    load = os.getloadavg()[0]
    record.save("harness_overhead", rows, rounds=arguments.rounds, load_at_end=load)


if __name__ == "__main__":
    main()
