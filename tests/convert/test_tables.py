"""Tables of words at the head of a model are split off, and the rest is the model."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import errors, tflite
from tfslim.tflite import metadata

WORDS = ["red", "blue"]
TEXTS = np.array([["red a"], ["blue"], ["red, BLUE!"], ["green"]])
both = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])


def _text_model(k):
    source = k.Input((1,), dtype="string", name="text")
    table = k.layers.TextVectorization(vocabulary=WORDS, output_sequence_length=3)
    y = k.layers.Embedding(4, 8)(table(source))
    y = k.layers.GlobalAveragePooling1D()(y)
    return k.Model(source, k.layers.Dense(2, name="answer")(y))


@both
def test_file_takes_what_the_table_gives(k):
    model = _text_model(k)
    done = tfslim.convert_model(model)
    runner = tflite.Runner(done.tflite)
    # By hand: '' is 0, unknown words 1, then the vocabulary.
    numbers = [[2, 1, 0], [3, 0, 0], [2, 3, 0], [1, 0, 0]]
    assert done.tables.apply(TEXTS).tolist() == numbers
    truth = np.asarray(model(tf.constant(TEXTS.tolist())))
    for row, wanted in zip(numbers, truth, strict=True):
        found = runner({"text": np.array([row], np.int64)})["answer"]
        np.testing.assert_allclose(found[0], wanted, atol=1e-6)
    assert any(
        "split off" in note and "TextVectorization" in note for note in done.notes
    )


@both
def test_vocabulary_is_written_line_by_number(k):
    _, split = tfslim.split_tables(_text_model(k))
    content = json.loads(split.files["tables.json"])
    [row] = content["tables"]
    assert split.files[row["vocabulary"]].decode() == "\n[UNK]\nred\nblue\n"
    assert row["options"]["output_sequence_length"] == 3
    assert content["inputs"] == {"text": row["layer"]}
    file = tflite.read(tfslim.convert_model(_text_model(k)).tflite)
    assert metadata.get_json(file)["tables"][0]["op"] == "TextVectorization"


@both
def test_many_inputs_of_a_dict(k):
    """One text that two tables read, one that passes, one of numbers to look up."""
    city = k.Input((1,), dtype="string", name="city")
    age = k.Input((3,), name="age")
    code = k.Input((1,), dtype="int64", name="code")
    layers = k.layers
    parts = [
        layers.Flatten()(layers.Hashing(5, output_mode="one_hot", name="hash")(city)),
        layers.StringLookup(vocabulary=["p"], output_mode="one_hot", name="look")(city),
        age,
        layers.IntegerLookup(vocabulary=[7, 9], output_mode="multi_hot")(code),
    ]
    inputs = {"city": city, "age": age, "code": code}
    model = k.Model(inputs, layers.Dense(2)(layers.Concatenate()(parts)))
    rest, split = tfslim.split_tables(model)
    assert set(rest.input) == {"hash", "look", "age", "code"}
    x = {
        "city": np.array([["p"], ["q"]]),
        "age": np.ones((2, 3), np.float32),
        "code": np.array([[9], [8]]),
    }
    made = split.apply(x)
    assert made["look"].tolist() == [[0, 1], [1, 0]]
    assert made["code"].tolist() == [[0, 0, 1], [1, 0, 0]]
    whole = model({key: tf.constant(value.tolist()) for key, value in x.items()})
    np.testing.assert_allclose(rest(made), whole, atol=1e-6)


def test_texts_without_a_table_are_split_off():
    """What a function reads of texts is the app's to do, too."""
    text = tf_keras.Input((1,), dtype="string", name="text")
    length = tf.cast(tf.strings.length(text), tf.float32)
    model = tf_keras.Model(text, tf_keras.layers.Dense(1)(length))
    done = tfslim.convert_model(model)
    assert done.tables.apply(np.array([["four"]])).tolist() == [[4.0]]


def test_model_without_tables_is_itself():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert tfslim.split_tables(model) == (model, None)


def _behind_weights(k):
    x = k.Input((4,))
    chosen = k.ops.argmax(k.layers.Dense(3, name="scores")(x), axis=-1)
    return k.Model(x, k.layers.StringLookup(vocabulary=WORDS, invert=True)(chosen))


def _nothing_behind(k):
    text = k.Input((1,), dtype="string")
    return k.Model(text, k.layers.StringLookup(vocabulary=WORDS, name="only")(text))


def _sparse(k):
    text = k.Input((1,), dtype="string")
    table = k.layers.StringLookup(
        vocabulary=WORDS, output_mode="multi_hot", sparse=True
    )
    return k.Model(text, k.layers.Dense(2)(table(text)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (_behind_weights, "'scores', which has weights"),
        (_nothing_behind, "output 'only'"),
        (_sparse, "sparse=False"),
    ],
)
def test_what_is_no_head_is_one_line(build, reason):
    with pytest.raises(errors.ConversionError, match=reason) as caught:
        tfslim.convert_model(build(keras))
    assert "\n" not in str(caught.value)


def test_export_of_texts(tmp_path):
    """The whole job: trained and measured on texts, files beside the files."""
    x, y = np.tile(TEXTS, (8, 1)), np.tile([0, 1, 0, 1], 8)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    seen = []

    def measure(predict):
        seen.append(predict(TEXTS)[0])
        return 0.0

    result = tfslim.export_model(
        _text_model(tf_keras),
        out_dir=tmp_path,
        train_data=batches,
        eval_data=(x, y),
        eval_fn=measure,
        config={
            "training": {"epochs": 1},
            "quantization": {"recipes": ("float32", "int8")},
        },
    )
    assert [row["name"] for row in result["variants"]] == ["float32", "int8"]
    assert all(row["parity"]["sqnr_db"] > 20 for row in result["variants"])
    assert {each.shape for each in seen} == {(4, 2)}
    assert any("split off" in note for note in result["skipped"])
    [words] = tmp_path.glob("*.vocabulary.txt")
    named = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert words.name in json.dumps(named)
    assert "tables.json" in json.dumps(named)
