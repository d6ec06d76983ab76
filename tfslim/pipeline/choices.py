"""What a config asks for, looked up: a wrong name fails before anything runs.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from tfslim import config as config_lib
from tfslim import (
    data,
    errors,
    loading,
    models,
    preprocessing,
    quantization,
    registry,
    settings,
    tasks,
)
from tfslim.pipeline import folder
from tfslim.pipeline import timing as timing_lib

# What trains the zoo's models on digits, where the config does not say.
_EPOCHS = 8
_DATA = "digits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """What is made of the model's float file, and how it is timed.

    Attributes:
        recipes: of the variants, one each.
        are_named: whether they were asked for by name: then each of them must be made.
        quantization: how INT8 is made.
        ranges: of an earlier run, None to calibrate.
        max_drop: points that the accuracy of static INT8 may drop, None for any.
        timing: where and how the files are timed.
    """

    recipes: list[quantization.Recipe]
    are_named: bool
    quantization: quantization.Options
    ranges: Any
    max_drop: float | None
    timing: timing_lib.Timing


def as_config(
    config: ml_collections.ConfigDict | Mapping[str, Any] | None,
) -> ml_collections.ConfigDict:
    """Returns a whole config: of None the defaults, of a dict merged onto them."""
    if isinstance(config, ml_collections.ConfigDict):
        return config
    whole = config_lib.default_config()
    config_lib.merge(whole, config or {})
    return whole


def resolve(
    model: Any, config: ml_collections.ConfigDict, *, has_data: bool
) -> ml_collections.ConfigDict:
    """Returns the config with what depends on the model filled in.

    Args:
        model: as `export_model` takes it.
        config: with fields that may be unset.
        has_data: whether the caller gives data.

    Raises:
        ConfigError: there is no such model; or one that is opened is to be trained,
            calibrated or measured, and no data is named.
    """
    resolved = config.copy_and_resolve_references()
    name = str(model or config.model.name)
    is_name = isinstance(model, str | Path | None)
    is_zoo = is_name and loading.is_zoo(name)
    if is_name and not name.endswith(".tflite"):
        _check_model(name)
    if resolved.training.epochs is None:
        resolved.training.epochs = _EPOCHS if is_zoo else 0
    if resolved.data.spec is None and is_zoo and not has_data:
        resolved.data.spec = _DATA
    if is_name and resolved.data.spec is None and not has_data:
        _require_no_data(name, resolved)
    return resolved


def _require_no_data(name: str, config: ml_collections.ConfigDict) -> None:
    recipes = [
        quantization.get_recipe(one) for one in config.quantization.recipes or ()
    ]
    needs_none = recipes and not any(recipe.needs_ranges for recipe in recipes)
    is_trained = config.training.epochs or config.steps
    if not needs_none or is_trained or config.quantization.max_drop is not None:
        raise errors.ConfigError(
            f"There is no data for '{name}': INT8 ranges and accuracy need examples "
            "like those it was made for. Name them, --data=folder:photos for images, "
            "--data=npz:FILE with arrays x and y for all else, or export what needs "
            "none, --recipe=float32,float16,dynamic_int8."
        )


def check(
    model: Any,
    config: ml_collections.ConfigDict,
    *,
    out_dir: Path | str,
    overwrite: bool,
) -> None:
    """Raises ConfigError for what is wrong before any work, of a job without own data.

    Args:
        model: as `export_model` takes it, as for the others.
        config: with fields that may be unset.
        out_dir: where results are to be written.
        overwrite: whether it may hold others.
    """
    folder.claim(Path(out_dir), overwrite)
    resolved = resolve(model, config, has_data=False)
    check_names(resolved)
    look_up(resolved)


def check_names(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a name in a resolved config that means nothing."""
    config_lib.check(config)
    preset = config.model.preprocessing
    if preset not in ("auto", *preprocessing.PRESETS):
        raise registry.unknown_name(
            "preprocessing preset", preset, known=("auto", *preprocessing.PRESETS)
        )
    if config.task != "auto" and config.task not in tasks.TASKS:
        raise registry.unknown_name("task", config.task, known=tasks.TASKS.names())
    for text in config.steps:
        name = config_lib.today(str(text).partition(":")[0])
        if name not in settings.STEPS:
            raise registry.unknown_name("step", name, known=settings.STEPS)
    if config.data.spec is not None:
        data.check(config.data.spec)


def _check_model(name: str) -> None:
    if not loading.is_known(name):
        loading.load_model(name)  # It says what is near.
    if loading.is_zoo(name):
        models.model_spec(name)


def look_up(config: ml_collections.ConfigDict) -> Choices:
    """Returns what the config asks for.

    Raises:
        ConfigError: a name is unknown, or choices contradict each other.
    """
    fields = config.quantization
    shared = [field.name for field in dataclasses.fields(settings.Quantizing)]
    options = quantization.Options(**{n: fields.to_dict()[n] for n in shared})
    if fields.recipes is not None and not fields.recipes:
        raise errors.ConfigError(
            "config.quantization.recipes is empty. Name at least one of: "
            f"{', '.join(quantization.recipe_names())}."
        )
    # Of those that the target brings what cannot be made is left out.
    names = dict.fromkeys(fields.recipes or options.placed.recipes)
    recipes = [quantization.get_recipe(name) for name in names]
    for recipe in recipes:
        options.for_target(recipe.scheme, recipe.name)
    _check_recipes(recipes, fields.io or "float", max_drop=fields.max_drop)
    if fields.max_drop is not None and not options.placed.allows_float:
        raise errors.ConfigError(
            f"max_drop returns layers to float, and the target '{options.placed.name}' "
            "has none. Leave one of them out."
        )
    return Choices(
        recipes=recipes,
        are_named=fields.recipes is not None,
        quantization=options,
        ranges=quantization.read_ranges(fields.ranges) if fields.ranges else None,
        max_drop=fields.max_drop,
        timing=timing_lib.plan(config),
    )


def _check_recipes(
    recipes: list[quantization.Recipe], io: str, *, max_drop: float | None
) -> None:
    listed = ", ".join(recipe.name for recipe in recipes)
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise errors.ConfigError(
            f"Two of the recipes have one name: {listed}. It names a file: rename one."
        )
    has_static = any(recipe.scheme == "static_int8" for recipe in recipes)
    if io != "float" and not has_static:
        raise errors.ConfigError(
            f"config.quantization.io is '{io}', and none of the recipes has such "
            f"inputs and outputs: {listed}. Add 'int8'."
        )
    if max_drop is None:
        return
    if not has_static:
        raise errors.ConfigError(
            f"--max_drop is for layers in INT8, and none of the recipes has such: "
            f"{listed}. Add 'int8'."
        )
    if not math.isfinite(max_drop):
        raise errors.ConfigError(
            f"--max_drop must be a number of points, got {max_drop}."
        )
