"""What does each method of TF-MOT cost in accuracy, and save in bytes?

A small network on scikit-learn's digits, trained, then trained on with each method;
accuracy of the exported file on the test images: float files, INT8 after QAT.

  python -m benchmarks.sparsify_digits
"""

from __future__ import annotations

import argparse
import gzip

import numpy as np

from benchmarks import record

OPTIONS = {"epochs": 20, "batch_size": 32, "verbose": False}


def network():
    import tf_keras

    layers = tf_keras.layers
    x = inputs = tf_keras.Input((8, 8, 1))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def digits(seed: int):
    from sklearn import datasets, model_selection

    images, labels = datasets.load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    return model_selection.train_test_split(
        images, labels, test_size=0.3, random_state=seed, stratify=labels
    )


def accuracy(file: bytes, x, y) -> float:
    from tfslim import tflite

    run = tflite.Runner(file)
    [name] = run.model.output_names
    found = [int(run(x[i : i + 1])[name].argmax()) for i in range(len(x))]
    return float(np.mean(np.array(found) == y))


def rows(seed: int) -> list[dict]:
    import tf_keras

    import tfslim
    from tfslim.sparsity import sparsify

    x, x_test, y, y_test = digits(seed)
    train, validation = (x[:1000], y[:1000]), (x[1000:], y[1000:])
    tf_keras.utils.set_random_seed(seed)
    model = network()
    tfslim.fit(
        model, train, validation=validation, task="classification", seed=seed, **OPTIONS
    )
    float_file = tfslim.convert_model(model).tflite
    samples = [x[i : i + 1] for i in range(200)]
    files = {
        "trained": float_file,
        "trained, INT8": tfslim.quantize_tflite(float_file, samples=samples).tflite,
    }
    for method in sparsify.METHODS:
        if method == "xnnpack":
            continue  # The network has not its form.
        print(seed, method, flush=True)
        treated, report = tfslim.sparsify(
            model, train, validation=validation, method=method, seed=seed, **OPTIONS
        )
        quantized = report.is_quantized
        convert = tfslim.convert_quantized if quantized else tfslim.convert_model
        files[method] = convert(treated).tflite
        if not quantized:
            files[f"{method}, INT8"] = tfslim.quantize_tflite(
                files[method], samples=samples
            ).tflite
    found = []
    for name, file in files.items():
        row = {
            "seed": seed,
            "method": name,
            "accuracy": accuracy(file, x_test, y_test),
            "size_bytes": len(file),
            "gzip_bytes": len(gzip.compress(file, 6, mtime=0)),
        }
        print(row, flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    found = [row for seed in seeds for row in rows(seed)]
    record.save("sparsify_digits", found, options=OPTIONS, target=0.8, clusters=16)


if __name__ == "__main__":
    main()
