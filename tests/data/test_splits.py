import numpy as np
import pytest

from tfslim import errors
from tfslim.data import splits


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stratify", [True, False])
def test_parts_are_disjoint_and_complete(seed, stratify):
    targets = np.random.default_rng(seed).integers(0, 7, 200)
    parts = splits.split_indices(targets, (0.1, 0.25), seed=seed, stratify=stratify)
    assert [len(part) for part in parts] == [20, 50, 130]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(200))


def test_stratified_parts_keep_the_shares_of_the_classes():
    targets = np.repeat([0, 1, 2], [300, 60, 12])
    parts = splits.split_indices(targets, (0.1, 0.2), seed=0, stratify=True)
    for part, share in zip(parts, (0.1, 0.2, 0.7), strict=True):
        counts = np.bincount(targets[part], minlength=3)
        assert np.abs(counts - share * np.array([300, 60, 12])).max() <= 1.0


def test_the_seed_decides():
    targets = np.zeros(100)
    first, again, other = (
        splits.split_indices(targets, (0.2,), seed=seed, stratify=False)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_impossible_splits_are_refused():
    for fractions in ((0.5, 0.5), (-0.1,), (1.0,)):
        with pytest.raises(errors.ConfigError, match="sum to less than 1"):
            splits.split_indices(np.zeros(9), fractions, seed=0, stratify=False)
    with pytest.raises(errors.DataError, match="2 examples are too few"):
        splits.split_indices(np.zeros(2), (0.1, 0.2), seed=0, stratify=False)
