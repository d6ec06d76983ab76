import dataclasses
import math

import numpy as np
import pytest
from sklearn import metrics

from tfslim import errors, tasks

RNG = np.random.default_rng(0)


def test_accuracy_by_hand_and_by_scikit_learn():
    outputs = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
    assert tasks.accuracy(outputs, np.array([1, 1, 1])) == pytest.approx(2 / 3)
    outputs, targets = RNG.normal(size=(50, 4)), RNG.integers(0, 4, 50)
    expected = metrics.accuracy_score(targets, outputs.argmax(1))
    for form in (targets, targets[:, None], np.eye(4)[targets]):
        assert tasks.accuracy(outputs, form) == pytest.approx(expected)


def test_one_hot_targets_of_other_classes_are_no_targets():
    with pytest.raises(errors.ConfigError, match=r"3 outputs .* 2 classes"):
        tasks.accuracy(RNG.normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]])


def test_mean_squared_error_by_scikit_learn():
    a, b = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3))
    task = tasks.TASKS.get("regression")
    assert task.metric(a, b) == pytest.approx(metrics.mean_squared_error(b, a))
    assert not task.higher_is_better


def test_sqnr_by_hand():
    # Noise of a tenth of the signal: 20 dB, which is 0.9 of agreement.
    signal = np.array([3.0, -4.0])
    assert tasks.sqnr_db(signal, signal * 1.1) == pytest.approx(20.0)
    assert tasks.relative_agreement(signal, signal * 1.1) == pytest.approx(0.9)
    assert tasks.sqnr_db(signal, signal) == math.inf
    assert tasks.relative_agreement(signal, signal) == 1.0
    assert tasks.sqnr_db(np.zeros(2), signal) == -math.inf
    assert tasks.relative_agreement(np.zeros(2), signal) == 0.0
    assert tasks.relative_agreement(signal, -signal) == 0.0
    assert tasks.relative_agreement(signal, np.array([np.nan, 1.0])) == 0.0


def test_top1_agreement_by_hand():
    a = np.array([[1.0, 2, 3], [3, 2, 1], [0, 5, 1], [9, 0, 0]])
    b = np.array([[0.0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert tasks.TASKS.get("classification").agreement(a, b) == 0.75


def test_targets():
    x, y = object(), object()
    assert tasks.TASKS.get("classification").target(x, y) is y
    assert tasks.TASKS.get("regression").target(x, y) is y
    assert tasks.TASKS.get("reconstruction").target(x, y) is x


def test_own_task_and_resolve():
    own = dataclasses.replace(tasks.TASKS.get("regression"), name="own", loss="mae")
    assert tasks.resolve(own) is own
    assert tasks.resolve("reconstruction").name == "reconstruction"
    with pytest.raises(errors.ConfigError, match="'classification'"):
        tasks.resolve("clasification")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.accuracy(np.zeros((3, 1)), np.zeros(3)), "2 or more classes"),
        (lambda: tasks.accuracy(np.zeros((3, 2)), np.zeros(4)), "3 outputs .* 4"),
        (lambda: tasks.sqnr_db(np.zeros(2), np.zeros(3)), "cannot be compared"),
        (lambda: tasks.mean_squared_error(np.zeros(0), np.zeros(0)), "not empty"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(errors.ConfigError, match=message):
        call()
