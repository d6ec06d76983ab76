"""Small float `.tflite` files, made by TensorFlow's own converter."""

import contextlib
import io
import os

import numpy as np

from tfslim.tflite import trial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def convert(model):
    """Converts a tf_keras model whose inputs have batch size 1."""
    import tensorflow as tf

    specs = [tf.TensorSpec(i.shape, i.dtype, name=i.name) for i in model.inputs]
    call = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0]))
    return convert_function(call, specs, model)


def convert_function(function, specs, trackable=None):
    import tensorflow as tf

    call = tf.function(function, autograph=False).get_concrete_function(*specs)
    with contextlib.redirect_stdout(io.StringIO()):
        content = tf.lite.TFLiteConverter.from_concrete_functions(
            [call], trackable
        ).convert()
    trial.vouch(content)  # A child process for each of hundreds would take a minute.
    return content


def samples(shape, *, count=20, seed=0, low=-0.4, high=1.7):
    """Uniform noise in a range that is not symmetric."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(low, high, shape).astype(np.float32) for _ in range(count)]


def worst_column_db(truth, found):
    """The dB of most samples in the worst column, as `evaluation.Columns` has it.

    Args:
        truth: float [samples, columns], none of which is quiet beside the others.
        found: the same of another file.
    """
    truth, found = (np.float64(part).reshape(len(part), -1) for part in (truth, found))
    ratios = (truth - found) ** 2 / truth.var(axis=0, ddof=1)
    noise = ratios.mean(axis=1)
    usual = ratios[np.argsort(noise)[: int(np.ceil(0.85 * len(noise)))]].mean(axis=0)
    mean_db = min(np.mean(-10 * np.log10(noise)), -10 * np.log10(usual.mean()))
    part = np.log(len(usual)) / np.ceil(0.85 * len(noise))
    chance = 1 + 2 * np.sqrt(part) + 2 * part
    return mean_db - 10 * np.log10(max(1.0, usual.max() / usual.mean() / chance))
