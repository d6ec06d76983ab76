"""Examples by index: a few at a time, in memory or read when asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tfslim import errors

Indices = Sequence[int] | np.ndarray
Inputs = Sequence[np.ndarray] | np.ndarray

# Of files that are taken for images.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}

# DecompressionBombError: a small hostile file that would take all memory.
_DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Examples(Protocol):
    """One split of a dataset, with random access.

    Attributes:
        targets: array [n, ...]: class indices (int64), float values or boxes (see
            `tfslim.data.boxes`); always in memory. [n, 0] where there are none.
    """

    @property
    def targets(self) -> np.ndarray:
        """Targets of all examples, in order."""
        ...

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def inputs(self, indices: Indices) -> Inputs:
        """Returns the inputs at `indices`, before preprocessing.

        An array [k, ...] where all have one shape, or else a list of k arrays; where
        an example has several parts, name -> array [k, ...]. Images are
        [height, width, channels] with values in 0..255.
        """
        ...


class ArrayExamples:
    """Examples held in memory."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray):
        """Takes arrays [n, ...] of equal length; nothing is copied."""
        if len(inputs) != len(targets):
            raise errors.DataError(
                f"{len(inputs)} examples have {len(targets)} targets; the two numbers "
                "must be equal."
            )
        self._inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.targets)

    def inputs(self, indices: Indices) -> np.ndarray:
        """Returns the inputs at `indices`, an array [k, ...]."""
        return self._inputs[np.asarray(indices, np.int64)]


class NamedExamples:
    """Examples of several parts, for models with several inputs, held in memory."""

    def __init__(self, inputs: Mapping[str, np.ndarray], targets: np.ndarray):
        """Takes arrays [n, ...] of equal length by name; nothing is copied."""
        for name, array in inputs.items():
            if len(array) != len(targets):
                raise errors.DataError(
                    f"'{name}' has {len(array)} examples, and there are "
                    f"{len(targets)} of the others; the numbers must be equal."
                )
        self._inputs = dict(inputs)
        self.targets = targets

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.targets)

    def inputs(self, indices: Indices) -> Any:  # A dict, where others give arrays.
        """Returns the parts at `indices`, name -> array [k, ...]."""
        chosen = np.asarray(indices, np.int64)
        return {name: array[chosen] for name, array in self._inputs.items()}


class FileExamples:
    """Image files, each decoded when it is asked for."""

    def __init__(self, paths: Sequence[Path | str], targets: np.ndarray):
        """Takes the files and their targets, in the same order."""
        if len(paths) != len(targets):
            raise errors.DataError(
                f"{len(paths)} files have {len(targets)} targets; the two numbers must "
                "be equal."
            )
        self.paths = [Path(path) for path in paths]
        self.targets = targets

    def __len__(self) -> int:
        """Returns the number of files."""
        return len(self.paths)

    def inputs(self, indices: Indices) -> list[np.ndarray]:
        """Returns uint8 arrays [height, width, channels], grey or RGB.

        Raises:
            DataError: a file cannot be decoded; it is named.
        """
        return [decode_image(self.paths[index]) for index in indices]


class Subset:
    """Some of the examples of another collection, in a given order."""

    def __init__(self, examples: Examples, indices: np.ndarray):
        """Takes the positions in `examples` to show."""
        self._examples = examples
        self._indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        """Returns the number of chosen examples."""
        return len(self._indices)

    @property
    def targets(self) -> np.ndarray:
        """Targets of the chosen examples."""
        return self._examples.targets[self._indices]

    def inputs(self, indices: Indices) -> Inputs:
        """Returns the chosen inputs at `indices`."""
        return self._examples.inputs(self._indices[np.asarray(indices, np.int64)])


def no_targets(count: int) -> np.ndarray:
    """Returns the targets of examples that have none, float32 [count, 0]."""
    return np.zeros((count, 0), np.float32)


def decode_image(file: Path | str | object, name: str | None = None) -> np.ndarray:
    """Decodes one image: grey stays grey, everything else becomes RGB.

    Args:
        file: path or open binary file.
        name: what to call it in an error; by default the path.

    Returns:
        uint8 array [height, width, 1 or 3].

    Raises:
        DataError: it is not a whole image; the message names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Odd metadata is no reason to speak.
            with Image.open(file) as image:  # type: ignore[arg-type]
                pixels = np.asarray(_grey_or_rgb(image), np.uint8)
    except _DECODE_ERRORS as error:
        reason = " ".join(str(error).split())
        raise errors.DataError(
            f"The image {name or file} cannot be read ({reason}). Mend or remove it, "
            "or pass skip_corrupt=True to leave such images out."
        ) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def sound_images(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Decodes every image once.

    Returns:
        The paths of the images that can be read, and one line with the reason for
        each of the others.
    """

    def complaint(path: Path) -> str | None:
        try:
            decode_image(path)
        except errors.DataError as error:
            return f"{path}: {error.__cause__}"
        return None

    with futures.ThreadPoolExecutor() as pool:
        complaints = list(pool.map(complaint, paths))
    sound = [path for path, bad in zip(paths, complaints, strict=True) if bad is None]
    return sound, [bad for bad in complaints if bad is not None]


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow cuts 16-bit pixels at 255 instead of scaling them.
        scale = 257.0 if image.mode.startswith("I") else 1.0
        values = np.asarray(image, np.float64) / scale
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    return image.convert("RGB")
