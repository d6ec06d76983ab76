"""A model that was not built here: what it is for, and how it takes its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from tfslim import binary, data, errors, loading, preprocessing, tasks

# As many examples tell 90% from 80% accuracy with certainty.
_NUM_SAMPLES = 256
# Most likely first: of equals the first is taken.
_CANDIDATES = ("unit", "symmetric", "raw", "torch", "caffe")


def open_model(source: str, config: ml_collections.ConfigDict) -> Any:
    """Opens the config's model, see `tfslim.load_model`."""
    options = config.model.options.to_dict()
    if config.model.input_shape:
        options["input_shape"] = tuple(config.model.input_shape)
    return loading.load_model(source, allow_unsafe=config.model.allow_unsafe, **options)


def name_of(source: str) -> str:
    """Returns how reports call a model that was opened from `source`."""
    path = Path(source)
    return path.name if path.exists() else source


def task_of(model: Any, *, num_classes: int = 0) -> str:
    """Guesses a model's task by its shapes.

    As many outputs as inputs: reconstruction; one row of two or more, or a sigmoid:
    classification. One number may be a logit: if the data has two classes.
    """
    outputs = [tuple(tensor.shape[1:]) for tensor in model.outputs]
    if outputs[0] == tuple(model.inputs[0].shape[1:]):
        return "reconstruction"
    if len(outputs) != 1 or len(outputs[0]) != 1:
        return "regression"
    is_binary = num_classes == 2 or not binary.gives_logits(model)
    return "classification" if outputs[0][0] != 1 or is_binary else "regression"


def check_inputs(name: str, model: Any) -> tuple[int, ...]:
    """Returns the shape of the model's one input, without the batch.

    Raises:
        ConfigError: it has several, or an open shape.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(shapes) != 1:
        raise errors.ConfigError(
            f"'{name}' has {len(shapes)} inputs, the data has one. Give your own "
            "batches: tfslim.export_model(model, train_data=..., eval_data=...)."
        )
    if None in shapes[0]:
        raise errors.ConfigError(
            f"'{name}' leaves its input shape open, {shapes[0]}; a mobile file needs a "
            "fixed one: --config.model.input_shape=224,224,3."
        )
    return shapes[0]


def misfit(
    name: str, model: Any, *, task: tasks.Task, dataset: data.Dataset
) -> str | None:
    """Says in a line why the data's targets are not those of the model, if so."""
    classes = len(dataset.class_names)
    if task.name == "reconstruction":
        return None
    if not dataset.is_labelled:
        return (
            f"{dataset.name} has no labels: the {task.metric_name} of '{name}' is not "
            "measured, agreement is."
        )
    if not classes:
        return None
    outputs = model.outputs[0].shape[-1]
    wanted = 2 if task.is_binary else outputs
    if wanted == classes and task.name == "classification":
        return None
    return (
        f"'{name}' has {outputs} outputs, {dataset.name} has {classes} classes: its "
        f"{task.metric_name} is not measured, agreement is."
    )


def choose_preprocessing(
    source: str,
    model: Any,
    *,
    task: tasks.Task,
    dataset: data.Dataset,
    wanted: str,
    has_targets: bool,
) -> tuple[preprocessing.Preprocessing, str]:
    """Finds how pixels become the model's input, and says where that is known from.

    Args:
        source: what was opened.
        model: the opened model.
        task: measures how well the model does under each preset.
        dataset: of which training images are measured.
        wanted: name of a preset, or "auto".
        has_targets: whether the data's targets are those of the model.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if wanted != "auto":
        return preprocessing.preset(wanted, shape), "as asked for"
    found = loading.find_preprocessing(source, model)
    if found is not None:
        return found
    if not has_targets:
        raise errors.ConfigError(
            f"'{source}' does not say how it takes its pixels, and {dataset.name} "
            "cannot tell, as its classes are others. Say it, "
            f"--preprocessing={'|'.join(_CANDIDATES)}, or give data of its classes."
        )
    scores = _scores(model, task, dataset=dataset, shape=shape)
    sign = 1 if task.higher_is_better else -1
    best = max(scores, key=lambda name: sign * scores[name])
    listed = ", ".join(f"{name} {score:.3g}" for name, score in scores.items())
    return preprocessing.preset(best, shape), (
        f"guessed, the model does not say: {task.metric_name} on training images "
        f"{listed}; set it with --preprocessing"
    )


def _scores(
    model: Any, task: tasks.Task, *, dataset: data.Dataset, shape: tuple[int, ...]
) -> dict[str, float]:
    """Returns preset name -> the task's metric on some training images."""
    count = min(_NUM_SAMPLES, len(dataset.train))
    chosen = np.sort(np.random.default_rng(0).permutation(len(dataset.train))[:count])
    inputs = dataset.train.inputs(chosen)
    names = [n for n in _CANDIDATES if shape[-1] == 3 or n not in ("torch", "caffe")]
    scores = {}
    for name in names:
        x = preprocessing.preset(name, shape).apply(inputs)
        outputs = np.asarray(model.predict(x, batch_size=32, verbose=0))
        target = task.target(x, dataset.train.targets[chosen])
        if task.name == "reconstruction":
            # An error in the input's own unit would favour the smallest unit.
            target, outputs = target / np.std(x), outputs / np.std(x)
        scores[name] = float(task.metric(outputs, target))
    return scores
