"""Conversion + INT8 quantization: tfslim against TensorFlow's own converter.

Both sides start from the same built tf_keras model (random weights, 224x224, 1000
classes) and the same samples and end with an INT8 file with float inputs and outputs.
Every job runs in a process of its own, the sides in turn, so that peak memory is that
of the job alone; times are of the job, without importing and building.

  python -m benchmarks.export_speed --models=mobilenet_v2,alexnet --rounds=3
  python -m benchmarks.export_speed --latency   # INT8 latency of all
  python -m benchmarks.export_speed --defaults  # what users get without asking

Goals: time at most 0.5 of the converter's for MobileNetV2 and AlexNet; INT8 latency at
most 1.03 of the converter's INT8 (MobileNetV3-Small: 0.35); against float at least 2x
(MobileNet v1, v2), 1.6x (v3), 3.3x (AlexNet), 3.5x (VGG16, ResNet-18).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record

ZOO = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet18",
    "alexnet",
    "vgg16",
)
SIDES = ("converter", "tfslim")
# What users get without asking: `tfslim export`, and `quantize --calibration=auto`.
DEFAULTS = ("converter", "default", "auto")


def samples(number: int):
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(number):
        yield random.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)


def by_converter(model, number: int) -> dict[str, bytes]:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples(number))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return {"int8": converter.convert()}


def by_tfslim(model, number: int) -> dict[str, bytes]:
    import tfslim

    float_file = tfslim.convert_model(model).tflite
    done = tfslim.quantize_tflite(float_file, "int8", samples=list(samples(number)))
    return {"int8": done.tflite, "float32": float_file}


def by_default(model, number: int, calibration: str) -> dict[str, bytes]:
    import tfslim
    from tfslim.quantization import Options, quantize_accurately

    float_file = tfslim.convert_model(model).tflite
    done = quantize_accurately(
        float_file,
        "int8",
        samples=list(samples(number)),
        options=Options(calibration=calibration),
        on_step=lambda text: print(f"{time.process_time():7.1f} s {text}"),
    )
    print(done.steps, done.taken)
    return {"int8": done.quantized.tflite, "float32": float_file}


def make(side: str, model, number: int) -> dict[str, bytes]:
    if side in ("default", "auto"):
        return by_default(model, number, "auto" if side == "auto" else "minmax")
    return (by_tfslim if side == "tfslim" else by_converter)(model, number)


def work(side: str, name: str, number: int, folder: Path) -> None:
    """One job in this process; prints what it cost as the last line."""
    from tfslim import quiet

    with quiet.in_command(), quiet.captured_stderr():
        import tfslim

        options = {"include_preprocessing": False} if "v3" in name else {}
        model = tfslim.build_model(name, **options)
        import tfslim.convert
        import tfslim.quantization

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    files = make(side, model, number)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for kind, content in files.items():
        (folder / f"{name}.{side}.{kind}.tflite").write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = {
        "model": name,
        "side": side,
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": peak / 1e3,
        "peak_growth_mb": (peak - before) / 1e3,
        "size_bytes": len(files["int8"]),
    }
    print(json.dumps(cost))


def run_job(side: str, name: str, number: int, folder: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.export_speed", f"--worker={side}"]
    command += [f"--models={name}", f"--samples={number}", f"--folder={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} {name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_defaults(names, number: int, rounds: int, folder: Path) -> list[dict]:
    rows = []
    for name in names:
        jobs = {side: [] for side in DEFAULTS}
        for _ in range(rounds):
            for side in DEFAULTS:
                jobs[side].append(run_job(side, name, number, folder)["cpu_s"])
        least = {side: min(jobs[side]) for side in DEFAULTS}
        row = {"model": name, "samples": number, "rounds": rounds}
        row |= {f"{side}_cpu_s": value for side, value in least.items()}
        for side in DEFAULTS[1:]:
            row[f"{side}_ratio"] = least[side] / least["converter"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def compare_export(names, number: int, rounds: int, folder: Path) -> list[dict]:
    rows = []
    for name in names:
        jobs = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                jobs[side].append(run_job(side, name, number, folder))
        best = {
            side: {k: min(j[k] for j in jobs[side]) for k in ("wall_s", "cpu_s")}
            for side in SIDES
        }
        row = {
            "model": name,
            "samples": number,
            "rounds": rounds,
            **{f"{side}_{k}": v for side in SIDES for k, v in best[side].items()},
            "time_ratio": best["tfslim"]["cpu_s"] / best["converter"]["cpu_s"],
            "wall_ratio": best["tfslim"]["wall_s"] / best["converter"]["wall_s"],
        }
        for key in ("peak_mb", "size_bytes"):
            ours, theirs = jobs["tfslim"][0][key], jobs["converter"][0][key]
            row |= {f"tfslim_{key}": ours, f"converter_{key}": theirs}
            row[f"{key}_ratio"] = ours / theirs
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def compare_latency(names, number: int, folder: Path) -> list[dict]:
    from tfslim import benchmark

    rows = []
    for name in names:
        for side in SIDES:
            if not (folder / f"{name}.{side}.int8.tflite").exists():
                run_job(side, name, number, folder)
        files = {
            "converter": f"{name}.converter.int8.tflite",
            "tfslim": f"{name}.tfslim.int8.tflite",
            "float": f"{name}.tfslim.float32.tflite",
        }
        content = {key: (folder / file).read_bytes() for key, file in files.items()}
        options = benchmark.Options(num_runs=100, rounds=20, warmup_runs=5)
        p50 = {r.name: r.latency.p50 for r in benchmark.run_host(content, options)}
        row = {
            "model": name,
            **{f"{key}_p50_us": value for key, value in p50.items()},
            "int8_vs_converter": p50["tfslim"] / p50["converter"],
            "speedup_vs_float": p50["float"] / p50["tfslim"],
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--worker", choices={*SIDES, *DEFAULTS})
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.models, options.samples, options.folder)
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    if options.latency:
        names = options.models.split(",") if options.models else ZOO
        rows = compare_latency(names, options.samples, folder)
        record.save("export_latency", rows)
    elif options.defaults:
        names = (options.models or "mobilenet_v2,resnet18,alexnet,vgg16").split(",")
        rows = compare_defaults(names, options.samples, options.rounds, folder)
        record.save("default_speed", rows, cores=os.cpu_count(), load=os.getloadavg())
    else:
        names = (options.models or "mobilenet_v2,alexnet").split(",")
        rows = compare_export(names, options.samples, options.rounds, folder)
        record.save("export_speed", rows)


if __name__ == "__main__":
    main()
