"""Recurrent layers become LiteRT's fused ops, and compute what Keras computes."""

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert import interpreter as litert

from tfslim import errors, tflite
from tfslim.convert import convert_model

BOTH = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])
STEPS, WIDTH = 5, 3


def chain(k, *layers, shape=(STEPS, WIDTH)):
    k.utils.set_random_seed(0)
    x = inputs = k.Input(shape)
    for layer in layers:
        x = layer(x)
    return k.Model(inputs, x)


def encoder_and_decoder(k):
    k.utils.set_random_seed(0)
    first, second = k.Input((STEPS, WIDTH)), k.Input((4, WIDTH))
    _, *states = k.layers.LSTM(4, return_state=True)(first)
    decoder = k.layers.LSTM(4, return_sequences=True, return_state=True)
    return k.Model([first, second], decoder(second, initial_state=states))


MODELS = {
    "lstm": lambda k: chain(k, k.layers.LSTM(4)),
    "stacked": lambda k: chain(
        k, k.layers.LSTM(4, return_sequences=True), k.layers.LSTM(3, use_bias=False)
    ),
    "simple_rnn": lambda k: chain(k, k.layers.SimpleRNN(4, activation="relu")),
    "backwards": lambda k: chain(
        k, k.layers.LSTM(4, go_backwards=True, return_sequences=True, unroll=True)
    ),
    "bidirectional": lambda k: chain(k, k.layers.Bidirectional(k.layers.LSTM(4))),
    "cell": lambda k: chain(k, k.layers.RNN(k.layers.LSTMCell(4))),
    "time_distributed": lambda k: chain(
        k, k.layers.TimeDistributed(k.layers.LSTM(2)), shape=(2, STEPS, WIDTH)
    ),
    "states": encoder_and_decoder,
}


def run(content, samples):
    """Runs a file over samples without setting its state back between them."""
    runner = litert.Interpreter(model_content=content)
    runner.allocate_tensors()
    found = []
    for sample in samples:
        for details, value in zip(runner.get_input_details(), sample, strict=True):
            runner.set_tensor(details["index"], value)
        runner.invoke()
        ends = runner.get_output_details()
        found.append([runner.get_tensor(end["index"]).copy() for end in ends])
    return found


def inputs_of(model, count=3):
    random = np.random.default_rng(0)
    shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]
    return [
        [random.normal(size=shape).astype(np.float32) for shape in shapes]
        for _ in range(count)
    ]


def truth_of(model, sample):
    given = model(sample if len(sample) > 1 else sample[0], training=False)
    given = given if isinstance(given, list | tuple) else [given]
    return [np.asarray(each) for each in given]


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_fused_and_anew_at_every_run(name, k):
    model = MODELS[name](k)
    calls = [layer.call for layer in model.layers]
    result = convert_model(model)
    assert [layer.call for layer in model.layers] == calls
    names = {op.name for op in tflite.read(result.tflite).ops}
    assert any(name.startswith("UNIDIRECTIONAL_SEQUENCE") for name in names)
    assert "WHILE" not in names and not result.notes
    samples = inputs_of(model)
    for sample, found in zip(samples, run(result.tflite, samples), strict=True):
        for one, other in zip(found, truth_of(model, sample), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6)


@BOTH
@pytest.mark.parametrize("kind", ["LSTM", "SimpleRNN"])
def test_a_stateful_layer_keeps_its_state(kind, k):
    shape = {"batch_shape" if k is keras else "batch_input_shape": (1, 2, WIDTH)}
    model = k.Sequential(
        [
            k.layers.InputLayer(**shape),
            getattr(k.layers, kind)(4, stateful=True, name="kept"),
        ]
    )
    content = convert_model(model).tflite
    samples = inputs_of(model, 4)
    for sample, (found,) in zip(samples, run(content, samples), strict=True):
        np.testing.assert_allclose(found, truth_of(model, sample)[0], atol=2e-6)


@BOTH
def test_a_stateful_layer_without_a_fused_op_is_named(k):
    shape = {"batch_shape" if k is keras else "batch_input_shape": (1, 2, WIDTH)}
    model = k.Sequential(
        [k.layers.InputLayer(**shape), k.layers.GRU(4, stateful=True, name="gate")]
    )
    wanted = r"'gate'.*stateful=False"
    with pytest.raises(errors.ConversionError, match=wanted) as caught:
        convert_model(model)
    assert "\n" not in str(caught.value)


@BOTH
@pytest.mark.parametrize(
    ("name", "reason"), [("gru", "no fused op for GRU"), ("masked", "takes no mask")]
)
def test_what_stays_a_loop_is_said(name, reason, k):
    layers = {
        "gru": [k.layers.GRU(4)],
        "masked": [k.layers.Masking(), k.layers.LSTM(4)],
    }
    model = chain(k, *layers[name])
    result = convert_model(model)
    assert any(reason in note for note in result.notes)
    (sample,) = inputs_of(model, 1)
    sample[0][:, 3:] = 0
    ((found,),) = run(result.tflite, [sample])
    np.testing.assert_allclose(found, truth_of(model, sample)[0], atol=2e-6)


def test_an_op_without_builtin_beside_a_fused_one_is_named():
    import tensorflow as tf

    def odd(x):
        return tf.math.betainc(tf.ones_like(x), tf.ones_like(x), tf.sigmoid(x))

    x = tf_keras.Input((STEPS, WIDTH))
    y = tf_keras.layers.LSTM(4)(x)
    model = tf_keras.Model(x, tf_keras.layers.Lambda(odd, name="odd")(y))
    with pytest.raises(errors.ConversionError, match=r"Betainc.*odd"):
        convert_model(model)


@BOTH
def test_a_users_layer_around_a_cell_is_left_alone(k):
    """It has a cell, and does something else with it than the layers of Keras."""

    class Twice(k.layers.Layer):
        stateful, go_backwards, return_state = False, False, False

        def __init__(self):
            super().__init__()
            self.cell = k.layers.LSTMCell(3)

        def build(self, shape):
            self.cell.build(shape[:1] + shape[2:])
            self.built = True

        def call(self, x):
            states = [x[:, 0] * 0.5, x[:, 1]]
            y, states = self.cell(x[:, 0], states)
            return self.cell(y, states)[0]

    model = chain(k, Twice())
    result = convert_model(model)
    (sample,) = inputs_of(model, 1)
    ((found,),) = run(result.tflite, [sample])
    np.testing.assert_allclose(found, truth_of(model, sample)[0], atol=2e-6)


@BOTH
def test_a_batch_of_two(k):
    model = chain(k, k.layers.LSTM(4), k.layers.Dense(2))
    content = convert_model(model, batch_size=2).tflite
    sample = [np.concatenate([one[0] for one in inputs_of(model, 2)])]
    for found in run(content, [sample, sample]):
        np.testing.assert_allclose(found[0], truth_of(model, sample)[0], atol=2e-6)
