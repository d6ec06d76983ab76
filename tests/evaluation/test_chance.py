"""Guessing classifiers, held against the binomial distribution of SciPy."""

import numpy as np
import pytest
from scipy import stats

from tfslim import evaluation, preprocessing


@pytest.mark.parametrize(("count", "classes"), [(20, 2), (256, 10), (1000, 10)])
def test_chance_is_the_binomial_tail(count, classes):
    targets = np.arange(count) % classes
    level = np.bincount(targets).max() / count
    useless = level + 0.1 * (1 - level)
    for right in range(0, count + 1, max(1, count // 50)):
        tail = stats.binom.sf(right - 1, count, useless)
        assert evaluation.is_chance(right / count, targets) == (tail > 0.01)


def test_what_the_field_calls_chance():
    digits = np.arange(597) % 10
    assert evaluation.is_chance(0.127, digits)
    assert not evaluation.is_chance(0.4, digits)
    # Of 95% sound parts, "sound" for every one is no knowledge.
    assert evaluation.is_chance(0.95, np.arange(200) % 20 == 0)


def examples(count=200, seed=0):
    """Pictures of 0..255 whose class is their brightness in four steps."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, count)
    noise = rng.integers(0, 60, (count, 4, 4, 3))
    return (targets[:, None, None, None] * 64 + noise).clip(0, 255), targets


def classifier(preset):
    """Is right where the input comes by `preset`, and knows one class elsewhere."""
    unit = preprocessing.preset(preset, (4, 4, 3))

    def classify(x):
        pixels = x * unit.std + unit.mean
        return np.clip(pixels.mean((1, 2, 3)) / unit.scale // 64, 0, 3).astype(int)

    return classify


@pytest.mark.parametrize("preset", ["raw", "unit", "torch", "symmetric"])
def test_the_preset_that_works_is_named(preset):
    images, targets = examples()
    for given in {"raw", "unit"} - {preset}:
        doubt = evaluation.preprocessing_doubt(
            classifier(preset),
            images,
            targets=targets,
            given=preprocessing.preset(given, (4, 4, 3)),
        )
        assert doubt.better == preset
        assert f"--preprocessing={preset} it is right in" in doubt.text
    right = preprocessing.preset(preset, (4, 4, 3))
    assert (
        evaluation.preprocessing_doubt(
            classifier(preset), images, targets=targets, given=right
        )
        is None
    )


def test_labels_of_something_else_raise_a_doubt_and_name_none():
    images, targets = examples()
    others = np.random.default_rng(5).permutation(targets)
    given = preprocessing.preset("unit", (4, 4, 3))
    doubt = evaluation.preprocessing_doubt(
        classifier("raw"), images, targets=others, given=given
    )
    assert doubt.better is None and "or the labels" in doubt.text


def test_a_few_examples_tell_nothing():
    images, targets = examples(8)
    given = preprocessing.preset("unit", (4, 4, 3))
    assert (
        evaluation.preprocessing_doubt(
            classifier("raw"), images, targets=targets, given=given
        )
        is None
    )


def test_a_model_that_tells_rare_classes_apart_is_no_guess():
    """Right in 85% of each class, where the commonest alone has 90%."""
    rng = np.random.default_rng(0)
    targets = (np.arange(400) % 10 == 0).astype(int)
    images = np.zeros((400, 4, 4, 3), np.uint8)
    chosen = np.where(rng.random(400) < 0.85, targets, 1 - targets)
    given = preprocessing.preset("unit", (4, 4, 3))
    assert evaluation.is_chance((chosen == targets).mean(), targets)
    assert (
        evaluation.preprocessing_doubt(
            lambda x: chosen, images, targets=targets, given=given
        )
        is None
    )
    shuffled = rng.permutation(chosen)
    doubt = evaluation.preprocessing_doubt(
        lambda x: shuffled, images, targets=targets, given=given
    )
    assert doubt.better is None and "in doubt" in doubt.text
