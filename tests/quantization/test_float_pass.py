"""What calibration's pass gives on the way is what passes of their own would give."""

import numpy as np
import pytest
import small_models

from tfslim import tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import Options, correct_biases, quantize_accurately
from tfslim.quantization.quantize import quantize
from tfslim.quantization.repair import rounding
from tfslim.quantization.repair.improve import Improver
from tfslim.quantization.rules import recipe

SHAPE = (1, 16, 16, 3)
OPTIONS = Options(equalize=False, rounding="gptq", bias_correction="fast")


def images(count=40, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


class Shuffled:
    """Data that comes in another order each time it is read."""

    def __init__(self, arrays):
        self.arrays, self.passes = arrays, 0

    def __iter__(self):
        self.passes += 1
        order = np.random.default_rng(self.passes).permutation(len(self.arrays))
        return iter([self.arrays[place] for place in order])


def looked_on(model, samples):
    """Returns an improver that has seen a pass of calibration, and the file."""
    improver = Improver(model, samples, options=OPTIONS)
    done = quantize(
        model,
        recipe.get("int8"),
        options=OPTIONS,
        samples=samples,
        also=improver.looking_on,
    )
    return improver, done.tflite


def test_statistics_are_those_of_the_samples_fitted_to(mobile):
    xs = images()
    improver, _ = looked_on(mobile, xs)
    known = improver._passes.of(mobile)
    runner = tflite.Runner(mobile, preserve_all_tensors=True)
    graph = runner.model.graphs[0]
    named = {tensor.name: tensor.index for tensor in graph.tensors}
    sums = dict.fromkeys(known.means, 0.0)
    for x in xs[::2]:
        runner(x)
        for name in sums:
            values = runner.interpreter.get_tensor(named[name])
            sums[name] += values.reshape(-1, values.shape[-1]).mean(axis=0)
    assert sums
    for name, total in sums.items():
        np.testing.assert_allclose(
            known.means[name].value, total / len(xs[::2]), rtol=1e-4, atol=1e-5
        )


def test_outputs_are_those_of_the_samples_held_out(mobile):
    xs = images()
    improver, _ = looked_on(mobile, xs)
    [rows] = improver._passes.of(mobile).outputs
    [own] = compare_files.outputs(compare_files.without_softmax(mobile), xs[1::2])
    np.testing.assert_allclose(np.stack(rows), np.stack(own), rtol=1e-4, atol=1e-5)


def test_rounding_and_correction_are_what_passes_of_their_own_give(mobile):
    xs = images()
    improver, file = looked_on(mobile, xs)
    assert improver._passes.of(mobile).moments
    by_pass = improver._round(file, mobile)
    alone = rounding.round_weights(file, mobile, samples=xs[::2])
    a, b = (tflite.read(f).graphs[0].tensors for f in (by_pass, alone.tflite))
    kernels = [(s.raw, t.raw) for s, t in zip(a, b, strict=True) if s.raw is not None]
    same = [np.mean(s.view(np.int8) == t.view(np.int8)) for s, t in kernels]
    # Sums in another order may tip a weight that lies half way.
    assert min(same) > 0.99
    corrected = correct_biases(file, mobile, samples=xs[::2], mode="fast")[0]
    gap = improver.held_out.measure(improver._correct(file, mobile))[0]
    assert gap == pytest.approx(improver.held_out.measure(corrected)[0], abs=0.05)


def test_what_rounding_has_centred_is_not_corrected_again(mobile):
    improver, file = looked_on(mobile, images())
    rounded = improver._round(file, mobile)
    assert rounded != file
    names = improver._rounded[hash(rounded)]
    _, shifts = correct_biases(
        rounded, mobile, samples=images()[::2], mode="fast", leave=names
    )
    assert not names & {shift.tensor for shift in shifts}


def test_data_that_is_shuffled_anew_is_run_anew(mobile):
    improver, _ = looked_on(mobile, Shuffled(images()))
    assert improver._passes.of(mobile) is None
    # The held-out samples are held against their own outputs, not another sample's.
    assert improver.held_out.measure(mobile)[0] > 60


def test_one_sample_is_enough(mobile):
    done = quantize_accurately(mobile, "int8", samples=images(1), options=OPTIONS)
    assert tflite.read(done.quantized.tflite).is_quantized


def test_another_file_has_no_pass(mobile, residual):
    improver, _ = looked_on(mobile, images())
    assert improver._passes.of(residual) is None


def test_one_tensor_that_is_two_outputs():
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)

    def twice(x):
        scores = tf.nn.relu(x @ kernel)
        return {"a": scores, "b": scores}

    model = small_models.convert_function(twice, [tf.TensorSpec((1, 6), name="x")])
    xs = small_models.samples((1, 6), count=20)
    improver, file = looked_on(model, xs)
    found = improver._passes.of(model).outputs
    own = compare_files.outputs(model, xs[1::2])
    assert len(found) == len(own)
    assert improver.held_out.measure(file)[0] > 20
