"""Small networks for images, as users write them."""

from __future__ import annotations

from typing import Any

from benchmarks.wild_parts import IMAGE, block, chain, classified, conv, wild


@wild
def lenet(k: Any) -> Any:
    la = k.layers
    conv = [la.Conv2D(6, 5, activation="tanh"), la.AveragePooling2D(2)]
    more = [la.Conv2D(16, 5, activation="tanh"), la.AveragePooling2D(2), la.Flatten()]
    return chain(k, IMAGE, *conv, *more, la.Dense(32, "tanh"), la.Dense(5, "softmax"))


@wild
def vgg_like(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for width in (8, 16):
        x = k.layers.MaxPooling2D()(conv(k, conv(k, x, width), width))
    return classified(k, inputs, x)


@wild
def residual(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, inputs, 16)
    y = k.layers.BatchNormalization()(k.layers.Conv2D(16, 3, padding="same")(x))
    return classified(k, inputs, k.layers.ReLU()(k.layers.Add()([x, y])))


@wild
def dense_net(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for _ in range(3):
        x = k.layers.Concatenate()([x, conv(k, x, 8)])
    return classified(k, inputs, x)


@wild
def inception_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    pooled = k.layers.MaxPooling2D(3, 1, padding="same")(inputs)
    parts = [conv(k, inputs, 8, 1), conv(k, inputs, 8, 3), conv(k, pooled, 8, 1)]
    return classified(k, inputs, k.layers.Concatenate()(parts))


@wild
def squeeze_and_excite(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, inputs, 16)
    y = k.layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = k.layers.Conv2D(4, 1, activation="relu")(y)
    y = k.layers.Conv2D(16, 1, activation="sigmoid")(y)
    return classified(k, inputs, k.layers.Multiply()([x, y]))


@wild
def efficient_net_block(k: Any) -> Any:
    la, inputs = k.layers, k.Input(IMAGE)
    x = la.Conv2D(16, 1, activation="swish")(inputs)
    x = la.DepthwiseConv2D(5, padding="same", activation="swish")(x)
    y = la.Reshape((1, 1, 16))(la.GlobalAveragePooling2D()(x))
    y = la.Conv2D(16, 1, activation="sigmoid")(la.Conv2D(4, 1, activation="swish")(y))
    return classified(k, inputs, la.Conv2D(8, 1)(la.Multiply()([x, y])))


@wild
def shuffle_net_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 1, groups=1)(inputs)
    x = k.layers.Conv2D(16, 1, groups=4)(x)
    x = k.layers.Reshape((32, 32, 4, 4))(x)
    x = k.layers.Reshape((32, 32, 16))(k.layers.Permute((1, 2, 4, 3))(x))
    return classified(k, inputs, k.layers.DepthwiseConv2D(3)(x))


@wild
def ghost_module(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, inputs, 8, 1)
    y = k.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    return classified(k, inputs, k.layers.Concatenate()([x, y]))


@wild
def xception_block(k: Any) -> Any:
    x = inputs = k.Input(IMAGE)
    for width in (8, 16):
        x = k.layers.SeparableConv2D(width, 3, padding="same", activation="relu")(x)
    return classified(k, inputs, x)


@wild
def conv_mixer(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 4, 4, activation="gelu")(inputs)
    y = k.layers.DepthwiseConv2D(5, padding="same", activation="gelu")(x)
    x = k.layers.Add()([x, k.layers.BatchNormalization()(y)])
    return classified(k, inputs, k.layers.Conv2D(16, 1, activation="gelu")(x))


@wild
def conv_next_block(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Conv2D(16, 4, 4)(inputs)
    y = k.layers.DepthwiseConv2D(7, padding="same")(x)
    y = k.layers.LayerNormalization(epsilon=1e-6)(y)
    y = k.layers.Dense(16)(k.layers.Dense(64, activation="gelu")(y))
    return classified(k, inputs, k.layers.Add()([x, y]))


@wild
def vit_tiny(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = k.layers.Reshape((16, 16))(k.layers.Conv2D(16, 8, 8)(inputs))
    x = block(k, block(k, x))
    x = k.layers.GlobalAveragePooling1D()(k.layers.LayerNormalization()(x))
    return k.Model(inputs, k.layers.Dense(5)(x))


@wild
def mlp_mixer(k: Any) -> Any:
    la, inputs = k.layers, k.Input(IMAGE)
    x = la.Reshape((16, 16))(la.Conv2D(16, 8, 8)(inputs))
    y = la.Permute((2, 1))(la.LayerNormalization()(x))
    y = la.Permute((2, 1))(la.Dense(16)(la.Dense(32, activation="gelu")(y)))
    x = la.Add()([x, y])
    return k.Model(inputs, la.Dense(5)(la.GlobalAveragePooling1D()(x)))


@wild
def u_net(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    first = conv(k, inputs, 8)
    second = conv(k, k.layers.MaxPooling2D()(first), 16)
    x = k.layers.Conv2DTranspose(8, 2, 2)(second)
    x = conv(k, k.layers.Concatenate()([x, first]), 8)
    return k.Model(inputs, k.layers.Conv2D(2, 1, activation="sigmoid")(x))


@wild
def segmentation_by_resizing(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, conv(k, inputs, 8, strides=2), 16, strides=2)
    x = k.layers.UpSampling2D(4, interpolation="bilinear")(k.layers.Conv2D(4, 1)(x))
    return k.Model(inputs, k.layers.Softmax()(x))


@wild
def atrous_pyramid(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, inputs, 8)
    parts = [conv(k, x, 8, dilation_rate=rate) for rate in (1, 2, 4)]
    return k.Model(inputs, k.layers.Conv2D(2, 1)(k.layers.Concatenate()(parts)))


@wild
def super_resolution(k: Any) -> Any:
    la, inputs = k.layers, k.Input((16, 16, 3))
    x = la.Conv2D(12, 3, padding="same")(la.Conv2D(8, 5, padding="same")(inputs))
    x = la.Reshape((16, 16, 2, 2, 3))(x)
    x = la.Reshape((32, 32, 3))(la.Permute((1, 3, 2, 4, 5))(x))
    return k.Model(inputs, x)


@wild
def convolutional_autoencoder(k: Any) -> Any:
    la = k.layers
    down = [la.Conv2D(n, 3, 2, padding="same", activation="relu") for n in (8, 4)]
    up = [la.Conv2DTranspose(n, 3, 2, "same", activation="relu") for n in (4, 8)]
    return chain(k, IMAGE, *down, *up, la.Conv2D(3, 3, padding="same"))


@wild
def dense_autoencoder(k: Any) -> Any:
    widths = (32, 8, 32, 64)
    return chain(k, (64,), *(k.layers.Dense(n, activation="relu") for n in widths))


@wild
def gan_generator(k: Any) -> Any:
    la = k.layers
    start = [la.Dense(4 * 4 * 16), la.LeakyReLU(), la.Reshape((4, 4, 16))]
    up = [la.Conv2DTranspose(8, 4, 2, "same"), la.BatchNormalization(), la.LeakyReLU()]
    end = la.Conv2DTranspose(3, 4, 2, "same", activation="tanh")
    return chain(k, (16,), *start, *up, end)


@wild
def gan_discriminator(k: Any) -> Any:
    la = k.layers
    body = [la.Conv2D(8, 4, 2, "same"), la.LeakyReLU(), la.Dropout(0.3), la.Flatten()]
    return chain(k, IMAGE, *body, la.Dense(1, activation="sigmoid"))


@wild
def pose_heat_maps(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, conv(k, inputs, 8, strides=2), 16)
    heat = k.layers.Conv2D(4, 1, activation="sigmoid", name="heat")(x)
    return k.Model(inputs, [heat, k.layers.Conv2D(8, 1, name="offsets")(x)])


@wild
def detector_heads(k: Any) -> Any:
    inputs = k.Input(IMAGE)
    x = conv(k, conv(k, inputs, 8, strides=2), 16, strides=2)
    boxes = k.layers.Reshape((-1, 4), name="boxes")(k.layers.Conv2D(8, 1)(x))
    scores = k.layers.Reshape((-1, 3))(k.layers.Conv2D(6, 1)(x))
    scores = k.layers.Activation("sigmoid", name="scores")(scores)
    return k.Model(inputs, {"boxes": boxes, "scores": scores})


@wild
def siamese(k: Any) -> Any:
    left, right = k.Input(IMAGE, name="left"), k.Input(IMAGE, name="right")
    body = chain(k, IMAGE, k.layers.Conv2D(8, 3, activation="relu"))
    tower = [k.layers.GlobalAveragePooling2D()(body(x)) for x in (left, right)]
    x = k.layers.Subtract()(tower)
    x = k.layers.Multiply()([x, x])
    return k.Model([left, right], k.layers.Dense(1, activation="sigmoid")(x))


@wild
def two_towers(k: Any) -> Any:
    la = k.layers
    user = k.Input((1,), dtype="int32", name="user")
    item = k.Input((1,), dtype="int32", name="item")
    towers = [
        la.Dense(8)(la.Flatten()(la.Embedding(50, 16)(ids))) for ids in (user, item)
    ]
    return k.Model({"user": user, "item": item}, la.Dot(axes=1)(towers))


@wild
def wide_and_deep(k: Any) -> Any:
    inputs = k.Input((12,))
    deep = k.layers.Dense(8, activation="relu")(k.layers.Dense(16, "relu")(inputs))
    return k.Model(inputs, k.layers.Dense(1)(k.layers.Concatenate()([inputs, deep])))


@wild
def image_and_numbers(k: Any) -> Any:
    image, numbers = k.Input(IMAGE, name="image"), k.Input((4,), name="numbers")
    x = k.layers.GlobalMaxPooling2D()(conv(k, image, 8))
    x = k.layers.Concatenate()([x, k.layers.Dense(8)(numbers)])
    return k.Model([image, numbers], [k.layers.Dense(1)(x), k.layers.Dense(3)(x)])
