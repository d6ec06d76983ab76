"""MobileNet v1, v2 and v3 on equal data, and what a separable convolution is worth.

After Zhang's review of MobileNet. Two experiments:

* networks: each trained from scratch on the same photos of flowers with the same
  epochs; weights, MACs, test accuracy of the float and the INT8 file, time of both.
  MobileNetV1 with plain convolutions in place of separable ones stands beside them, for
  its size and time only (random weights: time does not depend on them).
* blocks: a plain 3x3 convolution against a depthwise and a 1x1 one, at the shapes of
  MobileNetV1: the paper's cost ratio 1/N + 1/9 of N output channels against the ratio
  of the measured times.

  TFSLIM_DATA=... python -m benchmarks.papers.paper_004_mobilenets --fast --seeds=0
  TFSLIM_DATA=... python -m benchmarks.papers.paper_004_mobilenets

--fast: half the width, 64 pixels, 6 epochs. Rows that are there are not made again. All
times are medians of one thread, the files of an experiment in turns.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.papers import runs

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
# (pixels, channels in, channels out) of MobileNetV1's blocks at 224 pixels, stride 1.
BLOCKS = (
    (112, 32, 64),
    (56, 128, 128),
    (28, 256, 256),
    (14, 512, 512),
    (7, 512, 1024),
    (7, 1024, 1024),
)
CLASSES = 5
BATCH = 32
RATE = 3e-3
CALIBRATION = 100  # Images.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is.

    Attributes:
        alpha: width multiplier.
        pixels: side of the photos.
        epochs: passes over the 2,641 photos that are trained on.
    """

    alpha: float = 1.0
    pixels: int = 224
    epochs: int = 60


FAST = Scale(alpha=0.5, pixels=64, epochs=6)


def _files(model: Any, samples: Any) -> dict[str, bytes]:
    import tfslim

    content = tfslim.convert_model(model).tflite
    int8 = tfslim.quantize_tflite(content, "int8", samples=samples).tflite
    return {"float": content, "int8": int8}


def network(name: str, scale: Scale, data: dict[str, runs.Arrays], seed: int) -> dict:
    """Trains a network and measures its files."""
    import tf_keras

    import tfslim

    tf_keras.utils.set_random_seed(seed)
    # The photos come in [-1, 1]: MobileNetV3's own rescaling of 0..255 would leave them
    # a hundredth of that range, which INT8 cannot tell apart.
    options = {"include_preprocessing": False} if "v3" in name else {}
    model = tfslim.build_model(
        name,
        input_shape=(scale.pixels, scale.pixels, 3),
        num_classes=CLASSES,
        alpha=scale.alpha,
        **options,
    )
    tfslim.fit(
        model,
        data["train"],
        validation=data["validation"],
        task="classification",
        epochs=scale.epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        seed=seed,
    )
    x = data["train"][0]
    files = _files(model, x[:: len(x) // CALIBRATION][:CALIBRATION])
    spent = runs.times(files)
    return {
        **runs.size(model),
        "accuracy_keras": runs.accuracy(model, data["test"]),
        **{
            f"accuracy_{kind}": runs.file_accuracy(content, data["test"])
            for kind, content in files.items()
        },
        **{f"{kind}_bytes": len(content) for kind, content in files.items()},
        **{f"{kind}_us": us for kind, us in spent.items()},
    }


def plain_network(scale: Scale) -> dict:
    """Measures MobileNetV1 with plain convolutions."""
    import numpy as np
    import tf_keras

    from tfslim.models import blocks
    from tfslim.models.mobilenet_v1 import _BLOCKS

    inputs = tf_keras.Input((scale.pixels, scale.pixels, 3))
    x = blocks.conv_bn(
        inputs, int(32 * scale.alpha), kernel_size=3, strides=2, name="conv1"
    )
    x = blocks.relu6(x, name="conv1_relu")
    for index, (channels, strides) in enumerate(_BLOCKS, start=1):
        x = blocks.conv_bn(
            x,
            int(channels * scale.alpha),
            kernel_size=3,
            strides=strides,
            name=f"conv_{index}",
        )
        x = blocks.relu6(x, name=f"relu_{index}")
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(CLASSES)(x))
    samples = np.random.default_rng(0).uniform(-1, 1, (8, *model.input_shape[1:]))
    spent = runs.times(_files(model, samples.astype(np.float32)))
    return {**runs.size(model), **{f"{kind}_us": us for kind, us in spent.items()}}


def block(pixels: int, channels: int, filters: int) -> dict:
    """Compares a plain convolution with a separable one."""
    import numpy as np
    import tf_keras
    from tf_keras import layers

    inputs = tf_keras.Input((pixels, pixels, channels))
    plain = layers.Conv2D(filters, 3, padding="same", activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(filters, 1, activation="relu")(x)
    models = {
        "plain": tf_keras.Model(inputs, plain),
        "separable": tf_keras.Model(inputs, x),
    }
    samples = np.random.default_rng(0).normal(size=(8, pixels, pixels, channels))
    files = {}
    for name, model in models.items():
        found = _files(model, samples.astype(np.float32))
        files |= {f"{name}_{kind}": content for kind, content in found.items()}
    spent = runs.times(files)
    macs = {name: runs.size(model)["macs"] for name, model in models.items()}
    return {
        **{f"{name}_macs": count for name, count in macs.items()},
        "theory": round(1 / filters + 1 / 9, 4),
        "macs_ratio": round(macs["separable"] / macs["plain"], 4),
        **{f"{name}_us": us for name, us in spent.items()},
        "float_ratio": round(spent["separable_float"] / spent["plain_float"], 4),
        "int8_ratio": round(spent["separable_int8"] / spent["plain_int8"], 4),
    }


def run(scale: Scale, seeds: list[int], networks: list[str]) -> None:
    """Makes the rows that are missing."""
    rows = runs.Rows(
        "papers/paper_004",
        data="flowers",
        batch_size=BATCH,
        learning_rate=RATE,
        **dataclasses.asdict(scale),
    )
    for shape in BLOCKS:
        rows.make(lambda shape=shape: block(*shape), block=list(shape))
    rows.make(lambda: plain_network(scale), network="mobilenet_v1, plain convolutions")
    data = runs.flowers(scale.pixels)
    for seed in seeds:
        for name in networks:
            rows.make(
                lambda name=name, seed=seed: network(name, scale, data, seed),
                network=name,
                seed=seed,
            )


def main(given: list[str] | None = None) -> None:
    parser = runs.arguments(__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args(given)
    scale = FAST if options.fast else Scale()
    run(scale, options.seeds, options.networks.split(","))


if __name__ == "__main__":
    main()
