"""SavedModels are read as config and variables; nothing in them runs."""

import gc
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.trackable import resource

import tfslim
from tfslim import errors

L = tf_keras.layers


def _nested():
    inner = tf_keras.Sequential(
        [tf_keras.Input((8, 8, 4)), L.Conv2D(4, 3, padding="same"), L.ReLU()]
    )
    x = tf_keras.Input((8, 8, 3))
    y = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(x))
    y = L.Add()([inner(y), inner(inner(y))]) * 2.0
    return tf_keras.Model(x, L.Dense(5)(L.Flatten()(y)))


def _cells():
    x = tf_keras.Input((6, 4))
    return tf_keras.Model(x, L.RNN([L.GRUCell(3), L.SimpleRNNCell(2)])(x))


def _recurrent():
    x = tf_keras.Input((6, 4))
    y = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    y, _, state = L.LSTM(3, return_state=True)(y)
    z = L.RNN([L.LSTMCell(3), L.GRUCell(2)])(x)
    return tf_keras.Model(x, L.Concatenate()([y, state, z]))


def _adapted():
    normalization, bins = L.Normalization(), L.Discretization(num_bins=4)
    normalization.adapt(np.arange(24.0).reshape(4, 6))
    bins.adapt(np.arange(24.0).reshape(-1, 1))
    x = tf_keras.Input((6,))
    y = L.Dropout(0.5)(L.Dense(6)(normalization(x)))
    return tf_keras.Model(x, [y, bins(x)])


def _dict():
    a, b = tf_keras.Input((3,), name="a"), tf_keras.Input((3,), name="b")
    y = {"s": L.Dense(2, name="s")(a), "t": L.Dense(2, name="t")(L.Add()([a, b]))}
    return tf_keras.Model({"a": a, "b": b}, y)


def _built_later():
    model = tf_keras.Sequential([L.Dense(4, activation="relu"), L.Dense(2)])
    model.build((None, 3))
    return model


@pytest.mark.parametrize(
    "build",
    [
        _nested,
        _cells,
        pytest.param(_recurrent, marks=pytest.mark.slow),
        _adapted,
        _dict,
        _built_later,
    ],
)
def test_outputs_are_the_same(tmp_path, build):
    random = np.random.default_rng(0)
    original = build()
    for weight in original.trainable_weights:
        weight.assign(random.uniform(-1, 1, weight.shape))
    original.save(tmp_path / "saved", save_format="tf")
    found = tfslim.load_model(tmp_path / "saved")
    shapes = original.input_shape
    x = {
        name: random.uniform(0, 9, (2, *shape[1:])).astype(np.float32)
        for name, shape in (
            shapes if isinstance(shapes, dict) else {"": shapes}
        ).items()
    }
    x = x.get("", x)
    wanted = tf.nest.flatten(original(x, training=False))
    for got, want in zip(
        tf.nest.flatten(found(x, training=False)), wanted, strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "saved"
    model = tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3, name="dense")])
    model.save(folder, save_format="tf")
    return folder


class _Writer(resource.CapturableResource):
    def __init__(self, target):
        super().__init__()
        self._target = target

    def _create_resource(self):
        return tf.raw_ops.HashTableV2(
            key_dtype=tf.string, value_dtype=tf.string, shared_name="table"
        )

    def _initialize(self):
        tf.io.write_file(self._target, "by the model")
        return tf.no_op()


def test_initializers_do_not_run(tmp_path):
    target = tmp_path / "written"
    model = tf_keras.Sequential([tf_keras.Input((1,)), L.Dense(2)])
    model.extra = _Writer(str(target))
    _ = model.extra.resource_handle  # Makes it, so that it is saved.
    model.save(tmp_path / "saved", save_format="tf")
    target.unlink(missing_ok=True)
    found = tfslim.load_model(tmp_path / "saved")
    np.testing.assert_array_equal(found.get_weights()[0], model.get_weights()[0])
    assert not target.exists()
    tfslim.load_model(tmp_path / "saved", allow_unsafe=True)
    assert target.exists()


def test_a_vocabulary_that_only_a_function_knows(tmp_path):
    lookup = L.StringLookup(name="words")
    lookup.adapt(np.array(["a", "b", "b"]))
    x = tf_keras.Input((1,), dtype="string")
    tf_keras.Model(x, lookup(x)).save(tmp_path / "saved", save_format="tf")
    with pytest.raises(errors.ConfigError, match="'words' learned its vocabulary"):
        tfslim.load_model(tmp_path / "saved")


@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "keras_metadata.pb",
        "variables",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ],
)
def test_links_are_not_followed(tmp_path, dense, name):
    folder = tmp_path / "saved"
    shutil.copytree(dense, folder)
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.DataError, match="is a link to"):
        tfslim.load_model(folder)


def test_an_optimizers_state_is_left_without_a_word(tmp_path, caplog):
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "trained", save_format="tf")
    loaded = tfslim.load_model(tmp_path / "trained")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    caplog.clear()
    del loaded
    gc.collect()
    assert not [r for r in caplog.records if "Value in checkpoint" in r.getMessage()]


def test_a_link_to_the_folder_is_the_user_s_own(tmp_path, dense):
    (tmp_path / "link").symlink_to(dense)
    assert tfslim.load_model(tmp_path / "link").output_shape == (None, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["keras_metadata.pb", "variables/variables.index"])
def test_pipes_are_not_read(tmp_path, dense, name):
    folder = tmp_path / "saved"
    shutil.copytree(dense, folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(errors.ConfigError, match="no plain file"):
        tfslim.load_model(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("keras_metadata.pb", b'"config":', b'"config"x', "keras_metadata.pb' is dam"),
        ("keras_metadata.pb", b'"config":', b'"config"\0', "keras_metadata.pb' is dam"),
        ("keras_metadata.pb", b'"units": 3', b'"units": 7', "incompatible tensor"),
        ("keras_metadata.pb", b'"units": 3', b'"units":-3', "units"),
        ("keras_metadata.pb", b'"units"', b'"u":1,""', "keras_metadata.pb' is dam"),
        ("variables/variables.data-00000-of-00001", None, b"x", "shards hold 1"),
        ("variables/variables.index", None, b"x", "cannot be opened"),
    ],
)
def test_damaged_parts(tmp_path, dense, name, old, new, message):
    folder = tmp_path / "saved"
    shutil.copytree(dense, folder)
    content = (folder / name).read_bytes()
    assert old is None or old in content
    (folder / name).write_bytes(new if old is None else content.replace(old, new))
    with pytest.raises(errors.DataError, match=message) as error:
        tfslim.load_model(folder)
    assert str(error.value).isprintable()


def test_variables_of_another_model(tmp_path, dense):
    other = tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3, use_bias=False)])
    other.save(tmp_path / "saved", save_format="tf")
    shutil.copy(dense / "saved_model.pb", tmp_path / "saved")
    with pytest.raises(errors.DataError, match="not of one model"):
        tfslim.load_model(tmp_path / "saved")


def test_a_checkpoint_of_a_larger_model(tmp_path, dense):
    """All that the config asks for is in it, and it is of another model."""
    larger = tf_keras.Sequential(
        [tf_keras.Input((4,)), L.Dense(3, name="dense"), L.Dense(3)]
    )
    larger.save(tmp_path / "larger", save_format="tf")
    shutil.copytree(dense, tmp_path / "saved")
    shutil.copytree(
        tmp_path / "larger" / "variables",
        tmp_path / "saved" / "variables",
        dirs_exist_ok=True,
    )
    with pytest.raises(errors.DataError, match="not of one model"):
        tfslim.load_model(tmp_path / "saved")
