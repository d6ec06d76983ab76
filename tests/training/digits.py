"""scikit-learn's digits and a small residual network for them, in either Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import datasets


def load() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    raw = datasets.load_digits()
    x, y = (raw.images[..., None] / 16).astype(np.float32), raw.target
    return {
        "train": (x[:1000], y[:1000]),
        "validation": (x[1000:1300], y[1000:1300]),
        "test": (x[1300:], y[1300:]),
    }


def network(k: Any, width: int = 32) -> Any:
    """8x8x1 -> 10 classes; `stem` and `b` are added up, `a` stands alone."""
    k.utils.set_random_seed(0)
    layers = k.layers

    def conv(x: Any, filters: int, name: str, strides: int = 1) -> Any:
        x = layers.Conv2D(
            filters, 3, strides, padding="same", use_bias=False, name=name
        )(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    image = layers.Input((8, 8, 1))
    x = layers.ReLU()(conv(image, width, "stem", strides=2))
    y = layers.ReLU()(conv(x, 2 * width, "a"))
    x = layers.ReLU()(layers.Add()([x, conv(y, width, "b")]))
    x = layers.GlobalAveragePooling2D()(x)
    return k.Model(image, layers.Dense(10, activation="softmax", name="head")(x))


def accuracy(model: Any, data: tuple[np.ndarray, np.ndarray]) -> float:
    return float((np.asarray(model(data[0])).argmax(1) == data[1]).mean())
