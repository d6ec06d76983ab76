"""Zoo x full_integer: what Vela leaves to the CPU, float tensors, and the error.

  python -m benchmarks.targets
  python -m benchmarks.targets --models=mobilenet_v2,resnet18

Each network of the zoo has random weights, with its batch norms' statistics taken
from noise, and is quantized with 64 samples by `quantize_tflite(target=
"full_integer")` and by TFLiteConverter's strict INT8 (TFLITE_BUILTINS_INT8, INT8
ends). The error is that of the logits over 16 other samples, in dB. Vela compiles both
(`tfslim consumers --setup=vela`).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks import record

SAMPLES, TEST = 64, 16
# Small inputs, where the network takes them: Vela and the calibration are quicker.
SIDES = {"alexnet": 64, "mlp": 8}
_SIDE = 64


def build(name: str) -> Any:
    """Builds a network of the zoo whose activations are of usual size."""
    import tf_keras

    import tfslim
    from tfslim import models

    tf_keras.utils.set_random_seed(0)
    spec = models.model_spec(name)
    shape = spec.input_shape
    if len(shape) == 3 and spec.min_size is not None:
        side = max(SIDES.get(name, _SIDE), spec.min_size)
        shape = (side, side, shape[2])
    model = tfslim.build_model(name, input_shape=shape)
    noise = inputs(model, SAMPLES, seed=2)
    has_norms = any("BatchNorm" in type(layer).__name__ for layer in model.layers)
    if has_norms:
        model = tfslim.recalibrate_batch_norm(model, [np.concatenate(noise)])
    return model


def inputs(model: Any, count: int, *, seed: int) -> list[np.ndarray]:
    """Returns noise in the range that the networks are made for."""
    random = np.random.default_rng(seed)
    shape = (1, *model.inputs[0].shape[1:])
    return [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(count)]


def by_converter(model: Any, samples: list[np.ndarray]) -> bytes:
    """Returns what TFLiteConverter's strict INT8 makes."""
    import tensorflow as tf

    from tfslim import quiet

    with quiet.captured_stderr():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content: bytes = converter.convert()
    return content


def error_db(content: bytes, model: bytes, samples: list[np.ndarray]) -> float:
    """Returns the worst output's SQNR in dB of a file with integer ends."""
    from tfslim import tflite

    runners = tflite.Runner(model), tflite.Runner(content)
    entry = runners[1].model.inputs[0].quantization
    assert entry is not None
    signal = noise = np.zeros(len(runners[0].model.outputs))
    for sample in samples:
        steps = np.rint(sample / entry.scale[0]) + entry.zero_point[0]
        truth = list(runners[0](sample).values())
        found = runners[1](np.clip(steps, -128, 127).astype(np.int8)).values()
        reals = [
            (y.astype(np.float32) - t.quantization.zero_point[0])
            * t.quantization.scale[0]
            for y, t in zip(found, runners[1].model.outputs, strict=True)
        ]
        pairs = list(zip(truth, reals, strict=True))
        signal = signal + [float((a**2).sum()) for a, _ in pairs]
        noise = noise + [float(((a - b) ** 2).sum()) for a, b in pairs]
    return float((10 * np.log10(signal / np.maximum(noise, 1e-30))).min())


def left_to_cpu(content: bytes) -> dict[str, Any]:
    """Compiles a file by Vela; returns what it does not take."""
    from tfslim import consumers

    try:
        done = consumers.CONSUMERS.get("vela").run(content, {})
    except consumers.ConsumerError as error:  # Its answer.
        return {"cpu_operators": None, "vela_refuses": str(error)}
    return {"cpu_operators": list(done.fell_back), **done.versions}


def row(name: str) -> dict[str, Any]:
    """Makes and measures both files of one network."""
    import tfslim
    from tfslim import errors, tflite
    from tfslim.evaluation import compare_files

    model = build(name)
    samples, test = inputs(model, SAMPLES, seed=0), inputs(model, TEST, seed=1)
    float_file = tfslim.convert_model(model).tflite
    done = tfslim.quantize_tflite(float_file, samples=samples, target="full_integer")
    content = tflite.read(done.tflite)
    files = {"tfslim": done.tflite}
    found: dict[str, Any] = {
        "model": name,
        "input_shape": list(model.inputs[0].shape[1:]),
        "ops": len(content.ops),
        "float_tensors": sum("float" in t.dtype for t in content.tensors),
    }
    try:
        files["converter"] = by_converter(model, samples)
    except Exception as error:  # Whatever it raises is its answer.
        found["converter"] = f"fails: {errors.first_line(error)}"
    truth = compare_files.without_softmax(float_file)
    for side, file in files.items():
        found |= {f"{side}_{k}": v for k, v in left_to_cpu(file).items()}
        found[f"{side}_db"] = error_db(compare_files.without_softmax(file), truth, test)
    return found


def main() -> None:
    """Writes results/targets.json."""
    from tfslim import models

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(models.MODELS.names()))
    options = parser.parse_args()
    rows = []
    for name in options.models.split(","):
        rows.append(row(name))
        print(rows[-1], flush=True)
    record.save("targets", rows, samples=SAMPLES, test=TEST, target="full_integer")


if __name__ == "__main__":
    main()
