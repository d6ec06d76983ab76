"""What the small networks of `wild` are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Build = Callable[[Any], Any]
WILD: dict[str, Build] = {}
IMAGE, SERIES, WAVE = (32, 32, 3), (24, 6), (64, 4)


def wild(build: Build) -> Build:
    """Enters a network by its function's name."""
    WILD[build.__name__] = build
    return build


def conv(k: Any, x: Any, width: int, size: int = 3, **options: Any) -> Any:
    y = k.layers.Conv2D(width, size, padding="same", use_bias=False, **options)(x)
    return k.layers.ReLU()(k.layers.BatchNormalization()(y))


def classified(k: Any, inputs: Any, x: Any) -> Any:
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(5, activation="softmax")(x))


def block(k: Any, x: Any, heads: int = 2, width: int = 16) -> Any:
    y = k.layers.LayerNormalization()(x)
    y = k.layers.MultiHeadAttention(heads, width // heads)(y, y)
    x = k.layers.Add()([x, y])
    y = k.layers.Dense(32, activation="gelu")(k.layers.LayerNormalization()(x))
    return k.layers.Add()([x, k.layers.Dense(width)(y)])


def chain(k: Any, shape: tuple[int, ...], *layers: Any, dtype: str = "float32") -> Any:
    x = inputs = k.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return k.Model(inputs, x)
