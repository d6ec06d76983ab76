"""Units of recurrent layers, heads of attention, widths of embeddings."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim.graph import count
from tfslim.graph import keras as graph_keras

BOTH = pytest.mark.parametrize(
    "k",
    [keras, pytest.param(tf_keras, marks=pytest.mark.slow)],
    ids=["keras", "tf_keras"],
)
HALF = tfslim.Budget(pruning_ratio=0.5, divisor=1)


def chain(k, *layers, shape=(5, 6), dtype="float32"):
    k.utils.set_random_seed(0)
    x = inputs = k.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return k.Model(inputs, k.layers.Dense(3, name="end")(x))


def attention(k):
    k.utils.set_random_seed(0)
    inputs = k.Input((5, 6))
    x = k.layers.Dense(16)(inputs)
    y = k.layers.MultiHeadAttention(4, 8, name="layer")(x, x)
    x = k.layers.Dense(16, activation="gelu")(k.layers.Add()([x, y]))
    x = k.layers.GlobalAveragePooling1D()(x)
    return k.Model(inputs, k.layers.Dense(3, name="end")(x))


def encoder_and_decoder(k):
    k.utils.set_random_seed(0)
    first, second = k.Input((5, 6)), k.Input((4, 6))
    _, *states = k.layers.LSTM(8, return_state=True, name="layer")(first)
    y = k.layers.LSTM(8, return_sequences=True)(second, initial_state=states)
    return k.Model([first, second], k.layers.Dense(3, name="end")(y))


def both_ways_apart(k):
    k.utils.set_random_seed(0)
    inputs = k.Input((5, 6))
    forward = k.layers.LSTM(8, return_state=True)
    layer = k.layers.Bidirectional(forward, merge_mode=None, name="layer")
    one, other, _, cell, hidden, _ = layer(k.layers.Dense(8)(inputs))
    x = k.layers.Concatenate()([one * hidden, other, cell])
    return k.Model(inputs, k.layers.Dense(3, name="end")(x))


MODELS = {
    "lstm": lambda k: chain(
        k, k.layers.LSTM(8, return_sequences=True, name="layer"), k.layers.LSTM(4)
    ),
    "gru": lambda k: chain(k, k.layers.GRU(8, name="layer")),
    "old_gru": lambda k: chain(
        k, k.layers.Conv1D(4, 2), k.layers.GRU(8, reset_after=False, name="layer")
    ),
    "simple_rnn": lambda k: chain(k, k.layers.SimpleRNN(8, name="layer")),
    "embedding": lambda k: chain(
        k,
        k.layers.Embedding(9, 8, mask_zero=True, name="layer"),
        k.layers.LSTM(4),
        shape=(5,),
        dtype="int32",
    ),
    "attention": attention,
    "states": encoder_and_decoder,
    "both_ways": lambda k: chain(
        k,
        k.layers.Conv1D(8, 2),
        k.layers.Bidirectional(
            k.layers.LSTM(8, return_sequences=True, unit_forget_bias=False)
        ),
        k.layers.Bidirectional(k.layers.GRU(8), merge_mode="sum", name="layer"),
    ),
    "both_ways_apart": both_ways_apart,
    "maps": lambda k: chain(
        k,
        k.layers.ConvLSTM1D(
            8, 2, return_sequences=True, recurrent_activation="sigmoid", name="layer"
        ),
        k.layers.ConvLSTM1D(4, 2, recurrent_activation="sigmoid", use_bias=False),
        k.layers.Flatten(),
        shape=(3, 6, 2),
    ),
}


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_half_of_the_units_fall(name, k):
    """`prune_channels` proves that the cut model is the masked one."""
    model = MODELS[name](k)
    smaller, report = tfslim.prune_channels(model, budget=HALF)
    assert report.error < 1e-5
    before, after = (m.get_layer("layer").count_params() for m in (model, smaller))
    assert after < 0.6 * before
    assert list(report.skipped) == [] and list(report.cut.skipped) == ["end"]


def test_heads_count_with_their_columns():
    """Heads of 8 columns: a divisor of 16 means two of them."""
    smaller, _ = tfslim.prune_channels(attention(tf_keras), pruning_ratio=0.5)
    assert smaller.get_layer("layer").get_config()["num_heads"] == 2


def test_units_are_cut_in_all_their_gates():
    """Of four units the two with the largest kernels stay, in every gate."""
    model = chain(tf_keras, tf_keras.layers.LSTM(4, name="layer"))
    layer = model.get_layer("layer")
    kernel, recurrent, bias = layer.get_weights()
    kernel[:, [0, 2, 4, 6, 8, 10, 12, 14]] *= 10
    layer.set_weights([kernel, recurrent, bias])
    smaller, _ = tfslim.prune_channels(model, budget=HALF)
    found = smaller.get_layer("layer").get_weights()
    columns = [gate * 4 + unit for gate in range(4) for unit in (0, 2)]
    np.testing.assert_array_equal(found[0], kernel[:, columns])
    np.testing.assert_array_equal(found[1], recurrent[[0, 2]][:, columns])
    np.testing.assert_array_equal(found[2], bias[columns])


@BOTH
def test_what_has_no_rule_is_named(k):
    model = chain(k, k.layers.RNN(k.layers.LSTMCell(8), name="both"))
    _, report = tfslim.prune_channels(model, pruning_ratio=0.5)
    assert "no rule" in report.cut.skipped["both"]
    assert "both" in str(report)


@BOTH
def test_macs_by_hand(k):
    layers = k.layers
    steps, width, units = 5, 6, 8
    each = 4 * units * (width + units)
    rows = {
        "LSTM": (layers.LSTM(units), steps * each),
        "GRU": (layers.GRU(units), steps * 3 * units * (width + units)),
        "Bidirectional": (layers.Bidirectional(layers.LSTM(units)), 2 * steps * each),
        "RNN": (layers.RNN(layers.LSTMCell(units)), steps * each),
    }
    for name, (layer, wanted) in rows.items():
        graph = graph_keras.read(chain(k, layer))
        counted = {row.op: row.macs for row in count.count(graph).nodes}
        assert counted[name] == wanted, name
    graph = graph_keras.read(attention(k))
    counted = {row.op: row.macs for row in count.count(graph).nodes}
    # Four projections of 16 x 32, and scores and sums of 5 x 5 for 4 heads of 8.
    wanted = 4 * 5 * 16 * 32 + 2 * 4 * 5 * 5 * 8
    assert counted["MultiHeadAttention"] == wanted
