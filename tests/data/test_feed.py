import numpy as np
import pytest

from tfslim import data, errors
from tfslim.preprocessing import preset


def _examples(count=10):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return data.ArrayExamples(images, np.arange(count) * 10)


def test_batches_cover_all_in_order():
    step = preset("unit", (1, 1, 1))
    parts = list(data.batches(_examples(), step, batch_size=4))
    assert [len(x) for x, _ in parts] == [4, 4, 2]
    x = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y for _, y in parts])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.reshape(-1), np.arange(10) / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, np.arange(10) * 10)
    with pytest.raises(errors.ConfigError, match="batch_size must be 1 or more"):
        next(data.batches(_examples(), step, batch_size=0))


def test_calibration_samples_repeat_and_do_not():
    step = preset("raw", (1, 1, 1))
    samples = data.calibration_samples(_examples(), step, num_samples=6, seed=3)
    first, second = ([x.item() for x in samples] for _ in range(2))
    assert first == second and len(samples) == 6
    assert len(set(first)) == 6
    other = data.calibration_samples(_examples(), step, num_samples=6, seed=4)
    assert [x.item() for x in other] != first
    assert next(iter(samples)).shape == (1, 1, 1, 1)
    assert len(data.calibration_samples(_examples(), step)) == 10


def test_calibration_reads_one_example_at_a_time():
    class Counting(data.ArrayExamples):
        largest = 0

        def inputs(self, indices):
            self.largest = max(self.largest, len(indices))
            return super().inputs(indices)

    images = np.zeros((9, 2, 2, 1), np.uint8)
    examples = Counting(images, np.zeros(9))
    assert len(list(data.calibration_samples(examples, preset("raw", (4, 4, 3))))) == 9
    assert examples.largest == 1


def test_subset_of_a_subset():
    inner = data.Subset(_examples(), np.array([8, 6, 4, 2]))
    outer = data.Subset(inner, np.array([3, 0]))
    np.testing.assert_array_equal(outer.targets, [20, 80])
    assert outer.inputs([1, 0]).reshape(-1).tolist() == [8, 2]
