"""Each threshold against brute force, or real quantization, of the same values."""

import math

import numpy as np
import pytest

from tfslim import tflite
from tfslim.quantization.ranges.statistics import Histogram
from tfslim.quantization.ranges.thresholds import THRESHOLDS, kl, mse, percentile


def filled(values):
    values = np.asarray(values, np.float32)
    shape = values.shape
    histogram = Histogram(
        tflite.Tensor(0, "t", shape, shape, "float32", None, None, False), exact=True
    )
    histogram.update(values[np.newaxis])
    return histogram


def slow_divergence(counts, start, stop, levels):
    """KL(p || q) bin by bin, as Migacz' slides tell it."""
    p = [float(c) for c in counts[start:stop]]
    inside = list(p)
    if not sum(inside):
        return math.inf
    p[0] += sum(counts[:start])
    p[-1] += sum(counts[stop:])
    q = [0.0] * len(p)
    for level in range(levels):
        first = level * len(p) // levels
        last = (level + 1) * len(p) // levels
        filled_bins = [i for i in range(first, last) if p[i] > 0]
        for i in filled_bins:
            q[i] = max(sum(inside[first:last]), 1) / len(filled_bins)
    sum_p, sum_q = sum(p), sum(q)
    result = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            result += a / sum_p * math.log((a / sum_p) / (b / sum_q))
    return result


def random_counts(rng):
    bins = int(rng.integers(40, 120))
    decay = np.exp(-np.arange(bins) / rng.uniform(5, 60))
    counts = rng.poisson(decay * rng.uniform(1, 300))
    counts[rng.random(bins) < rng.uniform(0, 0.5)] = 0
    counts[-1] += 1
    return counts


def test_kl_equals_brute_force_on_100_random_histograms():
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts, levels = random_counts(rng), int(rng.integers(2, 17))
        pairs = [
            (start, stop)
            for start in range(0, 20, 7)
            for stop in range(start + levels, len(counts) + 1, 3)
        ]
        starts, stops = (np.array(column) for column in zip(*pairs, strict=True))
        fast = kl.divergence(counts, starts, stops=stops, levels=levels)
        slow = [slow_divergence(counts, a, b, levels) for a, b in pairs]
        np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-12)
        assert int(np.argmin(fast)) == int(np.argmin(np.round(slow, 12)))


def test_kl_threshold_equals_brute_force_over_every_bin():
    rng = np.random.default_rng(1)
    for _ in range(3):
        counts = rng.poisson(3000 * np.exp(-np.arange(420) / rng.uniform(20, 90)))
        slow = [slow_divergence(counts, 0, i, 256) for i in range(256, 421)]
        stops = np.arange(256, 421)
        fast = kl.divergence(counts, np.zeros_like(stops), stops=stops, levels=256)
        assert int(np.argmin(fast)) == int(np.argmin(slow))


def quantization_error(values, low, high):
    """Mean squared error of asymmetric INT8, computed value by value."""
    scale = (max(high, 0) - min(low, 0)) / 255
    zero_point = np.rint(-128 - min(low, 0) / scale)
    q = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float(np.mean((values - (q - zero_point) * scale) ** 2))


def heavy_tailed(rng, *, relu, size=300_000):
    values = rng.normal(size=size)
    values[: size // 2000] *= 30
    return np.maximum(values, 0) if relu else values


@pytest.mark.parametrize("relu", [True, False])
def test_mse_is_the_best_of_all_real_quantizations(relu):
    values = heavy_tailed(np.random.default_rng(0), relu=relu).astype(np.float32)
    low, high = mse.mse(filled(values))
    found = quantization_error(values, low, high)
    top = np.abs(values).max()
    tried = [
        quantization_error(values, 0 if relu else -a * top, b * top)
        for a in np.linspace(0.02, 1, 40)
        for b in np.linspace(0.02, 1, 40)
    ]
    assert found <= 1.02 * min(tried)
    assert found < 0.9 * quantization_error(values, values.min(), values.max())


@pytest.mark.parametrize("share", [0.99, 0.999, 0.9999])
def test_percentile_is_numpys(share):
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    histogram = filled(values)
    found = percentile.percentile(histogram, share=share)
    outside = np.mean(values < found[0]), np.mean(values > found[1])
    bin_share = histogram.bins()[0][:400].max() / values.size
    np.testing.assert_allclose(outside, 1 - share, atol=bin_share + 2 / values.size)


@pytest.mark.parametrize("name", THRESHOLDS.names())
@pytest.mark.parametrize("sign", [1, -1])
def test_zero_stays_and_no_range_goes_beyond_the_extremes(name, sign):
    rng = np.random.default_rng(0)
    values = sign * heavy_tailed(rng, relu=True).astype(np.float32)
    method = THRESHOLDS.get(name)
    low, high = method.choose(filled(values))
    assert (low if sign > 0 else high) == 0
    assert values.min() <= low < high <= values.max()


@pytest.mark.parametrize("name", THRESHOLDS.names())
@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-2.0, -1.0], [0.0, 0.0, 5.0], [-1e-38, 1e-38]]
)
def test_few_values_keep_their_range(name, values):
    low, high = THRESHOLDS.get(name).choose(filled(values))
    assert min(values) - 1e-6 <= low <= high <= max(values) + 1e-6
    if name in ("minmax", "kl", "moving_average"):
        assert (low, high) == (np.float32(min(values)), np.float32(max(values)))


def test_kl_cuts_a_far_tail_on_either_side():
    rng = np.random.default_rng(0)
    body = rng.normal(size=400_000)
    body[:40] = 60
    low, high = kl.kl(filled(body))
    assert high < 12 and low < -3.5
    low, high = kl.kl(filled(-body))
    assert low > -12 and high > 3.5


def test_kl_keeps_what_relu_leaves_and_the_textbook_does_not():
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=400_000), 0).astype(np.float32)
    histogram = filled(values)
    errors = {
        name: quantization_error(values, *THRESHOLDS.get(name).choose(histogram))
        for name in ("minmax", "kl", "kl_textbook")
    }
    assert errors["kl"] < 1.5 * errors["minmax"]
    assert errors["kl_textbook"] > 4 * errors["kl"]


@pytest.mark.parametrize("value", [0.7, 2.5])
def test_kl_is_not_moved_by_a_channel_that_is_constant(value):
    rng = np.random.default_rng(0)
    body = np.maximum(rng.normal(size=400_000), 0)
    _, without = kl.kl(filled(body))
    _, high = kl.kl(filled(np.concatenate([body, np.full(60_000, value)])))
    assert high == pytest.approx(without, rel=0.15)


def test_kl_keeps_the_end_where_values_pile_up():
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(2, 3, size=400_000), 0, 6)  # ReLU6: 9% are 6.
    assert kl.kl(filled(values))[1] == 6


def test_kl_keeps_the_range_of_pixels():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, size=400_000) * rng.random(400_000) // 1 / 255
    assert kl.kl(filled(values))[1] == np.float32(values.max())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kl_leaves_values_far_from_zero_alone(sign):
    """Pixels that were normalized twice: -1.008 to -0.992, and nothing else."""
    random = np.random.default_rng(0)
    body = np.clip(random.normal(1.0, 0.003, 400_000), 0.992, 1.008)
    seen = filled(sign * body)
    assert kl.kl(seen) == seen.range


def test_kl_reaches_a_body_that_is_a_thirtieth_of_the_range():
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=400_000))
    values[:3] = 130
    _, high = kl.kl(filled(values))
    assert 2.5 < high < 10
