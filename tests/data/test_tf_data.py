import numpy as np
import pytest
import tensorflow as tf

from tfslim import data, errors
from tfslim.data import augment
from tfslim.data.tf_data import to_tf_data
from tfslim.preprocessing import preset

RAW = preset("raw", (4, 4, 1))


def _examples(count=10):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1))
    return data.ArrayExamples(images.astype(np.uint8), np.arange(count))


def _epoch(**options):
    dataset = to_tf_data(
        _examples(), RAW, task="classification", batch_size=4, **options
    )
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def test_without_shuffle_it_is_the_numpy_iterator():
    expected = list(data.batches(_examples(), RAW, batch_size=4))
    for ours, theirs in zip(_epoch(), expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_order_follows_seed_and_epoch():
    def order(**options):
        return np.concatenate([y for _, y in _epoch(shuffle=True, **options)]).tolist()

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) != order(seed=1, epoch=3)
    assert order(seed=1, epoch=2) != order(seed=2, epoch=2)
    # The epoch may be a tensor: several epochs in one dataset.
    joined = tf.data.Dataset.range(2, 4).flat_map(
        lambda epoch: to_tf_data(
            _examples(),
            RAW,
            task="classification",
            batch_size=4,
            shuffle=True,
            seed=1,
            epoch=epoch,
            augment=["shift"],
        )
    )
    ys = np.concatenate([y.numpy() for _, y in joined])
    assert ys.tolist() == order(seed=1, epoch=2) + order(seed=1, epoch=3)


def test_shuffled_batches_are_full_and_of_different_examples():
    parts = _epoch(shuffle=True)
    assert [len(y) for _, y in parts] == [4, 4]
    assert len(set(np.concatenate([y for _, y in parts]).tolist())) == 8


def test_shapes_and_length_are_known():
    dataset = to_tf_data(_examples(), RAW, task="classification", batch_size=4)
    assert dataset.element_spec[0].shape.as_list() == [None, 4, 4, 1]
    assert dataset.cardinality().numpy() == 3
    assert dataset.options().autotune.enabled is False


def test_reconstruction_targets_are_the_augmented_inputs():
    dataset = to_tf_data(
        _examples(), RAW, task="reconstruction", augment=["shift", "flip"], seed=5
    )
    plain = np.concatenate([x for x, _ in _epoch()])
    ((x, target),) = [(x.numpy(), y.numpy()) for x, y in dataset]
    np.testing.assert_array_equal(x, target)
    assert not np.array_equal(x, plain)


def test_flip_mirrors_or_leaves():
    image = np.arange(12.0).reshape(2, 3, 2)
    seen = set()
    for seed in range(20):
        flipped = augment.flip(image, np.random.default_rng(seed))
        same = np.array_equal(flipped, image)
        assert same or np.array_equal(flipped, np.fliplr(image))
        seen.add(same)
    assert seen == {True, False}


def test_shift_moves_by_up_to_an_eighth():
    image = np.arange(256.0).reshape(16, 16, 1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        moved = augment.shift(image, rng)
        rows, columns = np.random.default_rng(seed).integers(0, 5, 2) - 2
        # What was not at the border is the image moved by whole pixels.
        np.testing.assert_array_equal(
            moved[2:-2, 2:-2], np.roll(image, (-rows, -columns), (0, 1))[2:-2, 2:-2]
        )


def test_wrong_options_are_named():
    with pytest.raises(errors.ConfigError, match="Did you mean 'flip'"):
        _epoch(augment=["flpi"])
    with pytest.raises(errors.ConfigError, match="list of names"):
        _epoch(augment="flip")
    vectors = data.ArrayExamples(np.zeros((4, 2), np.float32), np.zeros((4, 1)))
    with pytest.raises(errors.ConfigError, match="needs images"):
        to_tf_data(vectors, preset("raw", (2,)), task="regression", augment=["flip"])
