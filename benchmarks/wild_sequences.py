"""Small networks for sequences, text and tables, as users write them."""

from __future__ import annotations

from typing import Any

from benchmarks.wild_parts import (
    IMAGE,
    SERIES,
    WAVE,
    block,
    chain,
    classified,
    conv,
    wild,
)


@wild
def keyword_spotting(k: Any) -> Any:
    x = inputs = k.Input((49, 10, 1))
    x = conv(k, x, 16, (10, 4), strides=2)
    for _ in range(2):
        x = k.layers.DepthwiseConv2D(3, padding="same")(x)
        x = conv(k, k.layers.BatchNormalization()(x), 16, 1)
    return classified(k, inputs, x)


@wild
def activity_conv1d(k: Any) -> Any:
    la = k.layers
    body = [la.Conv1D(16, 3, activation="relu"), la.MaxPooling1D(), la.Flatten()]
    return chain(k, WAVE, *body, la.Dropout(0.5), la.Dense(5, activation="softmax"))


@wild
def temporal_convolutions(k: Any) -> Any:
    x = inputs = k.Input(WAVE)
    x = k.layers.Conv1D(8, 1)(x)
    for rate in (1, 2, 4):
        y = k.layers.Conv1D(8, 3, padding="causal", dilation_rate=rate)(x)
        x = k.layers.Add()([x, k.layers.Activation("relu")(y)])
    return k.Model(inputs, k.layers.Dense(2)(x))


@wild
def wave_net_like(k: Any) -> Any:
    la, inputs = k.layers, k.Input(WAVE)
    x = la.Conv1D(8, 2, padding="causal")(inputs)
    gate = la.Conv1D(8, 2, padding="causal", activation="sigmoid")(x)
    y = la.Multiply()([la.Conv1D(8, 2, padding="causal", activation="tanh")(x), gate])
    return k.Model(inputs, la.Conv1D(4, 1)(la.Add()([x, la.Conv1D(8, 1)(y)])))


@wild
def lstm_regression(k: Any) -> Any:
    la = k.layers
    stack = [la.LSTM(16, return_sequences=True), la.Dropout(0.2), la.LSTM(8)]
    return chain(k, SERIES, *stack, la.Dense(1))


@wild
def bidirectional_lstm(k: Any) -> Any:
    la = k.layers
    return chain(k, SERIES, la.Bidirectional(la.LSTM(8)), la.Dense(3, "softmax"))


@wild
def gru_classifier(k: Any) -> Any:
    return chain(k, SERIES, k.layers.GRU(16), k.layers.Dense(3, activation="softmax"))


@wild
def unrolled_gru(k: Any) -> Any:
    return chain(k, (8, 6), k.layers.GRU(16, unroll=True), k.layers.Dense(3))


@wild
def simple_rnn(k: Any) -> Any:
    return chain(k, SERIES, k.layers.SimpleRNN(16), k.layers.Dense(1))


@wild
def conv_lstm(k: Any) -> Any:
    la = k.layers
    layer = la.ConvLSTM2D(4, 3, recurrent_activation="sigmoid")
    return chain(k, (4, 8, 8, 2), layer, la.Flatten(), la.Dense(2))


@wild
def cnn_lstm(k: Any) -> Any:
    la = k.layers
    frames = [la.TimeDistributed(la.Conv2D(4, 3)), la.TimeDistributed(la.Flatten())]
    return chain(k, (4, 8, 8, 2), *frames, la.LSTM(8), la.Dense(2))


@wild
def encoder_decoder(k: Any) -> Any:
    source, target = k.Input(SERIES, name="source"), k.Input((6, 6), name="target")
    _, *states = k.layers.LSTM(8, return_state=True)(source)
    y = k.layers.LSTM(8, return_sequences=True)(target, initial_state=states)
    return k.Model([source, target], k.layers.Dense(4)(y))


@wild
def text_embedding(k: Any) -> Any:
    la = k.layers
    body = [la.Embedding(200, 16), la.GlobalAveragePooling1D(), la.Dense(8, "relu")]
    return chain(k, (20,), *body, la.Dense(4, "softmax"), dtype="int32")


@wild
def masked_text_lstm(k: Any) -> Any:
    la = k.layers
    body = [la.Embedding(200, 16, mask_zero=True), la.LSTM(8)]
    return chain(k, (12,), *body, la.Dense(2), dtype="int32")


@wild
def text_conv(k: Any) -> Any:
    la, tokens = k.layers, k.Input((16,), dtype="int32")
    x = la.Embedding(100, 8)(tokens)
    parts = [la.GlobalMaxPooling1D()(la.Conv1D(8, n)(x)) for n in (2, 3, 4)]
    return k.Model(tokens, la.Dense(2)(la.Concatenate()(parts)))


@wild
def transformer_encoder(k: Any) -> Any:
    la, tokens = k.layers, k.Input((12,), dtype="int32")
    x = block(k, la.Embedding(100, 16)(tokens))
    return k.Model(tokens, la.Dense(2)(la.GlobalAveragePooling1D()(x)))


@wild
def attention_over_steps(k: Any) -> Any:
    la, inputs = k.layers, k.Input(SERIES)
    x = la.LSTM(8, return_sequences=True)(inputs)
    y = la.GlobalAveragePooling1D()(la.Attention()([x, x]))
    return k.Model(inputs, la.Dense(2)(y))


@wild
def anomaly_lstm_autoencoder(k: Any) -> Any:
    la = k.layers
    back = [la.RepeatVector(24), la.LSTM(8, return_sequences=True)]
    return chain(k, SERIES, la.LSTM(8), *back, la.TimeDistributed(la.Dense(6)))


@wild
def normalized_image(k: Any) -> Any:
    la = k.layers
    first = [la.Rescaling(1 / 127.5, -1.0), la.Conv2D(8, 3, 2), la.PReLU()]
    return chain(k, IMAGE, *first, la.GlobalAveragePooling2D(), la.Dense(2))


@wild
def instance_of_group_norm(k: Any) -> Any:
    la = k.layers
    body = [la.Conv2D(8, 3), la.GroupNormalization(4), la.Activation("relu")]
    return chain(k, IMAGE, *body, la.Flatten(), la.Dense(2))


@wild
def volume_classifier(k: Any) -> Any:
    la = k.layers
    body = [la.Conv3D(4, 3, activation="relu"), la.MaxPooling3D(), la.Flatten()]
    return chain(k, (8, 8, 8, 1), *body, la.Dense(2))


@wild
def maxout(k: Any) -> Any:
    inputs = k.Input((16,))
    parts = [k.layers.Dense(8)(inputs) for _ in range(3)]
    return k.Model(inputs, k.layers.Dense(2)(k.layers.Maximum()(parts)))
