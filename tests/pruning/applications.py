"""What pruning finds in known architectures: the table and how it is made.

    python -m tests.pruning.applications [NAME ...]    # Writes applications.json.

Look at the difference before committing it: a network that falls from pruned to left
alone is a fault, whatever the table says.
"""

from __future__ import annotations

import collections
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import tf_keras

import tfslim
from tfslim.pruning import budget, prune

TABLE = Path(__file__).with_suffix(".json")
APPLICATIONS = """ConvNeXtTiny DenseNet121 EfficientNetB0 EfficientNetV2B0
    InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 MobileNetV3Large
    MobileNetV3Small NASNetMobile ResNet50 ResNet50V2 VGG16 Xception""".split()
# name -> options of tfslim.build_model.
ZOO = {
    "alexnet": {"input_shape": (224, 224, 3)},
    "autoencoder": {},
    "mlp": {},
    "mobilenet_v1": {"input_shape": (96, 96, 3)},
    "mobilenet_v2": {"input_shape": (96, 96, 3)},
    "mobilenet_v3_large": {"input_shape": (96, 96, 3)},
    "mobilenet_v3_small": {"input_shape": (96, 96, 3)},
    "resnet18": {"input_shape": (32, 32, 3)},
    "vgg16": {"input_shape": (32, 32, 3)},
}
FAST = ["MobileNetV3Small", "autoencoder"]


def build(name, k):
    """Returns a network with random weights that tell channels apart."""
    if name in ZOO:
        model = tfslim.build_model(name, **ZOO[name])
        model = tfslim.to_keras3(model) if k is keras else model
    else:
        size = 224 if name == "NASNetMobile" else 96
        model = getattr(k.applications, name)(
            weights=None, input_shape=(size, size, 3), classifier_activation=None
        )
    return randomize_norms(model)


def randomize_norms(model):
    """Gives normalizations random numbers; kernels keep their initial scale."""
    rng = np.random.default_rng(0)
    values = []
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        name = getattr(variable, "path", variable.name).removesuffix(":0")
        if name.endswith(("gamma", "variance")):
            value = rng.uniform(0.5, 1.5, value.shape)
        elif name.endswith(("beta", "mean", "bias")):
            value = rng.normal(0.0, 0.2, value.shape)
        values.append(value)
    model.set_weights(values)
    return model


def measure(model):
    """Prunes half of every group; returns the row of the table and the report."""
    plan = budget.Budget(pruning_ratio=0.5, divisor=1)
    smaller, report = prune.prune_channels(model, budget=plan)
    # Layers are numbered by the process; their kinds are not.
    reasons = collections.Counter(
        re.sub(r"'[^']*' \((\w+)\)", r"\1", reason)
        for reason in report.cut.skipped.values()
    )
    row = {
        "groups": len(report.keep),
        "left_alone": dict(sorted(reasons.items())),
        "params": report.cut.before.params,
        "params_after": smaller.count_params(),
        "macs": report.cut.before.macs,
        "macs_after": report.cut.after.macs,
    }
    return row, report


def main(names):
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for name in names or [*APPLICATIONS, *ZOO]:
        table[name], report = measure(build(name, tf_keras))
        print(name, table[name], f"{report.error:.1e}", flush=True)
        table = dict(sorted(table.items()))
        TABLE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
