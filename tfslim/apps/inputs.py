"""Pictures and arrays as samples of a file's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfslim import errors, files, tflite
from tfslim.apps.about import About

_ARRAYS = (".npy", ".npz")


def read_picture(path: Path | str) -> np.ndarray:
    """Reads a picture the way a person sees it: turned as its camera noted.

    Returns:
        uint8 array [height, width, 3].

    Raises:
        DataError: it is no picture.
    """
    try:
        files.require_regular(path)
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.asarray(upright, np.uint8)
    except (OSError, ValueError, UnidentifiedImageError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise errors.DataError(f"'{path}' is no picture: {reason}.") from error


def samples_of(
    content: bytes, pictures: Sequence[np.ndarray], *, about: About
) -> dict[str, np.ndarray]:
    """Makes pictures the input of a file.

    Args:
        content: the file; it takes one image.
        pictures: uint8 arrays [height, width, 1 or 3] of any sizes.
        about: what the file says of itself.

    Returns:
        Input name -> array [samples, ...] of real numbers.

    Raises:
        ConfigError: the file does not say how pixels become its input.
        DataError: the pictures cannot take the input's shape.
    """
    model = tflite.read(content)
    if len(model.inputs) != 1:
        raise errors.ConfigError(
            f"The file has {len(model.inputs)} inputs ({', '.join(model.input_names)});"
            " a picture is one. Pass an .npz with an array for each."
        )
    if about.preprocessing is None:
        raise errors.ConfigError(
            "The file does not say how pixels become its input. Name it with "
            "--preprocessing, or pass preprocessed arrays in an .npy."
        )
    (name,) = model.input_names
    return {name: about.preprocessing.apply(list(pictures))}


def read_samples(
    content: bytes, paths: Sequence[Path | str], *, about: About
) -> dict[str, np.ndarray]:
    """Reads what a user names: pictures, or arrays that are preprocessed already.

    Args:
        content: the file.
        paths: pictures, a folder of them, or one .npy or .npz.
        about: what the file says of itself.

    Returns:
        Input name -> array [samples, ...].

    Raises:
        ConfigError: an array is for no input.
        DataError: something cannot be read.
    """
    found = [part for path in paths for part in _listed(Path(path))]
    if not any(path.suffix in _ARRAYS for path in found):
        return samples_of(content, [read_picture(path) for path in found], about=about)
    if len(found) > 1:
        raise errors.ConfigError("Pass pictures, or one .npy or .npz, not both.")
    try:
        stored = np.load(found[0], allow_pickle=False)
    except (OSError, ValueError) as error:
        raise errors.DataError(f"'{found[0]}' cannot be read: {error}.") from error
    names = list(tflite.read(content).input_names)
    if isinstance(stored, np.ndarray):
        return {names[0]: stored}
    with stored:
        return {name: stored[name] for name in stored.files}


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file())
    if not found:
        raise errors.DataError(f"The folder '{path}' is empty.")
    return found
