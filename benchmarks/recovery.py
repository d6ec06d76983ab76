"""Half of the channels removed, then fine-tuned: does the network get back?

Trains on scikit-learn's digits, cuts 50% of the channels of every group by L1 norm
(divisor 1) and fine-tunes. Goals: ResNet-18 and MobileNetV2 within 2 points of the
accuracy before, the autoencoder's loss within 10%.

  python -m benchmarks.recovery
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import record

# Model -> input shape, epochs before and after, learning rate; the same for all seeds.
RECIPES = {
    "autoencoder": ((28, 28, 1), 60, 60, 0.003),
    "resnet18": ((32, 32, 3), 8, 8, 0.0),
    "mobilenet_v2": ((64, 64, 3), 8, 12, 0.005),
}


def run(name: str, seed: int, folder: Path) -> dict:
    import tfslim
    from tfslim import config as config_lib

    shape, epochs, fine_tune, rate = RECIPES[name]
    config = config_lib.default_config()
    config_lib.merge(
        config,
        {
            "seed": seed,
            "model": {"name": name, "input_shape": shape},
            "training": {"epochs": epochs, "learning_rate": rate},
            "prune": {
                "method": "channels",
                "ratio": 0.5,
                "divisor": 1,
                "epochs": fine_tune,
            },
            "quantization": {"recipes": ("float32", "int8")},
        },
    )
    result = tfslim.export_model(config=config, out_dir=folder / f"{name}-{seed}")
    [step] = result["slimming"]
    row = {
        "model": name,
        "seed": seed,
        "epochs": [epochs, fine_tune],
        "params": step["params"],
        "macs": step["macs"],
        "metric_name": result["task"]["metric"],
        **{f"metric_{stage}": value for stage, value in step["metric"].items()},
        "int8_metric": result["variants"][1]["metric"],
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    rows = [
        run(name, int(seed), folder)
        for name in options.models.split(",")
        for seed in options.seeds.split(",")
    ]
    record.save("recovery_digits", rows, ratio=0.5, criterion="l1_norm", divisor=1)


if __name__ == "__main__":
    main()
