"""Verdicts on accuracy: by hand, against scipy, and by counting all outcomes."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from tfslim import errors, tasks
from tfslim.evaluation import significance


def answers(lost, gained, both, neither=0):
    """Which examples the base and the new file answer rightly."""
    base = [True] * lost + [False] * gained + [True] * both + [False] * neither
    new = [False] * lost + [True] * gained + [True] * both + [False] * neither
    return np.array(base), np.array(new)


def test_mcnemar_by_hand_and_as_scipy():
    # 2 (1 + 8 + 28) / 2^8, and 2 / 2^3.
    assert significance.mcnemar(2, 6) == pytest.approx(2 * 37 / 256)
    assert significance.mcnemar(3, 0) == pytest.approx(0.25)
    assert significance.mcnemar(0, 0) == significance.mcnemar(4, 4) == 1
    for lost, gained in ((1, 9), (30, 12), (400, 350)):
        peer = stats.binomtest(lost, lost + gained, 0.5).pvalue
        assert significance.mcnemar(lost, gained) == pytest.approx(peer)


def test_clopper_pearson_by_hand_and_as_scipy():
    low, high = significance.accuracy_interval(0, 10)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 10))
    for right, count in ((8, 10), (10, 10), (970, 1000)):
        peer = stats.binomtest(right, count).proportion_ci(0.9, method="exact")
        own = significance.accuracy_interval(right, count, confidence=0.9)
        assert own == pytest.approx((peer.low, peer.high))


def test_interval_without_differences_by_hand():
    """Tango's score of a drop d is then sqrt(n d / (1 - d))."""
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = significance.score_interval(0, 0, num_examples=200, confidence=0.95)
    assert high == pytest.approx(z2 / (200 + z2)) and low == pytest.approx(-high)


@pytest.mark.parametrize(("lost", "gained", "count"), [(12, 2, 50), (5, 9, 300)])
def test_interval_is_the_score_interval(lost, gained, count):
    """At its ends the score is z, with the likeliest rates found by search."""

    def score(drop):
        def unlikely(rate):
            log = lost * np.log(rate + drop) + gained * np.log(rate)
            return -log - (count - lost - gained) * np.log(1 - 2 * rate - drop)

        bounds = (max(0, -drop) + 1e-9, (1 - drop) / 2 - 1e-9)
        rate = optimize.minimize_scalar(
            unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}
        ).x
        spread = count * (2 * rate + drop - drop**2)
        return (lost - gained - count * drop) / spread**0.5

    low, high = significance.score_interval(
        lost, gained, num_examples=count, confidence=0.95
    )
    assert score(low) == pytest.approx(1.95996, abs=1e-3)
    assert score(high) == pytest.approx(-1.95996, abs=1e-3)


def test_change_and_interval_have_the_sign_of_the_change():
    found = significance.paired_change(*answers(12, 2, 86))
    assert found.change == pytest.approx(-0.10)
    assert (found.base, found.new) == pytest.approx((0.98, 0.88))
    assert found.low < found.change < found.high < 0
    assert (found.lost, found.gained, found.num_examples) == (12, 2, 100)
    assert found.to_json()["change"] == found.change


def test_verdicts():
    assert significance.paired_change(*answers(0, 0, 400)).verdict == "within"
    assert significance.paired_change(*answers(100, 100, 9800)).verdict == "within"
    assert significance.paired_change(*answers(20, 5, 335)).verdict == "beyond"
    near = significance.paired_change(*answers(5, 0, 95), margin=0.05)
    assert (near.verdict, near.examples_needed) == ("undecided", None)


def test_examples_needed_are_enough():
    """Without a difference the answer is known: 0.99^n at most 5%, so 299 and few."""
    few = significance.paired_change(*answers(0, 0, 180))
    assert few.verdict == "undecided" and 299 <= few.examples_needed <= 320
    done = significance.paired_change(*answers(0, 0, few.examples_needed))
    assert done.verdict == "within"
    few = significance.paired_change(*answers(2, 1, 297))
    factor = few.examples_needed / 300
    lost, gained = int(np.ceil(2 * factor)), int(factor)
    rest = few.examples_needed - lost - gained
    assert significance.paired_change(*answers(lost, gained, rest)).verdict == "within"


@pytest.mark.parametrize("count", [30, 60])
@pytest.mark.parametrize("gain_rate", [0.0, 0.01, 0.05, 0.2])
def test_a_true_drop_of_the_margin_is_rarely_called_within(count, gain_rate):
    """All outcomes are counted: no sampling. At most 5% may be called wrongly."""
    margin, error = 0.1, 0.05
    rates = [gain_rate + margin, gain_rate, 1 - 2 * gain_rate - margin]
    wrong = 0.0
    for lost, gained in itertools.product(range(count + 1), repeat=2):
        chance = 0.0
        if lost + gained <= count:
            seen = [lost, gained, count - lost - gained]
            chance = stats.multinomial.pmf(seen, count, rates)
        if chance > 1e-7 and lost - gained < margin * count:
            is_called = significance._p_below(lost, gained, count, margin) <= error
            wrong += chance * is_called
    assert wrong <= error


def test_counts_alone_say_less_than_pairs():
    pairs = significance.paired_change(*answers(5, 3, 992))
    counts = significance.counted_change(997, 995, num_examples=1000)
    assert counts.change == pytest.approx(pairs.change)
    assert counts.high - counts.low > 1.4 * (pairs.high - pairs.low)
    assert counts.lost is counts.p_value is None
    assert (
        significance.counted_change(10_000, 10_000, num_examples=10_000).verdict
        == "within"
    )
    assert significance.counted_change(900, 700, num_examples=1000).verdict == "beyond"


def test_answers_are_taken_from_a_metric_that_is_their_share():
    random = np.random.default_rng(0)
    outputs, targets = random.random((50, 3)), random.integers(0, 3, 50)
    right = significance.examples_right(tasks.accuracy, outputs, targets=targets)
    assert right.tolist() == (outputs.argmax(1) == targets).tolist()
    one_hot = np.eye(3)[targets]
    again = significance.examples_right(tasks.accuracy, outputs, targets=one_hot)
    assert again.tolist() == right.tolist()


@pytest.mark.parametrize(
    "metric",
    [
        tasks.mean_squared_error,
        lambda outputs, targets: 1.0 if len(outputs) == 1 else 0.5,
        lambda outputs, targets: {}["needs more than one example"],
    ],
)
def test_other_metrics_have_no_single_answers(metric):
    outputs, targets = np.random.default_rng(0).random((2, 50, 3))
    assert significance.examples_right(metric, outputs, targets=targets) is None
    assert (
        significance.examples_right(tasks.accuracy, [outputs], targets=outputs) is None
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"margin": 0}, "margin must be"), ({"confidence": 1.0}, "confidence must be")],
)
def test_wrong_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        significance.paired_change([True], [True], **options)


def test_wrong_answers():
    with pytest.raises(errors.ConfigError, match="3 and 2 examples"):
        significance.paired_change([True] * 3, [True] * 2)
    with pytest.raises(errors.ConfigError, match="5 of 4 examples"):
        significance.accuracy_interval(5, 4)
