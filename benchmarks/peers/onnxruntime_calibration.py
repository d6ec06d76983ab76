"""Collecting statistics and choosing KL ranges: ours against onnxruntime's.

  python -m tf2onnx.convert --tflite model.tflite --output model.onnx
  python -m benchmarks.peers.onnxruntime_calibration --tflite=model.tflite \
      --onnx=model.onnx

Needs onnxruntime and onnx beside tfslim (they are no dependency of the package). Each
side runs in a process of its own, several times in turns, on the same seeded images;
time is the process's CPU and wall time from loaded modules to ranges, memory the
growth of its peak from there. "bins" is onnxruntime's entropy calibrator with 2048
bins and 128 levels, as ours; "default" its own default of 128 bins, with which there
is nothing to search. The images are made before. Goals: a tenth of the time and of the
memory against "bins".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import record

SIDES = ("ours", "bins", "default")

Ranges = dict[str, tuple[float, float]]


def images(shape: tuple[int, ...], count: int) -> Iterator[np.ndarray]:
    """Smooth random images in [-1, 1]: noise alone has no tails."""
    random = np.random.default_rng(0)
    side = shape[1]
    for _ in range(count):
        coarse = random.normal(size=(1, 8, 8, shape[3])).astype(np.float32)
        fine = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
        padded = np.zeros(shape, np.float32)
        padded[:, : fine.shape[1], : fine.shape[2]] = fine
        padded += 0.1 * random.normal(size=shape).astype(np.float32)
        yield np.clip(padded, -3, 3) / 3


def peak_bytes() -> int:
    # Not getrusage: its peak is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("This kernel does not tell a process's peak memory (VmHWM).")


def ours(path: str, samples: list[np.ndarray]) -> Ranges:
    from tfslim import tflite
    from tfslim.quantization import calibrate

    return calibrate(tflite.map_file(path), samples, method="kl").ranges


def theirs(path: str, samples: list[np.ndarray], bins: bool) -> Ranges:
    import onnxruntime
    from onnxruntime.quantization import calibrate

    (taken,) = onnxruntime.InferenceSession(path).get_inputs()
    source = iter(samples)

    class Reader(calibrate.CalibrationDataReader):
        def get_next(self):
            image = next(source, None)
            return None if image is None else {taken.name: image}

    more = {"num_bins": 2048, "num_quantized_bins": 128} if bins else {}
    with tempfile.TemporaryDirectory() as folder:
        calibrator = calibrate.create_calibrator(
            path,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=calibrate.CalibrationMethod.Entropy,
            extra_options=more,
        )
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
    return {
        name: tuple(float(np.ravel(v)[0]) for v in value.range_value)
        for name, value in found.data.items()
    }


def worker(side: str, path: str, samples: list[np.ndarray]) -> None:
    """Runs one side and prints its figures as JSON."""
    if side == "ours":
        import tfslim.quantization  # noqa: F401
    else:
        import onnxruntime.quantization.calibrate  # noqa: F401
    before = peak_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    ranges = (
        ours(path, samples) if side == "ours" else theirs(path, samples, side == "bins")
    )
    row = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_bytes": peak_bytes() - before,
        "num_tensors": len(ranges),
        "ranges": ranges,
    }
    sys.stdout.write("RESULT " + json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tflite", required=True)
    parser.add_argument("--onnx", required=True)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--worker")
    parser.add_argument("--shape")
    options = parser.parse_args()
    paths = {side: options.onnx for side in SIDES} | {"ours": options.tflite}
    if options.worker:
        shape = tuple(json.loads(options.shape))
        samples = list(images(shape, options.samples))
        worker(options.worker, paths[options.worker], samples)
        return
    from tfslim import tflite

    # Read here: in a worker it would raise the peak before the measurement.
    shape = json.dumps(tflite.read(options.tflite).inputs[0].shape)
    rows = []
    for index in range(options.rounds):
        for side in options.sides.split(","):
            command = [sys.executable, "-m", "benchmarks.peers.onnxruntime_calibration"]
            done = subprocess.run(
                [*command, *sys.argv[1:], f"--worker={side}", f"--shape={shape}"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                # Most likely out of memory: that is a result, too.
                rows.append({"side": side, "failed": done.stderr[-300:]})
                print(rows[-1], flush=True)
                continue
            row = json.loads(done.stdout.partition("RESULT ")[2])
            # Names differ between the two; sorted bounds still tell the levels apart.
            bounds = sorted(max(-low, high) for low, high in row.pop("ranges").values())
            rows.append({"side": side, "round": index, **row, "bounds": bounds})
            print({k: v for k, v in rows[-1].items() if k != "bounds"}, flush=True)
    name = f"onnxruntime_calibration_{Path(options.tflite).stem}"
    record.save(name, rows, samples=options.samples)


if __name__ == "__main__":
    main()
