"""Samples run together give what each gives alone."""

import functools

import numpy as np
import pytest
import small_models
from test_quantize_collect import SHAPE, Everything

from tfslim import errors, tflite
from tfslim.quantization.ranges import batching
from tfslim.quantization.ranges.collect import activations, collect
from tfslim.quantization.ranges.statistics import Histogram


def grouped(model):
    runner = tflite.Runner(model, preserve_all_tensors=True)
    found = batching.take_groups(runner, activations(runner.model.graphs[0]))
    return runner.batch if found else None


def converted(function, shape=(1, 4, 3)):
    import tensorflow as tf

    spec = tf.TensorSpec(shape, tf.float32, name="x")
    return small_models.convert_function(function, [spec])


@pytest.mark.parametrize("count", [1, 8, 21])
def test_every_bit_is_that_of_single_runs(residual, count):
    assert grouped(residual) == 8
    xs = small_models.samples(SHAPE, count=count)
    seen, _ = collect(residual, xs, statistic=Everything)
    runner = tflite.Runner(residual, preserve_all_tensors=True)
    for i, x in enumerate(xs):
        runner.set_inputs(x)
        runner.invoke()
        for tensor in activations(runner.model.graphs[0]):
            values = seen[tensor.name].values
            assert len(values) == count
            truth = runner.interpreter.get_tensor(tensor.index)
            assert values[i].tobytes() == truth.tobytes()


@pytest.mark.parametrize("exact", [True, False])
def test_order_and_partition_of_the_samples_change_nothing(residual, exact):
    xs = small_models.samples(SHAPE, count=19)
    order = np.random.default_rng(0).permutation(19)
    forms = [
        xs,
        [xs[i] for i in order],
        [np.concatenate(xs[:5]), np.concatenate(xs[5:])],
    ]
    make = functools.partial(Histogram, exact=exact)
    first, *others = (collect(residual, form, statistic=make)[0] for form in forms)
    for other in others:
        for name, truth in first.items():
            found = other[name]
            assert (found.digest, found.range) == (truth.digest, truth.range)
            assert found.moments == truth.moments


def test_what_mixes_samples_is_run_alone():
    import tensorflow as tf

    def fixed(x):
        return tf.reshape(tf.reshape(x, (1, 12)) + 1.0, (1, 3, 4)) * 2.0

    def mixed(x):
        return tf.reverse(x, [0]) * 2.0

    for function in (fixed, mixed):
        model = converted(function)
        assert grouped(model) is None
        xs = small_models.samples((1, 4, 3), count=5)
        seen, count = collect(model, xs, statistic=Everything)
        assert count == 5
        *_, output = seen.values()
        truth = [next(iter(tflite.run(model, x).values())) for x in xs]
        np.testing.assert_array_equal(output.values, truth)


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 1024, 512)])
def test_pairs_and_large_tensors_are_run_alone(shape):
    model = converted(lambda x: x * 2.0 + 1.0, shape)
    assert grouped(model) == 1
    (x,) = small_models.samples(shape, count=1)
    seen, count = collect(model, [x], statistic=Everything)
    assert count == 1
    *_, output = seen.values()
    np.testing.assert_allclose(output.values, [x * 2 + 1], rtol=1e-6)


def test_a_wrong_sample_is_named(residual):
    right, wrong = np.zeros(SHAPE, np.float32), np.zeros((1, 12, 1, 3), np.float32)
    with pytest.raises(errors.ConfigError, match=r"\[1, 12, 1, 3\]; the model takes"):
        collect(residual, [right, wrong], statistic=Histogram)
    with pytest.raises(errors.ConfigError, match="float64; the model takes float32"):
        collect(residual, [right, right.astype(np.float64)], statistic=Histogram)
