"""The streaming histogram against numpy on all values at once."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfslim import tflite
from tfslim.quantization.statistics import Extremes, Histogram


def tensor(*shape):
    return tflite.Tensor(0, "t", shape, shape, "float32", None, None, False)


def filled(parts, *, exact=True):
    histogram = Histogram(tensor(*parts[0].shape), exact=exact)
    for part in parts:
        histogram.update(part)
    return histogram


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 4096.0, 1e30])
def test_counts_are_numpys(scale):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=500).astype(np.float32) * scale for _ in range(6)]
    parts[3] *= 50  # The bins must widen in the middle.
    parts[4][:100] = 0
    histogram = filled([np.float32(part) for part in parts])
    values = np.concatenate(parts).astype(np.float32).astype(np.float64)
    counts, below = histogram.bins()
    edges = (np.arange(len(counts) + 1) - below) * histogram.width
    # numpy's last bin is closed; ours are all half open.
    truth, _ = np.histogram(values, edges)
    assert values.max() < edges[-1]
    np.testing.assert_array_equal(counts, truth)
    assert 4096 <= max(below, len(counts) - below) <= 8192
    assert math.log2(histogram.width) % 1 == 0
    mean, std = histogram.moments
    assert abs(mean - values.mean()) <= histogram.width
    assert abs(std - values.std()) <= histogram.width


floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(floats, min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    seed=st.integers(0, 1000),
)
def test_order_and_partition_change_nothing(values, cuts, seed):
    values = np.array(values, np.float32)
    shuffled = np.random.default_rng(seed).permutation(values)
    parts = np.split(shuffled, sorted(c for c in cuts if c < len(values)))
    whole, cut = filled([values]), filled(parts)
    assert whole.digest == cut.digest
    assert whole.range == cut.range
    assert whole.moments == cut.moments


def test_a_large_tensor_is_sampled_over_all_its_channels():
    channels = 16
    values = np.zeros((1, 64, 64, channels), np.float32)
    values[...] = np.arange(channels) + 0.5
    values[0, 3, 5, 7] = 1000  # One outlier counts for the range at least.
    sampled = filled([values], exact=False)
    assert sampled.range == (0.5, 1000.0)
    assert 2048 <= sampled.num_values < 2 * 4096
    counts, _ = sampled.bins()
    shares = counts[counts > 0] / counts.sum()
    np.testing.assert_allclose(shares[:channels], 1 / channels, rtol=0.02)


def test_infinity_is_passed_over_and_nothing_is_nothing():
    histogram = filled([np.float32([1, np.inf, -np.inf, -2]), np.float32([np.inf])])
    assert histogram.range == (-2.0, 1.0)
    assert histogram.num_values == 2
    empty = Histogram(tensor(3))
    assert (empty.range, empty.moments) == ((0.0, 0.0), (0.0, 0.0))
    zeros = filled([np.zeros(5, np.float32)])
    assert (zeros.range, zeros.num_values) == ((0.0, 0.0), 5)


def test_memory_does_not_grow_with_the_samples():
    rng = np.random.default_rng(0)

    def peak(number):
        histogram = Histogram(tensor(1, 32, 32, 8))
        tracemalloc.start()
        for _ in range(number):
            histogram.update(rng.normal(size=(1, 32, 32, 8)).astype(np.float32))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(1000) <= 1.05 * peak(10)


def test_moving_average_is_upstreams():
    from litert_quantizer.utils import qsv_utils

    rng = np.random.default_rng(0)
    seen, truth = Extremes(tensor(8)), {}
    for _ in range(5):
        values = rng.normal(size=8).astype(np.float32)
        seen.update(values)
        fresh = {"min": values.min(keepdims=True), "max": values.max(keepdims=True)}
        truth = qsv_utils.moving_average_update(truth, fresh) if truth else fresh
    np.testing.assert_allclose(
        seen.average, (truth["min"].item(), truth["max"].item()), rtol=1e-5
    )
