"""Which files the command `quantize` writes, checked before the work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tfslim import errors, files
from tfslim.quantization import Recipe


def output_path(
    recipe: Recipe,
    read: Mapping[str, str | None],
    *,
    out: str | None = None,
    sensitivity: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Returns where the quantized file goes.

    Args:
        recipe: of the file.
        read: option -> file that is read: "model", and others or None.
        out: the file to write, or a folder for it; None: beside the model.
        sensitivity: a picture to write.
        overwrite: whether files that are there may be replaced.

    Raises:
        ConfigError: one of the files to be written stands there already and may not
            be replaced, is one of those to be read, or cannot be written.
    """
    model = Path(read["model"] or "")
    default = model.with_name(f"{model.stem}_{recipe.name}.tflite")
    path = files.in_folder(out, default=default)
    if path.suffix != ".tflite":
        raise errors.ConfigError(
            f"--out must end with .tflite, or be a folder, got '{path}'."
        )
    if is_same(path, read["model"]):
        raise errors.ConfigError(f"--out is the model itself, '{path}'. Name another.")
    written = {"--out": path, "the report": path.with_suffix(".json")}
    if recipe.needs_ranges and not is_same(ranges_path(path), read.get("ranges")):
        written["the ranges"] = ranges_path(path)
    if sensitivity:
        written["--sensitivity"] = Path(sensitivity)
    for option, file in written.items():
        files.require_writable(file, option)
        for name, other in read.items():
            if is_same(file, other):
                raise errors.ConfigError(
                    f"{option} would replace --{name}, '{file}'. Choose another --out."
                )
        if file.exists() and not overwrite:
            raise errors.ConfigError(
                f"{file} exists. Pass --overwrite to replace it, or choose another "
                "--out."
            )
    return path


def ranges_path(out: Path) -> Path:
    """Returns where the ranges of `out` go."""
    return out.with_suffix(".ranges.json")


def is_same(path: Path, other: str | None) -> bool:
    """Whether both are one place."""
    return other is not None and path.resolve() == Path(other).resolve()
