"""What the steps of an export need of data, whether ours or the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tfslim import data as data_lib
from tfslim import errors
from tfslim.preprocessing import Preprocessing
from tfslim.tasks import Task

Batch = tuple[Any, Any]


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
        facts: what `result.json` says of the data.
        skipped: what was left out, and why.
    """

    train: Any = None
    validation: Any = None
    test: Callable[[], Iterator[Batch]] | None = None
    has_targets: bool = True
    calibration: Iterable[Any] | None = None
    facts: dict[str, Any]
    skipped: tuple[str, ...] = ()


def from_dataset(
    dataset: data_lib.Dataset, preprocessing: Preprocessing, task: Task, config: Any
) -> Feed:
    """Feeds a model from one of our sources."""
    # Late: TensorFlow is needed only where something is trained.
    from tfslim.data import tf_data

    training = config.training
    # A wrong name fails now.
    tf_data.augmentations(training.augment, preprocessing, task)

    def batches(examples: data_lib.Examples, **options: Any) -> Any:
        return tf_data.to_tf_data(
            examples,
            preprocessing,
            task,
            batch_size=training.batch_size,
            seed=config.seed,
            **options,
        )

    return Feed(
        train=lambda epoch: batches(
            dataset.train, shuffle=True, augment=training.augment, epoch=epoch
        ),
        validation=batches(dataset.validation),
        test=lambda: data_lib.batches(dataset.test, preprocessing, 64),
        calibration=data_lib.calibration_samples(
            dataset.train,
            preprocessing,
            config.quantization.calibration_samples,
            config.seed,
        ),
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
    train_data: Any, validation_data: Any, eval_data: Any, *, num_samples: int
) -> Feed:
    """Feeds a model from the user's own batches, already preprocessed.

    Args:
        train_data: `tf.data.Dataset` of batches (x, y), or arrays (x, y).
        validation_data: the same; chooses the best epoch.
        eval_data: the same; the files are measured on it. None: on
            `validation_data`, else nothing is measured.
        num_samples: how many calibration samples are taken from the start of
            `train_data` (else of `eval_data`).
    """
    measured = eval_data if eval_data is not None else validation_data
    source = train_data if train_data is not None else measured
    return Feed(
        train=train_data,
        validation=validation_data,
        test=None if measured is None else lambda: _batches(measured),
        calibration=None if source is None else _Samples(source, num_samples),
        facts={"spec": "the caller's own", "class_names": [], "notes": []},
    )


def _batches(data: Any) -> Iterator[Batch]:
    """Yields numpy batches (x, y) from arrays or from a `tf.data.Dataset`."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise errors.ConfigError(
                f"Arrays are given as (x, y), got a tuple of {len(data)}."
            )
        x, y = data
        for start in range(0, len(y), 64):
            part = slice(start, start + 64)
            yield _slice(x, part), np.asarray(y[part])
        return
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise errors.ConfigError(
                "The dataset must give batches (x, y), got "
                f"{type(batch).__name__}. For reconstruction give (x, x)."
            )
        yield _map(np.asarray, batch[0]), np.asarray(batch[1])


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, dict):
        return {key: function(value) for key, value in x.items()}
    if isinstance(x, tuple | list):
        return [function(value) for value in x]
    return function(x)


def _slice(x: Any, part: slice) -> Any:
    return _map(lambda array: np.asarray(array[part]), x)


class _Samples:
    """The first examples of the user's batches, one by one, read anew each pass."""

    def __init__(self, data: Any, num_samples: int):
        self._data = data
        self._num_samples = num_samples

    def __iter__(self) -> Iterator[Any]:
        left = self._num_samples
        for x, y in _batches(self._data):
            for index in range(min(left, len(y))):
                yield _slice(x, slice(index, index + 1))
            left -= len(y)
            if left <= 0:
                return
