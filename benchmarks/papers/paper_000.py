"""Zhong's two ways of making a network smaller, and the two together.

AlexNet at 224x224 with 1, 3/4 and 1/2 of the kernels of its convolutions, each trained
from scratch on photos of flowers for 10 epochs, then configs/alexnet_width_l1.py, which
cuts a trained AlexNet to half the kernels and slims the rest by Prox-SG.
ResNet-18 with a 3x3 stem at 224x224, cut to the paper's compute: what the cut is worth
in time (random weights: time does not depend on them).

  TFSLIM_DATA=data python -m benchmarks.papers.paper_000

Paper: accuracy 0.690, 0.681, 0.706; ResNet-18 27215.5 M -> 2628.7 M MACs, 3.41x faster.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks import record

_RESNET18_MACS = 2628.7e6
ROWS = ("width 1", "width 0.75", "width 0.5", "width and l1", "resnet18")


def alexnet(name: str, folder: Path) -> dict:
    import tfslim
    from tfslim import config as config_lib

    config = config_lib.load("alexnet_width_l1")
    values = {
        "data": {"spec": f"folder:{os.environ['TFSLIM_DATA']}/flowers"},
        "quantization": {"recipes": ("float32", "int8")},
    }
    if name != "width and l1":
        values["model"] = {"options": {"alpha": float(name.split()[1])}}
        values["steps"] = ()
    config_lib.merge(config, values)
    result = tfslim.export_model(
        config=config, out_dir=folder / name.replace(" ", "_"), on_step=print
    )
    return {
        "params": result["model"]["params"],
        "macs_batch_4": 4 * result["model"]["macs"],
        "metric": result["keras_metric"],
        "epochs": config.training.epochs,
        "steps": [
            {key: step[key] for key in ("step", "params", "macs", "metric", "layers")}
            for step in result["slimming"]
        ],
        "variants": [
            {
                "name": variant["name"],
                "bytes": variant["size_bytes"],
                "metric": variant["metric"],
                "p50_us": variant["benchmark"]["latency"]["p50"],
            }
            for variant in result["variants"]
        ],
    }


def resnet18() -> dict:
    import tfslim
    from tfslim import benchmark
    from tfslim.graph import count, keras

    model = tfslim.build_model(
        "resnet18", input_shape=(224, 224, 3), stem="cifar", num_classes=10
    )
    before = count.count(keras.read(model))
    budget = tfslim.Budget(max_macs=_RESNET18_MACS)
    smaller, report = tfslim.prune_channels(model, budget=budget)
    after = report.cut.after
    files = {
        "whole": tfslim.convert_model(model).tflite,
        "cut": tfslim.convert_model(smaller).tflite,
    }
    options = benchmark.Options(num_runs=10, rounds=5)
    whole, cut = (r.latency.p50 for r in benchmark.run_host(files, options))
    return {
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "p50_us": [whole, cut],
        "times_faster": whole / cut,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    names = parser.parse_args().rows.split(",")
    path = record.RESULTS / "paper_000.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    folder = Path(tempfile.mkdtemp())
    for name in names:
        rows[name] = resnet18() if name == "resnet18" else alexnet(name, folder)
        print(name, json.dumps(rows[name]), flush=True)
        record.save("paper_000", rows, num_threads=1, note="each row from its own run")


if __name__ == "__main__":
    main()
