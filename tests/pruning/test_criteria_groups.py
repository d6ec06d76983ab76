"""From the members' scores to one scale for all groups of a model."""

import numpy as np
import pytest

from tfslim import errors
from tfslim.pruning import criteria

MEMBERS = np.array([[1.0, 4.0, 2.0], [3.0, 0.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", [4, 4, 4]),
        ("mean", [2, 2, 2]),
        ("max", [3, 4, 2]),
        ("first", [1, 4, 2]),
    ],
)
def test_reductions_by_hand(name, expected):
    np.testing.assert_array_equal(criteria.REDUCTIONS.get(name)(MEMBERS), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [3.0, 0.0, 4.0, 1.0]),
        ("mean", [1.5, 0.0, 2.0, 0.5]),
        ("max", [0.75, 0.0, 1.0, 0.25]),
        ("l2", np.array([3.0, 0.0, 4.0, 1.0]) / 26**0.5),
        # Squares 9, 0, 16, 1; from each on upwards: 9 + 16, all 26, 16, 1 + 9 + 16.
        ("lamp", [9 / 25, 0.0, 1.0, 1 / 26]),
    ],
)
def test_normalizations_by_hand(name, expected):
    scores = np.array([3.0, 0.0, 4.0, 1.0])
    np.testing.assert_allclose(
        criteria.NORMALIZATIONS.get(name)(scores), expected, rtol=1e-12
    )
    np.testing.assert_array_equal(scores, [3, 0, 4, 1])


@pytest.mark.parametrize("name", criteria.NORMALIZATIONS.names())
def test_normalization_keeps_the_order_of_a_layer(name):
    scores = np.random.default_rng(0).random(50)
    scores[10:20] = scores[5]  # Ties.
    scores[20:23] = 0
    order = np.random.default_rng(1).permutation(50)
    normalize = criteria.NORMALIZATIONS.get(name)
    np.testing.assert_allclose(normalize(scores[order]), normalize(scores)[order])
    np.testing.assert_array_equal(
        np.argsort(normalize(scores), kind="stable"), np.argsort(scores, kind="stable")
    )


@pytest.mark.parametrize("name", sorted({*criteria.NORMALIZATIONS.names()} - {"none"}))
def test_normalization_takes_the_unit_away(name):
    scores = np.random.default_rng(0).random(50)
    normalize = criteria.NORMALIZATIONS.get(name)
    np.testing.assert_allclose(normalize(scores * 1e-30), normalize(scores))


@pytest.mark.parametrize("name", criteria.NORMALIZATIONS.names())
def test_a_layer_of_zeros_stays_one(name):
    np.testing.assert_array_equal(
        criteria.NORMALIZATIONS.get(name)(np.zeros(3)), [0, 0, 0]
    )


def test_lamp_never_empties_a_layer():
    # The best channel of a layer beats all but the best ones of the others.
    strong = criteria.NORMALIZATIONS.get("lamp")(np.array([100.0, 101.0, 102.0]))
    weak = criteria.NORMALIZATIONS.get("lamp")(np.array([0.001, 0.002]))
    assert weak.max() == strong.max() == 1
    assert np.sort(np.concatenate([strong, weak]))[-2:].tolist() == [1, 1]


def test_negative_scores_are_refused():
    with pytest.raises(errors.ConfigError, match=r"lowest is -1\. Use"):
        criteria.NORMALIZATIONS.get("mean")(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(
        criteria.NORMALIZATIONS.get("none")(np.array([1.0, -1.0])), [1, -1]
    )
