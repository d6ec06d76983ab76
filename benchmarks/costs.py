"""Predicted against measured latency, and the files that the measured costs choose.

Files: zoo x widths x input sizes x recipes, weights random, one thread. Costs of single
ops are measured first, into a new table; then each network's files run interleaved.
Of rounds the least median counts, as for single ops: noise only adds time.

  python -m benchmarks.costs
  python -m benchmarks.costs --sizes=96 --models=mobilenet_v1

Goals: error at most 5% (median) and 10% (95th percentile); the file chosen by cost at
most 1.03 of the faster of float and full INT8.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np

from benchmarks import record

ZOO = {
    "mobilenet_v1": (0.25, 0.5, 1.0),
    "mobilenet_v2": (0.35, 0.6, 1.0),
    "mobilenet_v3_small": (0.5, 0.75, 1.0),
    "mobilenet_v3_large": (0.5, 0.75, 1.0),
    "resnet18": (0.25, 0.5, 1.0),
    "alexnet": (None,),
}
RECIPES = ("float32", "int8", "dynamic_int8")
ROUNDS = 10


def build(name: str, alpha: float | None, size: int):
    """Returns a network whose batch norms are no identities."""
    import tfslim

    options = {} if alpha is None else {"alpha": alpha}
    model = tfslim.build_model(
        name, input_shape=(size, size, 3), num_classes=1000, **options
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            shape = layer.get_weights()[0].shape
            scale, spread = random.uniform(0.5, 1.5, (2, *shape))
            layer.set_weights([scale, *random.normal(0, 0.2, (2, *shape)), spread])
    return model


def files_of(model, size: int) -> tuple[dict[str, bytes], dict]:
    """Returns the network's files by recipe, and what was chosen by cost."""
    import tfslim
    from tfslim import quantization
    from tfslim.pipeline import cost_split

    plain = tfslim.convert_model(model).tflite
    random = np.random.default_rng(1)
    samples = [
        random.uniform(-1, 1, (1, size, size, 3)).astype(np.float32) for _ in range(3)
    ]
    files = {
        name: tfslim.quantize_tflite(plain, name, samples=samples).tflite
        for name in RECIPES
    }
    choice = cost_split.choose(
        plain,
        quantization.get_recipe("int8"),
        options=quantization.Options(),
        samples=samples,
        mode="measure",
    )
    files["int8_by_cost"] = tfslim.quantize_tflite(
        plain, "int8", samples=samples, layers=choice.layers
    ).tflite
    return files, choice.report


def measure(files: dict[str, bytes]) -> dict[str, float]:
    """Times the files interleaved; returns microseconds."""
    from tfslim import benchmark
    from tfslim.benchmark import host

    medians: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, data in files.items():
            runner = host.load(data, benchmark.Options())
            host.time_us(runner, 2, least_secs=0)
            medians[name].append(
                float(np.median(host.time_us(runner, 3, least_secs=0.03)))
            )
    return {name: min(values) for name, values in medians.items()}


def rows_of(name: str, alpha: float | None, size: int) -> list[dict]:
    from tfslim import tflite
    from tfslim.benchmark import costs

    files, report = files_of(build(name, alpha, size), size)
    measured = measure(files)
    rows = []
    for recipe, data in files.items():
        table = costs.CostTable(costs.this_device())
        model = tflite.Runner(data).model
        pieces = costs.specs_of(data, model)
        costs.measure_host(
            table,
            [piece for piece in pieces if piece],
            cold=costs.streaming_share(table, pieces) > 0,
        )
        predicted = costs.predict(table, model, specs=pieces).latency_us
        rows.append(
            {
                "model": name,
                "alpha": alpha,
                "size": size,
                "recipe": recipe,
                "bytes": len(data),
                "predicted_us": round(predicted, 1),
                "measured_us": round(measured[recipe], 1),
                "error": round(predicted / measured[recipe] - 1, 4),
            }
        )
    least = min(measured["float32"], measured["int8"])
    rows[-1]["of_the_faster"] = round(measured["int8_by_cost"] / least, 4)
    rows[-1]["int8_ops"] = report.get("int8_ops")
    rows[-1]["float_ops_by_cost"] = report.get("float_ops_by_cost")
    return rows


def summary(rows: list[dict]) -> dict:
    errors = np.abs([row["error"] for row in rows])
    ratios = [row["of_the_faster"] for row in rows if "of_the_faster" in row]
    return {
        "files": len(rows),
        "median_error": round(float(np.median(errors)), 4),
        "p95_error": round(float(np.percentile(errors, 95)), 4),
        "chosen_of_the_faster_median": round(float(np.median(ratios)), 4),
        "chosen_of_the_faster_worst": round(float(max(ratios)), 4),
    }


def main() -> None:
    import os

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--sizes", default="96,160")
    parser.add_argument("--name", default="costs")
    flags = parser.parse_args()
    load = os.getloadavg()[0]
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFSLIM_COSTS"] = folder
        for name in flags.models.split(","):
            for alpha in ZOO[name]:
                for size in map(int, flags.sizes.split(",")):
                    found = rows_of(name, alpha, size)
                    rows += found
                    print(name, alpha, size, [row["error"] for row in found])
                    record.save(
                        flags.name,
                        rows,
                        summary=summary(rows),
                        threads=1,
                        rounds=ROUNDS,
                        load=load,
                    )
    print(summary(rows))


if __name__ == "__main__":
    main()
