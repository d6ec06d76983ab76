"""The inputs that every consumer gets, and the outputs it gives back.

A child process sees arrays in the file's own dtype, one run after another; everybody
else sees real numbers with the samples along the first axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors, tflite
from tfslim.preprocessing import Preprocessing
from tfslim.tflite import metadata

Samples = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Samples as a child process takes them.

    Attributes:
        arrays: for each input of the file, [runs, *shape] in its dtype.
        count: samples.
        filled: the same, with those that were repeated to fill the last run.
    """

    arrays: list[np.ndarray]
    count: int
    filled: int


def pack(model: tflite.TfliteModel, inputs: Samples) -> Packed:
    """Quantizes samples and parts them into runs of the file's batch.

    Args:
        model: the file.
        inputs: input name -> array [samples, ...] of real numbers.

    Raises:
        ConfigError: names or shapes are not those of the file.
    """
    names = model.input_names
    if set(inputs) != set(names) or not inputs:
        raise errors.ConfigError(
            f"The inputs passed are named {', '.join(inputs) or '(none)'}; the file's "
            f"are {', '.join(names)}."
        )
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise errors.ConfigError(
            f"The inputs hold {sorted(counts)} samples; expected one number above 0."
        )
    count, filled, arrays = counts.pop(), 0, []
    for name, index in names.items():
        tensor, array = model.tensors[index], np.asarray(inputs[name])
        if array.shape[1:] != tensor.shape[1:] or not tensor.shape:
            raise errors.ConfigError(
                f"Input '{name}' has samples of shape {list(array.shape[1:])}; the "
                f"file takes {list(tensor.shape[1:])}."
            )
        runs = -(-count // tensor.shape[0])
        filled = runs * tensor.shape[0]
        taken = np.arange(filled).clip(max=count - 1)
        values = to_stored(array[taken], tensor)
        arrays.append(values.reshape(runs, *tensor.shape))
    return Packed(arrays, count, filled)


def unpack(
    model: tflite.TfliteModel, outputs: Sequence[np.ndarray], *, packed: Packed
) -> dict[str, np.ndarray]:
    """Returns output name -> float32 array [samples, ...].

    Args:
        model: the file.
        outputs: for each of its outputs, [runs, *shape] as a child gave them.
        packed: what the child was given.
    """
    names = model.output_names
    if len(names) != len(outputs):
        raise errors.VerificationError(
            f"The program gave {len(outputs)} outputs; the file has {len(names)}."
        )
    found = {}
    for (name, index), array in zip(names.items(), outputs, strict=True):
        joined = array.reshape(-1, *array.shape[2:])
        kept = len(joined) * packed.count // packed.filled
        real = to_real(joined[:kept], model.tensors[index])
        found[name] = real.astype(np.float32, copy=False)
    return found


def to_stored(values: np.ndarray, tensor: tflite.Tensor) -> np.ndarray:
    """Quantizes real numbers as the tensor stores them: q = real / scale + zero."""
    dtype = np.dtype(tensor.dtype)
    if tensor.quantization is None or dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits, known = np.iinfo(dtype), tensor.quantization
    stored = np.round(values / known.scale[0]) + known.zero_point[0]
    return np.clip(stored, limits.min, limits.max).astype(dtype)


def to_real(values: np.ndarray, tensor: tflite.Tensor) -> np.ndarray:
    """Dequantizes what a tensor stores: real = scale * (q - zero)."""
    known = tensor.quantization
    if known is None or values.dtype.kind == "f":
        return values
    shifted = values.astype(np.int32) - known.zero_point[0]
    real: np.ndarray = (known.scale[0] * shifted).astype(np.float32)
    return real


def made_up(content: bytes, *, count: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random samples of a file's inputs: images where it says how they go in.

    Args:
        content: the file.
        count: samples.
        seed: of the random numbers.

    Returns:
        Input name -> array [count, ...]: smooth 8-bit pictures after the file's own
        preprocessing, else values in [-1, 1], or 0 and 1 for integers.
    """
    model = tflite.read(content)
    random = np.random.default_rng(seed)
    fields = (metadata.get_json(model) or {}).get("preprocessing")
    found: dict[str, np.ndarray] = {}
    for name, index in model.input_names.items():
        tensor = model.tensors[index]
        shape = (count, *tensor.shape[1:])
        if fields and len(model.inputs) == 1 and len(shape) == 4:
            prepare = Preprocessing.from_json(fields)
            found[name] = prepare.apply(pictures(random, shape))
        elif tensor.quantization is None and not tensor.dtype.startswith("float"):
            found[name] = random.integers(0, 2, shape)
        else:
            found[name] = random.uniform(-1, 1, shape).astype(np.float32)
    return found


def pictures(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uint8 images [n, height, width, channels] with large and small parts.

    White noise looks the same to a classifier, whatever the seed: these differ.
    """
    count, height, width, channels = shape
    whole: Any = np.zeros(shape, np.float32)
    for size in (2, 4, 8, 16):
        coarse = random.uniform(-1, 1, (count, size, size, channels))
        rows = np.arange(height) * size // height
        columns = np.arange(width) * size // width
        whole += coarse[:, rows][:, :, columns]
    return np.clip(127.5 + 80.0 * whole, 0, 255).astype(np.uint8)
