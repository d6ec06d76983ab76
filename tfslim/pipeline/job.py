"""A model and its data, brought together from names or from the user's objects."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections
import numpy as np

from tfslim import data, models, preprocessing, tasks
from tfslim.pipeline import feed


@dataclasses.dataclass(kw_only=True)
class Job:
    """What all steps share; `preprocessing` is None where the user did it."""

    name: str
    model: Any
    task: tasks.Task
    feed: feed.Feed
    preprocessing: preprocessing.Preprocessing | None = None


def prepare(
    model: Any,
    config: ml_collections.ConfigDict,
    task: str | tasks.Task | None,
    user_data: tuple[Any, Any, Any],
) -> Job:
    """Gets the model and its data together, each from the user or from the config."""
    wanted = task or (None if config.task == "auto" else config.task)
    is_name = model is None or isinstance(model, str)
    if is_name and all(part is None for part in user_data):
        return _from_config(model or config.model.name, config, wanted)
    fed = feed.from_user(
        *user_data, num_samples=config.quantization.calibration_samples
    )
    if not is_name:
        resolved = tasks.resolve(wanted or "classification")
        return Job(name=model.name, model=model, task=resolved, feed=fed)
    name, options = model or config.model.name, config.model.options.to_dict()
    if config.model.input_shape:
        options["input_shape"] = config.model.input_shape
    resolved = tasks.resolve(wanted or models.model_spec(name, **options).task)
    built = models.build_model(name, **options)
    return Job(name=name, model=built, task=resolved, feed=fed)


def _from_config(
    name: str, config: ml_collections.ConfigDict, wanted: str | tasks.Task | None
) -> Job:
    models.model_spec(name)  # A wrong name must not wait for the data.
    dataset = data.load(
        config.data.spec, seed=config.seed, skip_corrupt=config.data.skip_corrupt
    )
    options = config.model.options.to_dict()
    shape = config.model.input_shape or _fitting_shape(
        models.model_spec(name, **options), dataset
    )
    options["input_shape"] = tuple(shape)
    if dataset.class_names and models.takes_option(name, "num_classes"):
        options.setdefault("num_classes", len(dataset.class_names))
    spec = models.model_spec(name, **options)
    task = tasks.resolve(wanted or spec.task)
    prepare = preprocessing.preset(spec.preprocessing, spec.input_shape)
    return Job(
        name=name,
        model=models.build_model(name, **options),
        task=task,
        preprocessing=prepare,
        feed=feed.from_dataset(dataset, prepare, task, config),
    )


def _fitting_shape(spec: models.ModelSpec, dataset: data.Dataset) -> tuple[int, ...]:
    """Chooses an input size by the data: 8x8 digits need no 224x224 network.

    The side of the images, at least 32 and at least what the architecture takes,
    rounded up to a multiple of 32; at most the model's default.
    """
    first = dataset.train.inputs([0])
    shape = np.asarray(first[0]).shape
    if spec.min_size is None:
        return shape
    if not isinstance(first, np.ndarray) or len(shape) != 3:
        return spec.input_shape  # Photos of any size.
    side = max(*shape[:2], spec.min_size, 32)
    return (
        *(min(default, -(-side // 32) * 32) for default in spec.input_shape[:2]),
        spec.input_shape[2],
    )
