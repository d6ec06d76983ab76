"""Which files the command writes, checked before the work."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from tfslim import errors, files
from tfslim.quantization import Recipe


def claim(values: flags.FlagValues, recipe: Recipe) -> Path:
    """Returns where the quantized file goes.

    Raises:
        ConfigError: one of the files to be written stands there already and may not
            be replaced, is one of those to be read, or cannot be written.
    """
    model = Path(values.model)
    out = Path(values.out or model.with_name(f"{model.stem}_{recipe.name}.tflite"))
    if out.suffix != ".tflite":
        raise errors.ConfigError(f"--out must end with .tflite, got '{out}'.")
    if is_same(out, values.model):
        raise errors.ConfigError(f"--out is the model itself, '{out}'. Name another.")
    written = {"--out": out, "the report": out.with_suffix(".json")}
    if recipe.needs_ranges and not is_same(ranges_path(out), values.ranges):
        written["the ranges"] = ranges_path(out)
    if values.sensitivity:
        written["--sensitivity"] = Path(values.sensitivity)
    for option, path in written.items():
        files.require_writable(path, option)
        _require_free(option, path, values)
    return out


def ranges_path(out: Path) -> Path:
    """Returns where the ranges of `out` go."""
    return out.with_suffix(".ranges.json")


def is_same(path: Path, other: str | None) -> bool:
    """Whether both are one place."""
    return other is not None and path.resolve() == Path(other).resolve()


def _require_free(option: str, path: Path, values: flags.FlagValues) -> None:
    for name in ("model", "recipe", "ranges"):
        if is_same(path, values[name].value):
            raise errors.ConfigError(
                f"{option} would replace --{name}, '{path}'. Choose another --out."
            )
    if path.exists() and not values.overwrite:
        raise errors.ConfigError(
            f"{path} exists. Pass --overwrite to replace it, or choose another --out."
        )
