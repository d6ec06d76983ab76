"""Small networks as users write them, with random weights, to try coverage on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Build = Callable[[Any], Any]
WILD: dict[str, Build] = {}
IMAGE, SERIES, WAVE = (32, 32, 3), (24, 6), (64, 4)


def _wild(build: Build) -> Build:
    WILD[build.__name__.strip("_")] = build
    return build


def _conv(k: Any, x: Any, width: int, size: int = 3, **options: Any) -> Any:
    y = k.layers.Conv2D(width, size, padding="same", use_bias=False, **options)(x)
    return k.layers.ReLU()(k.layers.BatchNormalization()(y))


def _classified(k: Any, inputs: Any, x: Any) -> Any:
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(5, activation="softmax")(x))


def _block(k: Any, x: Any, heads: int = 2, width: int = 16) -> Any:
    y = k.layers.LayerNormalization()(x)
    y = k.layers.MultiHeadAttention(heads, width // heads)(y, y)
    x = k.layers.Add()([x, y])
    y = k.layers.Dense(32, activation="gelu")(k.layers.LayerNormalization()(x))
    return k.layers.Add()([x, k.layers.Dense(width)(y)])


def _chain(k: Any, shape: tuple[int, ...], *layers: Any, dtype: str = "float32") -> Any:
    x = inputs = k.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return k.Model(inputs, x)


@_wild
def lenet(k: Any) -> Any:
    la = k.layers
    conv = [la.Conv2D(6, 5, activation="tanh"), la.AveragePooling2D(2)]
    more = [la.Conv2D(16, 5, activation="tanh"), la.AveragePooling2D(2), la.Flatten()]
    return _chain(k, IMAGE, *conv, *more, la.Dense(32, "tanh"), la.Dense(5, "softmax"))


@_wild
def vgg_like(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for width in (8, 16):
        x = k.layers.MaxPooling2D()(_conv(k, _conv(k, x, width), width))
    return _classified(k, inputs, x)


@_wild
def residual(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, inputs, 16)
    y = k.layers.BatchNormalization()(k.layers.Conv2D(16, 3, padding="same")(x))
    return _classified(k, inputs, k.layers.ReLU()(k.layers.Add()([x, y])))


@_wild
def dense_net(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for _ in range(3):
        x = k.layers.Concatenate()([x, _conv(k, x, 8)])
    return _classified(k, inputs, x)


@_wild
def inception_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    pooled = k.layers.MaxPooling2D(3, 1, padding="same")(inputs)
    parts = [_conv(k, inputs, 8, 1), _conv(k, inputs, 8, 3), _conv(k, pooled, 8, 1)]
    return _classified(k, inputs, k.layers.Concatenate()(parts))


@_wild
def squeeze_and_excite(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, inputs, 16)
    y = k.layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = k.layers.Conv2D(4, 1, activation="relu")(y)
    y = k.layers.Conv2D(16, 1, activation="sigmoid")(y)
    return _classified(k, inputs, k.layers.Multiply()([x, y]))


@_wild
def efficient_net_block(k: Any) -> Any:
    la, inputs = k.layers, k.Input(IMAGE)
    x = la.Conv2D(16, 1, activation="swish")(inputs)
    x = la.DepthwiseConv2D(5, padding="same", activation="swish")(x)
    y = la.Reshape((1, 1, 16))(la.GlobalAveragePooling2D()(x))
    y = la.Conv2D(16, 1, activation="sigmoid")(la.Conv2D(4, 1, activation="swish")(y))
    return _classified(k, inputs, la.Conv2D(8, 1)(la.Multiply()([x, y])))


@_wild
def shuffle_net_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 1, groups=1)(inputs)
    x = k.layers.Conv2D(16, 1, groups=4)(x)
    x = k.layers.Reshape((32, 32, 4, 4))(x)
    x = k.layers.Reshape((32, 32, 16))(k.layers.Permute((1, 2, 4, 3))(x))
    return _classified(k, inputs, k.layers.DepthwiseConv2D(3)(x))


@_wild
def ghost_module(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, inputs, 8, 1)
    y = k.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    return _classified(k, inputs, k.layers.Concatenate()([x, y]))


@_wild
def xception_block(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for width in (8, 16):
        x = k.layers.SeparableConv2D(width, 3, padding="same", activation="relu")(x)
    return _classified(k, inputs, x)


@_wild
def conv_mixer(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 4, 4, activation="gelu")(inputs)
    y = k.layers.DepthwiseConv2D(5, padding="same", activation="gelu")(x)
    x = k.layers.Add()([x, k.layers.BatchNormalization()(y)])
    return _classified(k, inputs, k.layers.Conv2D(16, 1, activation="gelu")(x))


@_wild
def conv_next_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 4, 4)(inputs)
    y = k.layers.DepthwiseConv2D(7, padding="same")(x)
    y = k.layers.LayerNormalization(epsilon=1e-6)(y)
    y = k.layers.Dense(16)(k.layers.Dense(64, activation="gelu")(y))
    return _classified(k, inputs, k.layers.Add()([x, y]))


@_wild
def vit_tiny(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Reshape((16, 16))(k.layers.Conv2D(16, 8, 8)(inputs))
    x = _block(k, _block(k, x))
    x = k.layers.GlobalAveragePooling1D()(k.layers.LayerNormalization()(x))
    return k.Model(inputs, k.layers.Dense(5)(x))


@_wild
def mlp_mixer(k: Any) -> Any:
    la, inputs = k.layers, k.Input(IMAGE)
    x = la.Reshape((16, 16))(la.Conv2D(16, 8, 8)(inputs))
    y = la.Permute((2, 1))(la.LayerNormalization()(x))
    y = la.Permute((2, 1))(la.Dense(16)(la.Dense(32, activation="gelu")(y)))
    x = la.Add()([x, y])
    return k.Model(inputs, la.Dense(5)(la.GlobalAveragePooling1D()(x)))


@_wild
def u_net(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    first = _conv(k, inputs, 8)
    second = _conv(k, k.layers.MaxPooling2D()(first), 16)
    x = k.layers.Conv2DTranspose(8, 2, 2)(second)
    x = _conv(k, k.layers.Concatenate()([x, first]), 8)
    return k.Model(inputs, k.layers.Conv2D(2, 1, activation="sigmoid")(x))


@_wild
def segmentation_by_resizing(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, _conv(k, inputs, 8, strides=2), 16, strides=2)
    x = k.layers.UpSampling2D(4, interpolation="bilinear")(k.layers.Conv2D(4, 1)(x))
    return k.Model(inputs, k.layers.Softmax()(x))


@_wild
def atrous_pyramid(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, inputs, 8)
    parts = [_conv(k, x, 8, dilation_rate=rate) for rate in (1, 2, 4)]
    return k.Model(inputs, k.layers.Conv2D(2, 1)(k.layers.Concatenate()(parts)))


@_wild
def super_resolution(k: Any) -> Any:
    la, inputs = k.layers, k.Input((16, 16, 3))
    x = la.Conv2D(12, 3, padding="same")(la.Conv2D(8, 5, padding="same")(inputs))
    x = la.Reshape((16, 16, 2, 2, 3))(x)
    x = la.Reshape((32, 32, 3))(la.Permute((1, 3, 2, 4, 5))(x))
    return k.Model(inputs, x)


@_wild
def convolutional_autoencoder(k: Any) -> Any:
    la = k.layers
    down = [la.Conv2D(n, 3, 2, padding="same", activation="relu") for n in (8, 4)]
    up = [la.Conv2DTranspose(n, 3, 2, "same", activation="relu") for n in (4, 8)]
    return _chain(k, IMAGE, *down, *up, la.Conv2D(3, 3, padding="same"))


@_wild
def dense_autoencoder(k: Any) -> Any:
    widths = (32, 8, 32, 64)
    return _chain(k, (64,), *(k.layers.Dense(n, activation="relu") for n in widths))


@_wild
def gan_generator(k: Any) -> Any:
    la = k.layers
    start = [la.Dense(4 * 4 * 16), la.LeakyReLU(), la.Reshape((4, 4, 16))]
    up = [la.Conv2DTranspose(8, 4, 2, "same"), la.BatchNormalization(), la.LeakyReLU()]
    end = la.Conv2DTranspose(3, 4, 2, "same", activation="tanh")
    return _chain(k, (16,), *start, *up, end)


@_wild
def gan_discriminator(k: Any) -> Any:
    la = k.layers
    body = [la.Conv2D(8, 4, 2, "same"), la.LeakyReLU(), la.Dropout(0.3), la.Flatten()]
    return _chain(k, IMAGE, *body, la.Dense(1, activation="sigmoid"))


@_wild
def pose_heat_maps(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, _conv(k, inputs, 8, strides=2), 16)
    heat = k.layers.Conv2D(4, 1, activation="sigmoid", name="heat")(x)
    return k.Model(inputs, [heat, k.layers.Conv2D(8, 1, name="offsets")(x)])


@_wild
def detector_heads(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = _conv(k, _conv(k, inputs, 8, strides=2), 16, strides=2)
    boxes = k.layers.Reshape((-1, 4), name="boxes")(k.layers.Conv2D(8, 1)(x))
    scores = k.layers.Reshape((-1, 3))(k.layers.Conv2D(6, 1)(x))
    scores = k.layers.Activation("sigmoid", name="scores")(scores)
    return k.Model(inputs, {"boxes": boxes, "scores": scores})


@_wild
def siamese(k: Any) -> Any:
    left, right = k.Input(IMAGE, name="left"), k.Input(IMAGE, name="right")
    body = _chain(k, IMAGE, k.layers.Conv2D(8, 3, activation="relu"))
    tower = [k.layers.GlobalAveragePooling2D()(body(x)) for x in (left, right)]
    x = k.layers.Subtract()(tower)
    x = k.layers.Multiply()([x, x])
    return k.Model([left, right], k.layers.Dense(1, activation="sigmoid")(x))


@_wild
def two_towers(k: Any) -> Any:
    la = k.layers
    user = k.Input((1,), dtype="int32", name="user")
    item = k.Input((1,), dtype="int32", name="item")
    towers = [
        la.Dense(8)(la.Flatten()(la.Embedding(50, 16)(ids))) for ids in (user, item)
    ]
    return k.Model({"user": user, "item": item}, la.Dot(axes=1)(towers))


@_wild
def wide_and_deep(k: Any) -> Any:
    inputs = k.Input((12,))
    deep = k.layers.Dense(8, activation="relu")(k.layers.Dense(16, "relu")(inputs))
    return k.Model(inputs, k.layers.Dense(1)(k.layers.Concatenate()([inputs, deep])))


@_wild
def image_and_numbers(k: Any) -> Any:
    image, numbers = k.Input(IMAGE, name="image"), k.Input((4,), name="numbers")
    x = k.layers.GlobalMaxPooling2D()(_conv(k, image, 8))
    x = k.layers.Concatenate()([x, k.layers.Dense(8)(numbers)])
    return k.Model([image, numbers], [k.layers.Dense(1)(x), k.layers.Dense(3)(x)])


@_wild
def keyword_spotting(k: Any) -> Any:
    x = inputs = k.Input((49, 10, 1))
    x = _conv(k, x, 16, (10, 4), strides=2)
    for _ in range(2):
        x = k.layers.DepthwiseConv2D(3, padding="same")(x)
        x = _conv(k, k.layers.BatchNormalization()(x), 16, 1)
    return _classified(k, inputs, x)


@_wild
def activity_conv1d(k: Any) -> Any:
    la = k.layers
    body = [la.Conv1D(16, 3, activation="relu"), la.MaxPooling1D(), la.Flatten()]
    return _chain(k, WAVE, *body, la.Dropout(0.5), la.Dense(5, activation="softmax"))


@_wild
def temporal_convolutions(k: Any) -> Any:
    x = inputs = k.Input(WAVE)
    x = k.layers.Conv1D(8, 1)(x)
    for rate in (1, 2, 4):
        y = k.layers.Conv1D(8, 3, padding="causal", dilation_rate=rate)(x)
        x = k.layers.Add()([x, k.layers.Activation("relu")(y)])
    return k.Model(inputs, k.layers.Dense(2)(x))


@_wild
def wave_net_like(k: Any) -> Any:
    la, inputs = k.layers, k.Input(WAVE)
    x = la.Conv1D(8, 2, padding="causal")(inputs)
    gate = la.Conv1D(8, 2, padding="causal", activation="sigmoid")(x)
    y = la.Multiply()([la.Conv1D(8, 2, padding="causal", activation="tanh")(x), gate])
    return k.Model(inputs, la.Conv1D(4, 1)(la.Add()([x, la.Conv1D(8, 1)(y)])))


@_wild
def lstm_regression(k: Any) -> Any:
    la = k.layers
    stack = [la.LSTM(16, return_sequences=True), la.Dropout(0.2), la.LSTM(8)]
    return _chain(k, SERIES, *stack, la.Dense(1))


@_wild
def bidirectional_lstm(k: Any) -> Any:
    la = k.layers
    return _chain(k, SERIES, la.Bidirectional(la.LSTM(8)), la.Dense(3, "softmax"))


@_wild
def gru_classifier(k: Any) -> Any:
    return _chain(k, SERIES, k.layers.GRU(16), k.layers.Dense(3, activation="softmax"))


@_wild
def unrolled_gru(k: Any) -> Any:
    return _chain(k, (8, 6), k.layers.GRU(16, unroll=True), k.layers.Dense(3))


@_wild
def simple_rnn(k: Any) -> Any:
    return _chain(k, SERIES, k.layers.SimpleRNN(16), k.layers.Dense(1))


@_wild
def conv_lstm(k: Any) -> Any:
    la = k.layers
    layer = la.ConvLSTM2D(4, 3, recurrent_activation="sigmoid")
    return _chain(k, (4, 8, 8, 2), layer, la.Flatten(), la.Dense(2))


@_wild
def cnn_lstm(k: Any) -> Any:
    la = k.layers
    frames = [la.TimeDistributed(la.Conv2D(4, 3)), la.TimeDistributed(la.Flatten())]
    return _chain(k, (4, 8, 8, 2), *frames, la.LSTM(8), la.Dense(2))


@_wild
def encoder_decoder(k: Any) -> Any:
    source, target = k.Input(SERIES, name="source"), k.Input((6, 6), name="target")
    _, *states = k.layers.LSTM(8, return_state=True)(source)
    y = k.layers.LSTM(8, return_sequences=True)(target, initial_state=states)
    return k.Model([source, target], k.layers.Dense(4)(y))


@_wild
def text_embedding(k: Any) -> Any:
    la = k.layers
    body = [la.Embedding(200, 16), la.GlobalAveragePooling1D(), la.Dense(8, "relu")]
    return _chain(k, (20,), *body, la.Dense(4, "softmax"), dtype="int32")


@_wild
def masked_text_lstm(k: Any) -> Any:
    la = k.layers
    body = [la.Embedding(200, 16, mask_zero=True), la.LSTM(8)]
    return _chain(k, (12,), *body, la.Dense(2), dtype="int32")


@_wild
def text_conv(k: Any) -> Any:
    la, tokens = k.layers, k.Input((16,), dtype="int32")
    x = la.Embedding(100, 8)(tokens)
    parts = [la.GlobalMaxPooling1D()(la.Conv1D(8, n)(x)) for n in (2, 3, 4)]
    return k.Model(tokens, la.Dense(2)(la.Concatenate()(parts)))


@_wild
def transformer_encoder(k: Any) -> Any:
    la, tokens = k.layers, k.Input((12,), dtype="int32")
    x = _block(k, la.Embedding(100, 16)(tokens))
    return k.Model(tokens, la.Dense(2)(la.GlobalAveragePooling1D()(x)))


@_wild
def attention_over_steps(k: Any) -> Any:
    la, inputs = k.layers, k.Input(SERIES)
    x = la.LSTM(8, return_sequences=True)(inputs)
    y = la.GlobalAveragePooling1D()(la.Attention()([x, x]))
    return k.Model(inputs, la.Dense(2)(y))


@_wild
def anomaly_lstm_autoencoder(k: Any) -> Any:
    la = k.layers
    back = [la.RepeatVector(24), la.LSTM(8, return_sequences=True)]
    return _chain(k, SERIES, la.LSTM(8), *back, la.TimeDistributed(la.Dense(6)))


@_wild
def normalized_image(k: Any) -> Any:
    la = k.layers
    first = [la.Rescaling(1 / 127.5, -1.0), la.Conv2D(8, 3, 2), la.PReLU()]
    return _chain(k, IMAGE, *first, la.GlobalAveragePooling2D(), la.Dense(2))


@_wild
def instance_of_group_norm(k: Any) -> Any:
    la = k.layers
    body = [la.Conv2D(8, 3), la.GroupNormalization(4), la.Activation("relu")]
    return _chain(k, IMAGE, *body, la.Flatten(), la.Dense(2))


@_wild
def volume_classifier(k: Any) -> Any:
    la = k.layers
    body = [la.Conv3D(4, 3, activation="relu"), la.MaxPooling3D(), la.Flatten()]
    return _chain(k, (8, 8, 8, 1), *body, la.Dense(2))


@_wild
def maxout(k: Any) -> Any:
    inputs = k.Input((16,))
    parts = [k.layers.Dense(8)(inputs) for _ in range(3)]
    return k.Model(inputs, k.layers.Dense(2)(k.layers.Maximum()(parts)))
