"""A model and its data, brought together from names or from the user's objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from tfslim import (
    convert,
    data,
    errors,
    loading,
    models,
    preprocessing,
    tasks,
    training,
)
from tfslim.pipeline import feed, opened
from tfslim.training import seeds
from tfslim.training.job import ResumableJob


@dataclasses.dataclass(kw_only=True)
class Job:
    """What all steps share.

    Attributes:
        preprocessing: None where the user did it, and the config does not say how.
        original: the model before the steps that make it smaller.
        quantization_aware: a model with fake quantization, if a step trained one.
        tables: what was split off the head of the model, None if nothing was.
        backup: where finished trainings are kept.
    """

    name: str
    model: Any
    task: tasks.Task
    feed: feed.Feed
    preprocessing: preprocessing.Preprocessing | None = None
    original: Any = None
    quantization_aware: Any = None
    tables: convert.TableSplit | None = None
    backup: ResumableJob = dataclasses.field(
        default_factory=lambda: ResumableJob(training.FitOptions())
    )


def prepare(
    model: Any,
    config: ml_collections.ConfigDict,
    task: str | tasks.Task | None,
    user_data: tuple[Any, Any, Any],
) -> Job:
    """Gets the model and its data together, each from the user or from the config."""
    # A job that goes on after a kill must begin with the same random weights.
    seeds.set_all(config.seed)
    wanted = task or (None if config.task == "auto" else config.task)
    is_name = isinstance(model, str | Path | None)
    name = str(model or config.model.name) if is_name else model.name
    has_data = any(part is not None for part in user_data)
    if is_name and not has_data and config.data.spec is not None:
        build = _from_zoo if loading.is_zoo(name) else _from_source
        return build(name, config, wanted)
    guess = "classification"
    if is_name and loading.is_zoo(name):
        options = config.model.options.to_dict()
        if config.model.input_shape:
            options["input_shape"] = config.model.input_shape
        guess = models.model_spec(name, **options).task
        model = models.build_model(name, **options)
    elif is_name:
        model = opened.open_model(name, config)
        name, guess = opened.name_of(name), opened.task_of(model)
    model, tables = convert.split_tables(model)
    resolved = tasks.resolve(wanted or guess, model)
    fed = feed.from_user(
        *(feed.through(tables, data) for data in user_data),
        model=model,
        num_samples=config.quantization.calibration_samples,
    )
    return Job(
        name=name,
        model=model,
        task=resolved,
        feed=fed,
        tables=tables,
        preprocessing=_named_preprocessing(model, config),
    )


def _named_preprocessing(
    model: Any, config: ml_collections.ConfigDict
) -> preprocessing.Preprocessing | None:
    """Returns how the user made inputs of images, where the config says it."""
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    is_image = len(shapes) == 1 and len(shapes[0]) == 3 and None not in shapes[0]
    if config.model.preprocessing == "auto" or not is_image:
        return None
    return preprocessing.preset(config.model.preprocessing, shapes[0])


def _from_source(
    source: str, config: ml_collections.ConfigDict, wanted: str | tasks.Task | None
) -> Job:
    """Opens a model; its weights stay unless epochs are asked for."""
    model, name = opened.open_model(source, config), opened.name_of(source)
    opened.check_inputs(name, model)
    if convert.split_tables(model)[1] is not None:
        raise errors.ConfigError(
            f"'{name}' takes words, which --data has none of. Give your own: "
            "tfslim.export_model(model, train_data=(texts, y), eval_data=...), or "
            "leave --data out."
        )
    dataset = _load_data(config)
    guess = opened.task_of(model, num_classes=len(dataset.class_names))
    task = tasks.resolve(wanted or guess, model)
    misfit = opened.misfit(name, model, task=task, dataset=dataset)
    if misfit is not None and config.training.epochs:
        raise errors.ConfigError(f"{misfit} It cannot be trained on it: --epochs=0.")
    prepare, why = opened.choose_preprocessing(
        source,
        model,
        task=task,
        dataset=dataset,
        wanted=config.model.preprocessing,
        has_targets=misfit is None,
    )
    fed = feed.from_dataset(dataset, prepare, task=task, config=config)
    fed.facts["notes"] += [f"Preprocessing of {name}: {why}.", *filter(None, [misfit])]
    return Job(
        name=name,
        model=model,
        task=task,
        preprocessing=prepare,
        feed=dataclasses.replace(fed, has_targets=misfit is None),
    )


def _load_data(config: ml_collections.ConfigDict) -> data.Dataset:
    dataset = data.load(
        config.data.spec, seed=config.seed, skip_corrupt=config.data.skip_corrupt
    )
    if isinstance(dataset.train.inputs([0]), dict):
        raise errors.ConfigError(
            f"{dataset.name} has examples of several inputs, which export takes from "
            "Python: tfslim.export_model(model, train_data=({...}, y), eval_data=...)."
        )
    return dataset


def _from_zoo(
    name: str, config: ml_collections.ConfigDict, wanted: str | tasks.Task | None
) -> Job:
    models.model_spec(name)  # A wrong name must not wait for the data.
    dataset = _load_data(config)
    options = config.model.options.to_dict()
    shape = config.model.input_shape or _fitting_shape(
        models.model_spec(name, **options), dataset
    )
    options["input_shape"] = tuple(shape)
    if dataset.class_names and models.takes_option(name, "num_classes"):
        options.setdefault("num_classes", len(dataset.class_names))
    spec = models.model_spec(name, **options)
    model = models.build_model(name, **options)
    task = tasks.resolve(wanted or spec.task, model)
    is_trained = config.training.epochs or config.steps
    if is_trained and not dataset.is_labelled and task.name != "reconstruction":
        raise errors.ConfigError(
            f"{dataset.name} has no labels: '{name}' cannot be trained on it. Give "
            "data with labels, or --epochs=0."
        )
    preset = config.model.preprocessing
    prepare = preprocessing.preset(
        spec.preprocessing if preset == "auto" else preset, spec.input_shape
    )
    return Job(
        name=name,
        model=model,
        task=task,
        preprocessing=prepare,
        feed=feed.from_dataset(dataset, prepare, task=task, config=config),
    )


def _fitting_shape(spec: models.ModelSpec, dataset: data.Dataset) -> tuple[int, ...]:
    """Chooses an input size by the data: 8x8 digits need no 224x224 network.

    The side of the images, at least 32 and at least what the architecture takes,
    rounded up to a multiple of 32; at most the model's default.
    """
    first: Any = dataset.train.inputs([0])
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
