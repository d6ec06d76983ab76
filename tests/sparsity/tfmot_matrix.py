"""What TF-MOT's methods do to each model: the table and how it is made.

    python -m tests.sparsity.tfmot_matrix [NAME ...]    # Writes tfmot_matrix.json.

Each cell wraps, trains two steps, strips, converts and runs the file. Look at the
difference before committing it: a cell that falls from works to refused is a fault.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tf_keras

import tfslim
from tests.pruning.applications import randomize_norms
from tfslim import analysis, errors, sparsity, tflite

TABLE = Path(__file__).with_suffix(".json")
TARGET, CLUSTERS = 0.75, 8
# name -> options of tfslim.build_model, classifiers without softmax.
ZOO = {
    # A quarter of the width; the Dense layers of 4096 units stay.
    "alexnet": {"input_shape": (63, 63, 3), "num_classes": 10, "alpha": 0.25},
    "autoencoder": {},
    "mlp": {},
    "mobilenet_v1": {"input_shape": (32, 32, 3), "num_classes": 10},
    "mobilenet_v2": {"input_shape": (32, 32, 3), "num_classes": 10},
    "mobilenet_v3_large": {"input_shape": (32, 32, 3), "num_classes": 10},
    "mobilenet_v3_small": {"input_shape": (32, 32, 3), "num_classes": 10},
    "resnet18": {"input_shape": (32, 32, 3), "num_classes": 10},
    "vgg16": {"input_shape": (32, 32, 3), "num_classes": 10, "alpha": 0.25},
}
# keras.applications as they are built, by the Keras that builds them.
APPLICATIONS = {
    "DenseNet121": tf_keras,
    "EfficientNetB0": tf_keras,
    "MobileNet": tf_keras,
    "MobileNetV2": keras,
    "MobileNetV3Small": tf_keras,
    "ResNet50V2": keras,
}
# Networks of a few layers, which have every kind of layer between them.
TINY = ("tiny dense", "tiny mobile", "tiny residual", "tiny transposed")
METHODS = (
    *("magnitude", "2:4", "block", "xnnpack", "cluster", "qat", "pqat", "cqat"),
    "pcqat",
)


def build(name):
    """Returns a model with random weights, its normalizations away from 0 and 1."""
    tf_keras.utils.set_random_seed(0)
    if name in TINY:
        inputs, outputs = _tiny(name)
        model = tf_keras.Model(inputs, outputs, name=name.replace(" ", "_"))
        return randomize_norms(model)
    if name in ZOO:
        options = ZOO[name]
        if "num_classes" in options:
            options = {**options, "classifier_activation": None}
        return randomize_norms(tfslim.build_model(name, **options))
    # At 32 pixels the last maps of DenseNet are 1x1: its batch norms divide by noise.
    size = 64 if name in ("DenseNet121", "MobileNet") else 32
    model = getattr(APPLICATIONS[name].applications, name)(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )
    return randomize_norms(model)


def _tiny(name):
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((12, 12, 3))
    if name == "tiny dense":
        x = layers.MaxPooling2D()(layers.SeparableConv2D(8, 3, activation="relu")(x))
        x = layers.BatchNormalization()(layers.Dense(24)(layers.Flatten()(x)))
        x = layers.Dense(16, activation="gelu")(layers.ReLU()(x))
        return inputs, layers.Dense(4, activation="tanh")(x)
    if name == "tiny transposed":
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(x)
        x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
        x = layers.AveragePooling2D()(x)
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        return inputs, layers.Conv2D(4, 3)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    if name == "tiny mobile":
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(24, 1)(x)
    else:  # What keras.applications write for MobileNetV3, and a preactivation.
        y = layers.Conv2D(8, 3, padding="same")(x)
        y = y * (layers.ReLU(6.0)(y + 3.0) * (1 / 6))
        x = layers.Add()([x, y])
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, y * 0.5 + 0.1])
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return inputs, layers.Dense(8)(x)


def contexts(model, done):
    """Returns the last stage of each method; `done` has what it builds on."""
    return {
        "magnitude": lambda: sparsity.prune_magnitude(model, target=TARGET, steps=2),
        "2:4": lambda: sparsity.prune_m_by_n(model),
        "block": lambda: sparsity.prune_blocks(
            model, target=TARGET, block=(1, 4), steps=2
        ),
        "xnnpack": lambda: sparsity.prune_for_xnnpack(
            model, target=TARGET, steps=2, symmetric_padding=True
        ),
        "cluster": lambda: sparsity.cluster_kernels(model, clusters=CLUSTERS),
        "qat": lambda: sparsity.quantize_aware(model),
        "pqat": lambda: sparsity.quantize_aware(done["magnitude"], keep="zeros"),
        "cqat": lambda: sparsity.quantize_aware(done["cluster"], keep="clusters"),
        "magnitude+cluster": lambda: sparsity.cluster_kernels(
            done["magnitude"], clusters=CLUSTERS, keep_zeros=True
        ),
        "pcqat": lambda: sparsity.quantize_aware(
            done["magnitude+cluster"], keep="both"
        ),
    }


def row(name, methods=METHODS):
    """Runs every method on one model: method -> what came out."""
    model, done, cells = build(name), {}, {}
    needed = {"pqat": ["magnitude"], "cqat": ["cluster"]}
    needed["pcqat"] = ["magnitude", "magnitude+cluster"]
    stages = []
    for method in methods:
        stages += [*needed.get(method, []), method]
    for stage in dict.fromkeys(stages):
        started = time.perf_counter()
        try:
            cells[stage] = cell(model, stage, done)
        except Exception as error:  # No reason to stop the other cells.
            reason = f"{type(error).__name__}: {error}"
            cells[stage] = {"status": "fault", "reason": reason}
        gc.collect()  # Of a large model, the garbage of one cell is gigabytes.
        seconds = time.perf_counter() - started
        print(f"{name} {stage} {seconds:.0f} s: {cells[stage]}", flush=True)
    done.clear()
    tf_keras.backend.clear_session()
    return {method: cells[method] for method in methods}


def cell(model, stage, done):
    """Trains, converts and runs one model with one method."""
    x, y = _data(model)
    try:
        with contexts(model, done)[stage]() as training:
            # Two steps of a small network take less time than tracing them.
            training.model.compile(
                tf_keras.optimizers.SGD(1e-6),
                "mse",
                run_eagerly=model.count_params() < 1e4,
            )
            training.model.fit(
                x, y, batch_size=2, verbose=0, callbacks=training.callbacks
            )
    except errors.TfslimError as error:
        return {"status": "refused", "reason": str(error)}
    result = done[stage] = training.result
    is_quantized = stage.endswith("qat")
    convert = tfslim.convert_quantized if is_quantized else tfslim.convert_model
    file = convert(result).tflite
    check_numbers(result, file, x, is_quantized=is_quantized)
    check_kernels(stage, file)
    return {"status": "works", "partitions": tflite.coverage(file).num_partitions}


def _data(model):
    random = np.random.default_rng(0)
    shape = (4, *model.input_shape[1:])
    x = random.normal(size=shape).astype(np.float32)
    return x, np.zeros((4, *model.output_shape[1:]), np.float32)


def check_numbers(model, file, x, *, is_quantized):
    """Compares the file with the Keras model that it was made of."""
    # In float64: the square of what batch norms after two steps give may overflow.
    truth = np.asarray(model(x[:1], training=False), np.float64)
    [output] = tflite.run(file, x[:1]).values()
    error = np.linalg.norm(output - truth) / max(np.linalg.norm(truth), 1e-6)
    assert np.isfinite(output).all()
    # Deep networks with random weights add the rounding of a hundred layers up.
    assert error < (0.3 if is_quantized else 1e-4), error


def check_kernels(stage, file):
    """Looks for zeros and clusters in the file itself."""
    read = analysis.read_sparsity(file)
    kernels = [k for k in read if k.op != "DEPTHWISE_CONV_2D" and k.nonzero.size > 64]
    if stage == "2:4":
        assert all(k.fits(2, 4) for k in kernels if k.nonzero.shape[-1] >= 4)
    if stage in ("magnitude", "block", "pqat", "pcqat", "magnitude+cluster"):
        assert all(k.sparsity > TARGET - 0.05 for k in kernels)
    if stage == "xnnpack":
        pointwise = [k for k in kernels if k.nonzero.shape[1:3] == (1, 1)]
        assert all(k.sparsity > TARGET - 0.05 for k in pointwise)
    if stage in ("cluster", "cqat", "pcqat"):
        # A scale per channel tears one table of values into one a channel.
        assert all(k.num_values_per_channel <= CLUSTERS for k in kernels)


def markdown(table):
    """Returns the table as the documentation shows it."""
    lines = [
        f"| model | {' | '.join(METHODS)} |",
        f"|---|{'---|' * len(METHODS)}",
    ]
    for name, cells in table.items():
        words = [_word(cells[method]) for method in METHODS]
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines)


def _word(cell):
    if cell["status"] != "works":
        return "refused"
    number = cell["partitions"]
    return "works" if number == 1 else f"works, {number} partitions"


def main(names):
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for name in names or [*TINY, *ZOO, *APPLICATIONS]:
        table[name] = row(name)
        TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
