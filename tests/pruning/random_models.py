"""Random models of either Keras, drawn piece by piece for hypothesis to shrink."""

from __future__ import annotations

from hypothesis import strategies as st

SIZE = 4


def draw_model(data, k):
    """Returns a model [4, 4, 3] -> [2] of up to ten drawn pieces."""
    x = k.Input((SIZE, SIZE, 3))
    trunk = [_conv(data, k, x)]
    for _ in range(data.draw(st.integers(1, 8), label="pieces")):
        piece = data.draw(st.sampled_from(PIECES), label="piece")
        trunk.append(piece(data, k, trunk))
    y = _pick(data, trunk)
    if data.draw(st.booleans(), label="flatten"):
        y = k.layers.Flatten()(y)
    else:
        y = k.layers.GlobalAveragePooling2D()(y)
    y = k.layers.Dense(data.draw(st.integers(1, 6)), activation="relu")(y)
    return k.Model(x, k.layers.Dense(2)(y))


def _pick(data, trunk):
    return trunk[data.draw(st.integers(0, len(trunk) - 1), label="from")]


def _conv(data, k, y, filters=None):
    filters = filters or data.draw(st.integers(1, 6), label="filters")
    kernel = data.draw(st.sampled_from([1, 3]), label="kernel")
    activation = data.draw(st.sampled_from(["relu", "tanh", "linear"]))
    return k.layers.Conv2D(filters, kernel, padding="same", activation=activation)(y)


def conv(data, k, trunk):
    return _conv(data, k, _pick(data, trunk))


def grouped_conv(data, k, trunk):
    y = _conv(data, k, _pick(data, trunk), 4)
    groups = data.draw(st.sampled_from([2, 4]), label="groups")
    return k.layers.Conv2D(groups * 2, 3, padding="same", groups=groups)(y)


def depthwise(data, k, trunk):
    multiplier = data.draw(st.integers(1, 2), label="multiplier")
    return k.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(
        _pick(data, trunk)
    )


def separable(data, k, trunk):
    return k.layers.SeparableConv2D(3, 3, padding="same")(_pick(data, trunk))


def transposed(data, k, trunk):
    filters = data.draw(st.integers(1, 5), label="filters")
    return k.layers.Conv2DTranspose(filters, 3, padding="same")(_pick(data, trunk))


def batch_norm(data, k, trunk):
    options = {"scale": data.draw(st.booleans()), "center": data.draw(st.booleans())}
    y = k.layers.BatchNormalization(**options)(_pick(data, trunk))
    return k.layers.ReLU(max_value=6.0)(y)


def prelu(data, k, trunk):
    shared = data.draw(st.sampled_from([None, [1, 2]]))
    return k.layers.PReLU(shared_axes=shared)(_pick(data, trunk))


def layer_norm(data, k, trunk):
    return k.layers.LayerNormalization()(_pick(data, trunk))


def add(data, k, trunk):
    one = _pick(data, trunk)
    same = [t for t in trunk if t.shape == one.shape]
    other = _pick(data, same) if len(same) > 1 else _conv(data, k, one, one.shape[-1])
    kind = data.draw(st.sampled_from(["Add", "Multiply", "Maximum", "Subtract"]))
    return getattr(k.layers, kind)()([one, other])


def square_and_shift(data, k, trunk):
    y = _pick(data, trunk)
    return y * y * 0.5 + 1.0


def gate(data, k, trunk):
    y = _pick(data, trunk)
    squeezed = k.layers.GlobalAveragePooling2D(keepdims=True)(y)
    squeezed = k.layers.Dense(2, activation="relu")(squeezed)
    channels = data.draw(st.sampled_from([1, y.shape[-1]]), label="gate")
    return k.layers.Multiply()(
        [y, k.layers.Dense(channels, activation="sigmoid")(squeezed)]
    )


def concatenate(data, k, trunk):
    axis = data.draw(st.sampled_from([-1, 3]), label="axis")
    return k.layers.Concatenate(axis=axis)([_pick(data, trunk), _pick(data, trunk)])


def concatenate_rows(data, k, trunk):
    one = _pick(data, trunk)
    other = _conv(data, k, one, one.shape[-1])
    y = k.layers.Concatenate(axis=1)([one, other])
    return k.layers.MaxPooling2D((2, 1))(y)


def split_and_swap(data, k, trunk):
    y = _pick(data, trunk)
    channels = y.shape[-1]
    if channels < 2:
        return k.layers.ReLU()(y)
    at = data.draw(st.integers(1, channels - 1), label="at")
    left, right = y[..., :at], y[..., at:]
    right = k.layers.Activation("tanh")(right)
    return k.layers.Concatenate()([right, left])


def halves_added(data, k, trunk):
    y = _conv(data, k, _pick(data, trunk), 6)
    return k.layers.Add()([y[..., :3], y[..., 3:]])


def shuffle(data, k, trunk):
    y = _conv(data, k, _pick(data, trunk), 6)
    groups = data.draw(st.sampled_from([2, 3]), label="groups")
    y = k.layers.Reshape((SIZE, SIZE, groups, 6 // groups))(y)
    y = k.layers.Permute((1, 2, 4, 3))(y)
    return k.layers.Reshape((SIZE, SIZE, 6))(y)


def transpose_positions(data, k, trunk):
    return k.layers.Permute((2, 1, 3))(_pick(data, trunk))


def transpose_channels(data, k, trunk):
    y = _conv(data, k, _pick(data, trunk), SIZE)
    return k.layers.Permute((3, 2, 1))(y)


def through_a_vector(data, k, trunk):
    y = k.layers.Flatten()(_pick(data, trunk))
    y = k.layers.Dense(SIZE * SIZE * 2)(y)
    return k.layers.Reshape((SIZE, SIZE, 2))(y)


def shared_conv(data, k, trunk):
    one = _pick(data, trunk)
    other = _conv(data, k, _pick(data, trunk), one.shape[-1])
    layer = k.layers.Conv2D(3, 3, padding="same")
    return k.layers.Concatenate()([layer(one), layer(other)])


def nested(data, k, trunk):
    y = _pick(data, trunk)
    i = k.Input((SIZE, SIZE, y.shape[-1]))
    inner = k.layers.Conv2D(4, 1)(i)
    inner = k.Model(i, [inner, k.layers.BatchNormalization()(inner)])
    first, second = inner(y)
    return k.layers.Add()([first, second])


def padding_and_pooling(data, k, trunk):
    y = k.layers.ZeroPadding2D(1)(_pick(data, trunk))
    return k.layers.AveragePooling2D(3, strides=1)(y)


def up_and_down(data, k, trunk):
    y = k.layers.UpSampling2D(2)(_pick(data, trunk))
    return k.layers.Conv2D(3, 3, strides=2, padding="same")(y)


PIECES = [
    conv,
    grouped_conv,
    depthwise,
    separable,
    transposed,
    batch_norm,
    prelu,
    layer_norm,
    add,
    square_and_shift,
    gate,
    concatenate,
    concatenate_rows,
    split_and_swap,
    halves_added,
    shuffle,
    transpose_positions,
    transpose_channels,
    through_a_vector,
    shared_conv,
    nested,
    padding_and_pooling,
    up_and_down,
]
