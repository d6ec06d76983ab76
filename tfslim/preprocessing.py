"""From an image with pixels in 0..255 to the array that a model takes.

A `Preprocessing` is plain data: it is written into the result and into the `.tflite`
so that an app can repeat it exactly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfslim import errors, registry

# Names in the field -> Pillow's filters. All but "nearest" widen when they shrink an
# image (antialiasing).
RESIZE_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
CHANNEL_ORDERS = ("rgb", "bgr")
DTYPES = ("float32", "uint8", "int8", "int16", "int32", "int64")

# ITU-R BT.601 luma, https://www.itu.int/rec/R-REC-BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Range = tuple[float, float]
_PIXELS = (0.0, 255.0)
# Of 256: fewer hold four bits of a value, whose SQNR is at most some 26 dB.
_FEW_LEVELS = 16
# As many, or all, are left by what is made for pixels.
_MANY_LEVELS = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an example becomes the input of one model: y = (x * scale - mean) / std.

    Steps, in this order: channels (grey to RGB by repetition, RGB to grey by ITU-R
    BT.601 luma), resize (stretches to the shape, in float, as Pillow's
    `Image.resize` with mode "F"), channel order, then the formula.

    Attributes:
        input_shape: (height, width, channels) of the model without the batch. Any
            other rank means that the data is not an image: only the formula applies,
            and a model of [height, width] takes grey images [height, width, 1].
        resize: a key of `RESIZE_METHODS`.
        scale: factor on x, whose pixels are in 0..255.
        mean: one value, or one per channel in the model's channel order.
        std: as `mean`; not zero.
        channel_order: "rgb" or "bgr", of the model's input.
        dtype: of the model's input; for integers the result is rounded.
    """

    input_shape: tuple[int, ...]
    resize: str = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: str = "rgb"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Checks the fields, so that a wrong one fails where it is written."""
        for field in ("input_shape", "mean", "std"):
            # JSON and configs have lists; the fields must be hashable and equal.
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.input_shape or not all(
            isinstance(size, int | np.integer) and size > 0 for size in self.input_shape
        ):
            raise errors.ConfigError(
                f"input_shape must be positive whole numbers, got {self.input_shape}. "
                "An example for images: (32, 32, 3), without the batch."
            )
        if self.resize not in RESIZE_METHODS:
            raise registry.unknown_name(
                "resize method", self.resize, known=RESIZE_METHODS
            )
        if self.channel_order not in CHANNEL_ORDERS:
            raise registry.unknown_name(
                "channel order", self.channel_order, known=CHANNEL_ORDERS
            )
        if self.channel_order == "bgr" and not (
            self.is_image and self.input_shape[-1] == 3
        ):
            raise errors.ConfigError(
                f"channel_order 'bgr' needs 3 channels, got {self.input_shape}."
            )
        for field in ("mean", "std"):
            values = getattr(self, field)
            if len(values) not in (1, self.input_shape[-1]):
                raise errors.ConfigError(
                    f"{field} has {len(values)} values; expected 1 or "
                    f"{self.input_shape[-1]}, one per channel of {self.input_shape}."
                )
        if 0.0 in self.std:
            raise errors.ConfigError(f"std must not be zero, got {self.std}.")
        if self.dtype not in DTYPES:
            raise registry.unknown_name("dtype of an input", self.dtype, known=DTYPES)

    @property
    def is_image(self) -> bool:
        """Tells whether the input is (height, width, channels)."""
        return len(self.input_shape) == 3

    def apply(self, examples: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Turns examples into a batch for the model.

        Args:
            examples: uint8 or float array [n, height, width, channels] with pixels in
                0..255, or a sequence of [height, width, channels] arrays of any
                sizes. For an `input_shape` that is no image: [n, *input_shape].

        Returns:
            array [n, *input_shape] of `dtype`.

        Raises:
            DataError: the examples cannot take the model's shape, or are beyond what
                `dtype` holds.
        """
        if self.is_image:
            examples = self._fit_images(examples)
        # Token numbers may be beyond what float32 tells apart.
        is_integer = np.dtype(self.dtype).kind != "f"
        batch: np.ndarray = np.asarray(
            examples, np.float64 if is_integer else np.float32
        )
        if batch.shape[1:] == (*self.input_shape, 1):
            batch = batch[..., 0]
        if batch.shape[1:] != self.input_shape:
            raise errors.DataError(
                f"The examples have shape {batch.shape[1:]}, the model takes "
                f"{self.input_shape}. Only images (height, width, channels) are "
                "resized; other examples come as they are fed, in an .npz with arrays "
                "x and y (--data=npz:FILE)."
            )
        if self.channel_order == "bgr":
            batch = batch[..., ::-1]
        mean = np.asarray(self.mean, np.float32)
        std = np.asarray(self.std, np.float32)
        result = (batch * np.float32(self.scale) - mean) / std
        return self._round(result) if is_integer else result

    def undo(self, batch: np.ndarray) -> np.ndarray:
        """Returns the pixels, or other examples, behind what `apply` gave.

        What `apply` resized, it keeps its size; channels are those of the model.

        Args:
            batch: array [n, *input_shape].

        Returns:
            float32 array [n, *input_shape].
        """
        mean, std = (np.asarray(v, np.float64) for v in (self.mean, self.std))
        examples = (np.asarray(batch, np.float64) * std + mean) / self.scale
        if self.channel_order == "bgr":
            examples = examples[..., ::-1]
        return examples.astype(np.float32)

    @property
    def plain(self) -> Preprocessing:
        """The same images as pixels in 0..255, RGB or grey, without the formula."""
        return Preprocessing(input_shape=self.input_shape, resize=self.resize)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """The least and the largest value that a pixel in 0..255 becomes."""
        mean, std = (np.asarray(v, np.float64) for v in (self.mean, self.std))
        ends = np.stack([(x * self.scale - mean) / std for x in _PIXELS])
        return float(ends.min()), float(ends.max())

    def _round(self, values: np.ndarray) -> np.ndarray:
        rounded, limits = np.rint(values), np.iinfo(self.dtype)
        low, high = rounded.min(initial=0), rounded.max(initial=0)
        if not limits.min <= low <= high <= limits.max:
            raise errors.DataError(
                f"The model takes {self.dtype}, the preprocessed examples lie in "
                f"[{low:.4g}, {high:.4g}]. Choose another preprocessing."
            )
        return rounded.astype(self.dtype)

    def _fit_images(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        height, width, channels = self.input_shape
        if isinstance(images, np.ndarray) and images.ndim == 4:
            images = _fit_channels(images, channels)
            if images.shape[1:3] == (height, width):
                return images
        batch = np.empty((len(images), *self.input_shape), np.float32)
        for index, image in enumerate(images):
            image = _fit_channels(np.asarray(image), channels)
            batch[index] = _resize(image, (height, width), method=self.resize)
        return batch

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dict that `json.dumps` writes."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Builds the `Preprocessing` that `to_json` wrote.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        if not isinstance(value, Mapping):
            raise errors.ConfigError(f"The preprocessing is {value!r}, no object.")
        known = {field.name for field in dataclasses.fields(cls)}
        for name in value:
            if name not in known:
                raise registry.unknown_name("preprocessing field", name, known=known)
        if "input_shape" not in value:
            raise errors.ConfigError("The preprocessing has no input_shape.")
        for name, item in value.items():
            items = item if isinstance(item, list | tuple) else (item,)
            wanted: Any = str if name in ("resize", "channel_order", "dtype") else float
            wanted = int if name == "input_shape" else wanted
            is_list = name in ("input_shape", "mean", "std")
            if is_list != (items is item) or not all(_is(x, wanted) for x in items):
                raise errors.ConfigError(
                    f"The preprocessing's {name} is {item!r}; expected "
                    f"{'a list of ' if is_list else ''}{wanted.__name__}."
                )
        return cls(**value)


def _is(value: Any, wanted: type) -> bool:
    """Whether a value of JSON is of a type, and finite."""
    if wanted is str or isinstance(value, bool):
        return type(value) is wanted
    if wanted is int:
        return isinstance(value, int | np.integer)
    is_number = isinstance(value, int | float | np.number)
    return is_number and abs(value) <= float(np.finfo(np.float32).max)


# Name -> the fields besides input_shape; as in keras.applications' `mode`.
PRESETS: dict[str, dict[str, Any]] = {
    "symmetric": {"scale": 1 / 127.5, "mean": (1.0,)},
    "unit": {"scale": 1 / 255},
    "torch": {
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "caffe": {"mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
    "raw": {},
}


def preset(
    name: str, input_shape: Sequence[int], *, resize: str = "bilinear"
) -> Preprocessing:
    """Returns the preprocessing called `name` for a model's input shape.

    Args:
        name: "symmetric" (x / 127.5 - 1), "unit" (x / 255), "torch" (x / 255, then
            ImageNet's mean and standard deviation), "caffe" (BGR minus ImageNet's
            mean) or "raw" (x as it is).
        input_shape: (height, width, channels) without the batch.
        resize: a key of `RESIZE_METHODS`.

    Raises:
        ConfigError: no such preset, or it does not fit the channels.
    """
    if name not in PRESETS:
        raise registry.unknown_name("preprocessing preset", name, known=PRESETS)
    return Preprocessing(input_shape=tuple(input_shape), resize=resize, **PRESETS[name])


def levels_used(span: float, held: Range) -> float:
    """Returns how many of INT8's 256 levels values have that lie within `span`.

    Args:
        span: the greatest less the least value, of one channel where these differ.
        held: the range of the tensor; INT8 holds zero, too.
    """
    width = max(held[1], 0.0) - min(held[0], 0.0)
    return 255 * span / width if width else math.inf


def has_few_levels(span: float, held: Range) -> bool:
    """Whether values that are no constant are left few of INT8's levels."""
    return 0 < span and levels_used(span, held) < _FEW_LEVELS


def narrow_text(layer: str, made: Range, *, given: Range, span: float) -> str:
    """Says why a model's inputs have few levels, and what mends it.

    Args:
        layer: what normalizes them in the model; "" where they are narrow as given.
        made: the range behind the layer.
        given: the range before it.
        span: of one channel behind it.
    """
    found = f"[{made[0]:.4g}, {made[1]:.4g}]"
    count = f"{levels_used(span, made):.0f} of INT8's 256 levels"
    if not layer:
        return (
            f"The inputs span {found}, {count}: center them before the model, or use "
            "dynamic_int8."
        )
    factor = span / (given[1] - given[0])
    low, high = (made[0] + factor * (x - given[0]) for x in _PIXELS)
    is_for_pixels = levels_used(high - low, (low, high)) >= _MANY_LEVELS
    wanted = "pixels, 0 to 255 (preprocessing raw)"
    return (
        f"Layer '{layer}' makes {found} of inputs in [{given[0]:.4g}, {given[1]:.4g}], "
        f"{count}: they are normalized twice. Feed it "
        f"{wanted if is_for_pixels else 'what the layer is made for'}, or leave the "
        "layer out."
    )


def _fit_channels(images: np.ndarray, channels: int) -> np.ndarray:
    if images.ndim == 2:
        images = images[..., None]
    if images.ndim not in (3, 4):
        raise errors.DataError(
            f"An image has shape {images.shape}; expected (height, width, channels)."
        )
    found = images.shape[-1]
    if found == channels:
        return images
    if found == 1:
        return np.repeat(images, channels, axis=-1)
    if (found, channels) == (3, 1):
        luma: np.ndarray = images.astype(np.float32) @ _LUMA[:, None]
        return luma
    raise errors.DataError(
        f"The images have {found} channels, the model takes {channels}. "
        "Only grey to any number and RGB to grey are converted."
    )


def _resize(image: np.ndarray, size: tuple[int, int], *, method: str) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    height, width = size
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], np.float32)).resize(
            (width, height), RESIZE_METHODS[method]
        )
        for channel in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)
