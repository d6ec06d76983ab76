"""What the steps of an export need of data, whether ours or the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfslim import convert, errors
from tfslim import data as data_lib
from tfslim.pipeline import structure
from tfslim.preprocessing import Preprocessing
from tfslim.tasks import Task

Batch = tuple[Any, Any]

# Examples that a model sees at once where nothing is trained.
_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """Batches for training and tests, samples for calibration.

    Attributes:
        train: what `fit` takes: epoch -> dataset, a dataset or arrays; None without
            training data.
        validation: a dataset or arrays.
        test: starts a pass over the test batches (x, y), numpy; x is one array, or
            one a model input. None: nothing to measure on.
        has_targets: whether the targets y of `test` are those of the model.
        calibration: model inputs [1, ...], one a sample, passed over several times.
        examples: of the training, before preprocessing; None of the user's own.
        facts: what `result.json` says of the data.
        skipped: what was left out, and why.
    """

    train: Any = None
    validation: Any = None
    test: Callable[[], Iterator[Batch]] | None = None
    has_targets: bool = True
    calibration: Iterable[Any] | None = None
    examples: data_lib.Examples | None = None
    facts: dict[str, Any]
    skipped: tuple[str, ...] = ()


def from_dataset(
    dataset: data_lib.Dataset, preprocessing: Preprocessing, *, task: Task, config: Any
) -> Feed:
    """Feeds a model from one of our sources."""
    # Late: TensorFlow is needed only where something is trained.
    from tfslim.data import tf_data

    training = config.training
    # A wrong name fails now.
    tf_data.augmentations(training.augment, preprocessing, task=task)

    def batches(examples: data_lib.Examples, **options: Any) -> Any:
        return tf_data.to_tf_data(
            examples,
            preprocessing,
            task=task,
            batch_size=training.batch_size,
            seed=config.seed,
            **options,
        )

    return Feed(
        train=lambda epoch: batches(
            dataset.train, shuffle=True, augment=training.augment, epoch=epoch
        ),
        validation=batches(dataset.validation),
        test=lambda: data_lib.batches(dataset.test, preprocessing, batch_size=_BATCH),
        calibration=data_lib.calibration_samples(
            dataset.train,
            preprocessing,
            num_samples=config.quantization.calibration_samples,
            seed=config.seed,
        ),
        has_targets=dataset.is_labelled or task.name == "reconstruction",
        examples=dataset.train if dataset.is_labelled else None,
        facts={
            "spec": dataset.name,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
            "class_names": list(dataset.class_names),
            "notes": list(dataset.notes),
        },
        skipped=dataset.skipped,
    )


def from_user(
    train_data: Any,
    validation_data: Any,
    eval_data: Any,
    *,
    model: Any,
    num_samples: int,
) -> Feed:
    """Feeds a model from the user's own batches, already preprocessed.

    Args:
        train_data: `tf.data.Dataset` of batches (x, y), or arrays (x, y); several
            inputs or targets are a tuple or dict. What is not trained on needs no y.
        validation_data: the same; chooses the best epoch.
        eval_data: the same; the files are measured on it. None: on
            `validation_data`, else nothing is measured.
        model: gives the order of several inputs.
        num_samples: how many calibration samples are taken from the start of
            `train_data` (else of `eval_data`).

    Raises:
        ConfigError: a first batch has other inputs than the model.
    """
    for data in (train_data, validation_data, eval_data):
        if isinstance(data, list):
            raise errors.ConfigError(
                f"The data is a list of {len(data)}; arrays are given as a tuple, "
                "(x, y)."
            )
    measured = eval_data if eval_data is not None else validation_data
    source = train_data if train_data is not None else measured
    names = structure.input_names(model)
    is_measured = measured is not None
    for data in (source, measured):
        if data is not None:
            first = next(_batches(data, names), None)
            if first is None:
                raise errors.ConfigError("The data has no batches.")
            _check_shapes(first[0], model)
            is_measured = first[1] is not None
    facts: dict[str, Any] = {
        "spec": "none" if source is None else "the caller's own",
        "class_names": [],
        "notes": [],
    }
    for name, data in (("train", train_data), ("validation", validation_data)):
        if isinstance(data, tuple):
            facts[name] = len(structure.first_of(data[0]))
    return Feed(
        train=train_data,
        validation=validation_data,
        test=None if measured is None else lambda: _batches(measured, names),
        has_targets=is_measured,
        calibration=None
        if source is None
        else _Samples(source, names, num_samples=num_samples),
        facts=facts,
    )


def through(tables: convert.TableSplit | None, data: Any) -> Any:
    """Returns the user's batches as they are behind the tables of words, if any."""
    if tables is None or data is None:
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return tables.apply(data[0]), data[1]
    if isinstance(data, np.ndarray):
        return tables.apply(data)
    if not hasattr(data, "map"):
        raise errors.ConfigError(
            "A model with tables of words takes its data as arrays (x, y) or as a "
            f"tf.data.Dataset, got a {type(data).__name__}."
        )

    def looked_up(x: Any, *rest: Any) -> Any:
        return (tables.traced(x), *rest) if rest else tables.traced(x)

    return data.map(looked_up)


def _check_shapes(x: Any, model: Any) -> None:
    """Raises ConfigError for a batch of other shapes than the model's inputs."""
    for array, tensor in zip(
        x if isinstance(x, list) else [x], model.inputs, strict=True
    ):
        shape, wanted = np.shape(array)[1:], tuple(tensor.shape[1:])
        pairs = zip(wanted, shape, strict=False)
        if len(shape) != len(wanted) or any(w not in (None, s) for w, s in pairs):
            raise errors.ConfigError(
                f"The data's examples have the shape {shape}, the model's input "
                f"'{tensor.name}' {wanted}."
            )


def _batches(data: Any, names: Sequence[str]) -> Iterator[Batch]:
    """Yields numpy batches (x, y) from arrays or from a `tf.data.Dataset`.

    Several inputs come as a list in the order of `names`; y is None where there is
    none.
    """
    for x, y in _pairs(data):
        yield structure.in_order(x, names, what="inputs"), y


def _pairs(data: Any) -> Iterator[Batch]:
    if isinstance(data, tuple) and len(data) != 2:
        raise errors.ConfigError(
            f"Arrays are given as (x, y), got a tuple of {len(data)}."
        )
    if isinstance(data, tuple | np.ndarray):
        x, y = data if isinstance(data, tuple) else (data, None)
        sizes = [len(structure.first_of(part)) for part in (x, y) if part is not None]
        if len(set(sizes)) > 1:
            raise errors.ConfigError(
                f"The data has {sizes[0]} examples and {sizes[1]} targets."
            )
        for start in range(0, len(structure.first_of(x)), _BATCH):
            part = slice(start, start + _BATCH)
            yield _slice(x, part), None if y is None else _slice(y, part)
        return
    for batch in data:
        if isinstance(batch, tuple | list) and len(batch) > 1:
            yield batch[0], structure.map_arrays(np.asarray, batch[1])
        else:
            yield batch[0] if isinstance(batch, tuple | list) else batch, None


def _slice(values: Any, part: slice) -> Any:
    return structure.map_arrays(lambda array: np.asarray(array[part]), values)


class _Samples:
    """The first examples of the user's batches, one by one, read anew each pass."""

    def __init__(self, data: Any, names: Sequence[str], *, num_samples: int):
        self._data = data
        self._names = names
        self._num_samples = num_samples

    def __iter__(self) -> Iterator[Any]:
        left = self._num_samples
        for x, _ in _batches(self._data, self._names):
            number = len(structure.first_of(x))
            for index in range(min(left, number)):
                yield _slice(x, slice(index, index + 1))
            left -= number
            if left <= 0:
                return
