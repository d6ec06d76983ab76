"""The cross-entropy, against scikit-learn and TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from tfslim.training import losses

RNG = np.random.default_rng(0)


def test_crossentropy_by_scikit_learn_of_logits_and_of_probabilities():
    logits = RNG.normal(size=(20, 4)).astype(np.float32) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = RNG.integers(0, 4, 20)
    expected = metrics.log_loss(targets, probabilities.astype(float), labels=range(4))
    for outputs in (logits, probabilities):
        for form in (targets, targets[:, None], np.eye(4)[targets]):
            found = losses.crossentropy(form, tf.constant(outputs))
            assert found.shape == (20,)
            assert np.mean(found) == pytest.approx(expected, rel=1e-4)


def test_crossentropy_of_positions():
    logits = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    targets = RNG.integers(0, 3, (2, 5))
    found = losses.crossentropy(targets, tf.constant(logits))
    np.testing.assert_allclose(
        found,
        tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits),
        rtol=1e-5,
    )
