"""The streaming histogram against numpy on all values at once."""

import math
import tracemalloc

import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

import tfslim
from tfslim import errors, quantization, tflite
from tfslim.quantization.ranges.statistics import Extremes, Histogram


def tensor(*shape):
    return tflite.Tensor(0, "t", shape, shape, "float32", None, None, False)


def filled(parts, *, exact=True):
    """A histogram of samples, one at a time."""
    histogram = Histogram(tensor(*parts[0].shape), exact=exact)
    for part in parts:
        histogram.update(part[np.newaxis])
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
    assert 1900 <= sampled.num_values < 2 * 2048
    counts, _ = sampled.bins()
    shares = counts[counts > 0] / counts.sum()
    np.testing.assert_allclose(shares[:channels], 1 / channels, rtol=0.02)


def test_places_differ_from_sample_to_sample():
    """What is in one place of all samples is seen in some of them."""
    random = np.random.default_rng(0)
    values = random.normal(size=(200, 64, 64, 8)).astype(np.float32)
    values[:, 17, 23, 5] = 50.0
    sampled = filled(list(values[:, None]), exact=False)
    counts, below = sampled.bins()
    high = counts[below + round(40 / sampled.width) :].sum()
    # One of 17 elements is counted; 12 of 200 are expected, never none nor all.
    assert 3 <= high <= 30


@pytest.mark.parametrize("channels", [1, 3, 96, 960, 2048])
def test_each_channel_is_sampled_alike(channels):
    values = np.broadcast_to(
        np.arange(channels, dtype=np.float32), (1, 14, 14, channels)
    )
    sampled = filled([np.ascontiguousarray(values)], exact=False)
    counts, _ = sampled.bins()
    counts = counts[:: round(1 / sampled.width)]
    assert len(counts) == channels
    assert counts.max() - counts.min() <= 1
    assert counts.min() >= min(3, 196)


@st.composite
def groups(draw):
    """Samples of one shape, zeros and signs as a network has them, in groups."""
    shape = draw(st.sampled_from([(), (5,), (3, 7), (40, 30, 5), (70, 80, 16)]))
    count = draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    values = random.normal(size=(count, *shape)).astype(np.float32)
    values *= draw(st.sampled_from([1e-20, 0.3, 1000.0]))
    values *= 2.0 ** random.integers(-3, 6, (count, *[1] * len(shape)))
    if draw(st.booleans()):
        values = np.maximum(values, draw(st.sampled_from([0.0, 0.1])))
    if draw(st.booleans()):
        values[random.random(values.shape) < 0.01] = -np.inf
    cuts = sorted(
        draw(st.sets(st.integers(1, count - 1)) if count > 1 else st.just(set()))
    )
    return values.astype(np.float32), np.split(values.astype(np.float32), cuts)


@settings(max_examples=60, deadline=None)
@given(groups(), st.booleans())
def test_groups_count_what_brute_force_counts(samples, exact):
    values, parts = samples
    histogram = Histogram(tensor(*values.shape[1:]), exact=exact)
    average = None
    for part in parts:
        histogram.update(part)
        # Reading in between must not matter.
        assert histogram.num_values <= values.size
    counted = []
    for sample in values:
        finite = sample[np.isfinite(sample)]
        flat = finite.astype(np.float64)
        if not flat.size:
            continue
        step = max(1, flat.size // 2048)
        while math.gcd(step, values.shape[-1] if values.ndim > 1 else 1) > 1:
            step += 1
        probed = finite[:: max(1, flat.size // 64)]
        start = sum(int.from_bytes(v.tobytes(), "little") for v in probed) % step
        counted.append(flat if exact else flat[start::step])
        ends = np.array([flat.min(), flat.max()])
        average = ends if average is None else 0.95 * average + 0.05 * ends
    if not counted:
        assert histogram.range == (0.0, 0.0)
        return
    finite = values[np.isfinite(values)]
    assert histogram.range == (finite.min(), finite.max())
    np.testing.assert_allclose(histogram.average, average, rtol=1e-12)
    counts, below = histogram.bins()
    bins = np.floor(np.concatenate(counted) / histogram.width).astype(int) + below
    np.testing.assert_array_equal(counts, np.bincount(bins, minlength=len(counts)))


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0.0), (70000, 0.0), (0, -0.0), (70000, -3.0), (9, np.inf), (70000, -np.inf)],
)
def test_the_ends_of_large_tensors_are_exact(place, value):
    seen = Extremes(tensor(80000))
    values = np.random.default_rng(0).uniform(1, 2, (3, 80000)).astype(np.float32)
    values[1, place] = value
    for group in (values[:1], values[1:]):
        seen.update(group)
    finite = values[np.isfinite(values)]
    assert seen.range == (finite.min(), finite.max())
    values[2, 79999] = np.nan
    with pytest.raises(errors.QuantizationError, match="'t' holds a NaN"):
        seen.update(values)


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
        tracemalloc.start()
        histogram = Histogram(tensor(1, 32, 32, 8))
        for _ in range(number):
            histogram.update(rng.normal(size=(1, 1, 32, 32, 8)).astype(np.float32))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(10_000) <= 1.05 * peak(100)


def test_moving_average_is_upstreams():
    from litert_quantizer.utils import qsv_utils

    rng = np.random.default_rng(0)
    seen, truth = Extremes(tensor(8)), {}
    for _ in range(5):
        values = rng.normal(size=8).astype(np.float32)
        seen.update(values[np.newaxis])
        fresh = {"min": values.min(keepdims=True), "max": values.max(keepdims=True)}
        truth = qsv_utils.moving_average_update(truth, fresh) if truth else fresh
    np.testing.assert_allclose(
        seen.average, (truth["min"].item(), truth["max"].item()), rtol=1e-5
    )


def test_histograms_of_a_report_hold_every_value():
    samples = [np.random.default_rng(n).normal(size=(1, 6, 6, 2)) for n in range(4)]
    samples = [np.float32(sample) for sample in samples]
    model = tf_keras.Sequential(
        [tf_keras.layers.Conv2D(3, 3, input_shape=(6, 6, 2), activation="relu")]
    )
    content = tfslim.convert_model(model).tflite
    ranges = quantization.calibrate(content, samples)
    found = quantization.histograms(content, samples, calibration=ranges)
    assert {entry["samples"] for entry in found} == {4}
    (entry,) = [e for e in found if sum(e["counts"]) == np.size(samples)]
    assert entry is found[0]  # The input comes first.
    truth, _ = np.histogram(np.float64(samples), entry["edges"])
    assert entry["counts"] == truth.tolist()
    assert len(entry["counts"]) <= 64
    ((low, high),) = entry["thresholds"].values()
    assert (low, high) == pytest.approx((np.min(samples), np.max(samples)))
