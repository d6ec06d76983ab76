"""A `Training`: what it is made of, and how a method takes its own options out."""

import dataclasses

import numpy as np
import pytest

import tfslim
from tfslim import errors, fields
from tfslim.training import FitOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options(fields.Checked):
    """Options of a method, one of which the trainings have too."""

    passes: int = fields.field(1, least=1)
    schedule: str = "linear"


X = np.zeros((10, 2), "float32")
TRAINING = tfslim.Training(train=(X, X), options=FitOptions(epochs=3, batch_size=5))


def test_a_training_stands_for_its_parts():
    assert tfslim.Training.of(TRAINING, None, "regression", None) is TRAINING
    made = tfslim.Training.of((X, X), (X, X), "regression", FitOptions(epochs=7))
    assert (made.task, made.options.epochs) == ("regression", 7)


def test_a_method_takes_its_own_options_first():
    own, training = TRAINING.split(_Options, None, {"schedule": "cubic", "epochs": 4})
    assert (own.schedule, own.passes) == ("cubic", 1)
    assert (training.options.schedule, training.options.epochs) == ("one_cycle", 4)
    assert training.options.batch_size == 5
    own, _ = TRAINING.split(_Options, _Options(passes=3), {})
    assert own.passes == 3
    with pytest.raises(errors.ConfigError, match="Did you mean 'passes'"):
        TRAINING.split(_Options, None, {"passs": 2})
    with pytest.raises(errors.ConfigError, match="passes must be at least 1"):
        TRAINING.split(_Options, None, {"passes": 0})


def test_the_sum_of_the_learning_rates():
    constant = dataclasses.replace(
        TRAINING, options=FitOptions(batch_size=5, schedule="constant")
    )
    assert constant.num_steps() == 2
    assert constant.total_rate(4, 0.5) == pytest.approx(8 * 0.5)
    cosine = dataclasses.replace(
        TRAINING, options=FitOptions(batch_size=5, schedule="cosine")
    )
    # Steps 0..7 of 8: the mean of (1 + cos(pi t / 8)) / 2.
    rates = (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    assert cosine.total_rate(4, 0.5) == pytest.approx(0.5 * rates.sum())
