"""YOLOv3 at its full size, cut and in INT8: bytes and speed (paper 001, Li).

The paper cuts 60% of YOLOv3 by the scales of its batch norms: its Darknet weights
shrink from 248,007,048 to 41,465,888 bytes and the frame rate doubles, 5 to 10 FPS.
Here the same network with 80 classes, at 416 x 416, with random weights: neither bytes
nor latency depend on their values, and what the cut costs in accuracy is measured on a
trained network in `paper_001_small_yolo`. Every layer loses the same share, by L1 norm.

Goals: the weights of the cut network within the paper's bytes; INT8 at least 20 times
smaller than the original; on one thread more than twice the frames by the cut alone,
and more than six times with INT8.

  TFSLIM_DATA=... python -m benchmarks.papers.paper_001_yolov3
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import record

WHOLE_BYTES, GOAL_BYTES = 248_007_048, 41_465_888
SIZE = 416
# Name -> the budget: uniformly 60%, to multiples of so many channels.
CUTS = {
    "cut, divisor 1": {"pruning_ratio": 0.6, "divisor": 1},
    "cut, divisor 4": {"pruning_ratio": 0.6, "divisor": 4},
    "cut, divisor 8": {"max_params": (GOAL_BYTES - 20) // 4, "divisor": 8},
}


def samples(count: int) -> list[np.ndarray]:
    """Reads photos of COCO for the calibration, letterboxed."""
    from tfslim.detection import YOLOV3_HEADS
    from tfslim.detection.detector import Detector
    from tfslim.detection.info import DetectorInfo
    from tfslim.preprocessing import preset

    folder = Path(os.environ["TFSLIM_DATA"], "coco/images/train")
    info = DetectorInfo(
        preprocessing=preset("unit", (SIZE, SIZE, 3)), heads=YOLOV3_HEADS
    )
    detector = Detector(lambda x: [], info)
    photos = sorted(folder.glob("*.jpg"))[:count]
    return [
        detector.prepare(np.asarray(Image.open(photo).convert("RGB")))
        for photo in photos
    ]


def calm(model):
    """Gives the batch norms the statistics that a trained network would have.

    Random residual blocks add up to numbers that no network has; their INT8 ranges
    would be of no meaning.
    """
    import tf_keras

    import tfslim

    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            gamma, *rest = layer.get_weights()
            rng = np.random.default_rng(len(gamma))
            layer.set_weights([rng.uniform(0.2, 1.0, gamma.shape), *rest])
    return tfslim.recalibrate_batch_norm(model, samples(2))


def to_files(name, model, calibration, folder, tiled=True):
    """Writes Darknet's files and returns the float and INT8 `.tflite`."""
    from tfslim import convert, quantization, tflite
    from tfslim.detection import YOLOV3_HEADS, outputs, save_darknet
    from tfslim.detection.deployment import prepare_deployment
    from tfslim.graph import count, keras

    graph = keras.read(model)
    weights = folder / f"{name}.weights"
    save_darknet(graph, YOLOV3_HEADS, cfg=folder / f"{name}.cfg", weights_file=weights)
    if tiled:
        done = prepare_deployment(graph, YOLOV3_HEADS)
        ready, layers = done.model, done.layers
    else:
        ready = keras.write(outputs.decode_heads(graph, YOLOV3_HEADS))
        layers = outputs.FLOAT_LAYERS
    content = convert.convert_model(ready).tflite
    quantized = quantization.quantize_tflite(
        content, "int8", samples=calibration, layers=layers
    ).tflite
    counts = count.count(graph)
    row = {"name": name, "params": counts.params, "macs": counts.macs}
    row["weights_bytes"] = weights.stat().st_size
    files = {f"{name}, float": content, f"{name}, INT8": quantized}
    rows = []
    for title, data in files.items():
        coverage = tflite.coverage(data)
        rows.append(
            {
                **row,
                "name": title,
                "tflite_bytes": len(data),
                "partitions": coverage.num_partitions,
                "outside_xnnpack": [op.name for op in coverage.outside],
            }
        )
    print(json.dumps(rows), flush=True)
    return rows, files


def run(rounds: int, num_samples: int) -> tuple[list[dict], dict]:
    import tfslim

    calibration = samples(num_samples)
    model = calm(tfslim.build_model("yolov3", input_shape=(SIZE, SIZE, 3)))
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def add(name, one, tiled=True):
            found, contents = to_files(name, one, calibration, folder, tiled)
            rows.extend(found)
            files.update(contents)

        add("whole", model)
        for name, limits in CUTS.items():
            smaller, report = tfslim.prune_channels(
                model, budget=tfslim.Budget(**limits)
            )
            print(name, f"proof {report.error:.1e}", flush=True)
            add(name, smaller)
            if limits["divisor"] == 8:
                add(f"{name}, RESIZE_NEAREST_NEIGHBOR", smaller, tiled=False)
    for row, timing in zip(rows, time_files(files, rounds), strict=True):
        row |= timing
        row["fps"] = 1000 / row["p50_cpu_ms"]
    whole = rows[0]
    for row in rows:
        row["times_faster"] = row["fps"] / whole["fps"]
        row["times_smaller"] = WHOLE_BYTES / row["tflite_bytes"]
    return rows, goals(rows)


def time_files(files, rounds: int) -> list[dict]:
    """Times the files in turn, one inference each, on one thread.

    Of a machine that others use, the thread's own time on the core tells more than the
    time on the wall; both are recorded.
    """
    from tfslim.benchmark import host

    options = host.Options(num_threads=1)
    runners = [host.load(data, options) for data in files.values()]
    wall, cpu = ([[] for _ in runners] for _ in range(2))
    for index in range(rounds + 1):
        for runner, walls, cpus in zip(runners, wall, cpu, strict=True):
            start = time.perf_counter(), time.thread_time()
            runner.invoke()
            end = time.perf_counter(), time.thread_time()
            if index:  # The first inference touches new memory.
                walls.append(1000 * (end[0] - start[0]))
                cpus.append(1000 * (end[1] - start[1]))
    return [
        {"p50_ms": float(np.median(w)), "p50_cpu_ms": float(np.median(c))}
        for w, c in zip(wall, cpu, strict=True)
    ]


def goals(rows: list[dict]) -> dict:
    """Tells which goals are met, by the cut of divisor 8."""
    by_name = {row["name"]: row for row in rows}
    cut, small = by_name["cut, divisor 8, float"], by_name["cut, divisor 8, INT8"]
    return {
        "the original's weights are 248,007,048 bytes": (
            rows[0]["weights_bytes"] == WHOLE_BYTES
        ),
        "the cut one's are at most 41,465,888": cut["weights_bytes"] <= GOAL_BYTES,
        "INT8 is 20 times smaller": small["times_smaller"] >= 20,
        "twice the frames by the cut": cut["times_faster"] > 2,
        "six times with INT8": small["times_faster"] > 6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    if "TFSLIM_DATA" not in os.environ:
        sys.exit("TFSLIM_DATA is not set: COCO's photos are needed for INT8.")
    rows, met = run(options.rounds, options.samples)
    record.save(
        "paper_001_yolov3",
        rows,
        goals=met,
        size=SIZE,
        weights="random",
        calibration=f"{options.samples} COCO photos, minmax",
        outputs="boxes and scores, decoded in the file",
        num_threads=1,
        rounds=options.rounds,
    )
    print(json.dumps(met, indent=1))


if __name__ == "__main__":
    main()
