"""What a job seeds for itself must not change what the user's program draws."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim.training import seeds


def _draws():
    return [
        random.random(),
        float(np.random.random()),  # noqa: NPY002
        float(tf.random.uniform(())),
        float(tf.random.uniform(())),
        float(tf_keras.initializers.RandomUniform()(shape=())),
        float(tf_keras.layers.Dense(1).kernel_initializer((1, 1))[0, 0]),
        float(keras.random.uniform(())),
    ]


def _seed(number):
    keras.utils.set_random_seed(number)
    tf_keras.utils.set_random_seed(number)


def test_a_job_leaves_no_trace():
    _seed(3)
    wanted = [*_draws(), *_draws()]
    _seed(3)
    first = _draws()
    with seeds.kept():
        seeds.set_all(7)
        _draws()
    assert [*first, *_draws()] == wanted


def test_a_program_without_seeds_gets_none():
    """Otherwise every job would make a program draw the same numbers."""
    _seed(3)
    tf.random.set_seed(None)
    found = []
    for _ in range(2):
        with seeds.kept():
            seeds.set_all(7)
        found.append(float(tf.random.uniform(())))
    assert found[0] != found[1]


def test_restored_after_an_error():
    random.seed(3)
    wanted = random.random()
    random.seed(3)
    with pytest.raises(KeyError), seeds.kept():
        random.seed(9)
        raise KeyError
    assert random.random() == wanted


def test_a_training_leaves_no_trace():
    model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(1)])
    data = (np.ones((8, 2), np.float32), np.ones((8, 1), np.float32))
    _seed(3)
    wanted = _draws()
    _seed(3)
    tfslim.fit(model, data, task="regression", epochs=1)
    assert _draws() == wanted
