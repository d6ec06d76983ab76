"""How the loops here train and judge a model, whichever Keras it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, registry, tasks
from tfslim.graph import keras as graph_keras
from tfslim.training import inputs, optimizers
from tfslim.training.loop import TrainingResult, fit
from tfslim.training.options import FitOptions, OptionsT, with_overrides

# Samples that a model sees at once where nothing is trained.
BATCH_SIZE = 256
# Of the learning rate, to average it.
_RATE_SAMPLES = 100


def evaluate(model: Any, data: Any, *, task: str | tasks.Task) -> float:
    """Returns the task's metric of a model on arrays (x, y) or batches (x, target)."""
    task = tasks.resolve(task, model)
    outputs, targets = [], []
    for batch in batches(data, task):
        if not isinstance(batch, tuple) or len(batch) < 2:
            raise errors.ConfigError(
                "To evaluate a model, data must give (inputs, targets) pairs."
            )
        found = model(batch[0], training=False)
        found = found if isinstance(found, list | tuple) else [found]
        outputs.append([np.asarray(output) for output in found])
        targets.append(np.asarray(batch[1]))
    if not outputs:
        raise errors.DataError("The data to evaluate on has no batches.")
    whole = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
    return float(task.metric(task.measured(whole), np.concatenate(targets)))


def batches(data: Any, task: str | tasks.Task | None = None) -> Iterator[Any]:
    """Yields the batches of what `tfslim.fit` takes, in order and once.

    Args:
        data: arrays (x, y) or (x, y, weight), x a tuple or dict for several inputs, y
            None for none; an array x alone; an iterable of batches; or a function
            epoch -> iterable, of which the first epoch is taken.
        task: gives the targets of arrays; None: they are y.
    """
    if _is_array(data):
        for start in range(0, len(data), BATCH_SIZE):
            yield data[start : start + BATCH_SIZE]
    elif _is_arrays(data):
        x, y, *weights = data
        target = None if task is None else tasks.resolve(task).target
        for start in range(0, len(_parts(x)[0]), BATCH_SIZE):
            span = slice(start, start + BATCH_SIZE)
            inputs = _sliced(x, span)
            if y is None:
                yield (inputs,)
                continue
            own = _sliced(y, span)
            shown = own if target is None else target(inputs, own)
            yield (inputs, shown, *(weight[span] for weight in weights))
    elif isinstance(data, Iterable):
        yield from data
    elif callable(data):
        yield from data(np.int64(0))
    else:
        raise errors.ConfigError(
            f"data is a {type(data).__name__}; expected arrays (x, y), a "
            "tf.data.Dataset or another iterable of batches, or a function "
            "epoch -> dataset."
        )


def inputs_of(batch: Any) -> Any:
    """Returns the inputs of a batch that may have targets: `(inputs, targets)`."""
    return batch[0] if isinstance(batch, tuple) else batch


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _is_arrays(data: Any) -> bool:
    """Tells (x, y) and (x, y, weight) from a tuple of batches.

    Batches with targets are tuples themselves; weights have one number per example,
    unlike a third batch of inputs.
    """
    if not isinstance(data, tuple) or all(isinstance(part, tuple) for part in data):
        return False
    return len(data) == 2 or (len(data) == 3 and np.ndim(data[2]) == 1)


def _parts(x: Any) -> list[Any]:
    # A list is one array yet to be made.
    return tf.nest.flatten(x) if isinstance(x, tuple | dict) else [x]


def _sliced(x: Any, span: slice) -> Any:
    if isinstance(x, tuple | dict):
        return tf.nest.map_structure(lambda part: part[span], x)
    return x[span]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained and judged, by a user or by the methods here.

    Attributes:
        train: what `tfslim.fit` takes: arrays (x, y), batches, or epoch -> batches.
        validation: arrays (x, y) or batches; chooses the best epoch and gives the
            metric; None: the training loss chooses, and there is no metric.
        task: what the model is for.
        options: how to train.
    """

    train: Any
    validation: Any = None
    task: str | tasks.Task = "classification"
    options: FitOptions = dataclasses.field(default_factory=FitOptions)

    @classmethod
    def of(
        cls,
        train: Any,
        validation: Any,
        task: str | tasks.Task,
        options: FitOptions | None,
    ) -> Training:
        """Returns `train` itself if it is a `Training`, or else one of these parts."""
        if isinstance(train, Training):
            return train
        return cls(
            train=train,
            validation=validation,
            task=task,
            options=options or FitOptions(),
        )

    def split(
        self, kind: type[OptionsT], how: OptionsT | None, given: Mapping[str, Any]
    ) -> tuple[OptionsT, Training]:
        """Returns a method's own options, and the training with the others changed.

        Args:
            kind: the dataclass of the method's options.
            how: the method's options; None takes the defaults.
            given: fields of `kind` or of `FitOptions`, to replace.

        Raises:
            ConfigError: neither has such a field, or its value is out of range.
        """
        own = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        known = own | {field.name for field in dataclasses.fields(FitOptions)}
        for name in given:
            if name not in known:
                raise registry.unknown_name("option", name, known=known)
        method = {name: value for name, value in given.items() if name in own}
        rest = {name: value for name, value in given.items() if name not in own}
        options = with_overrides(self.options, rest)
        training = dataclasses.replace(self, options=options)
        return with_overrides(how, method, kind=kind), training

    def __call__(self, model: Any) -> Any:
        """Trains a model in place and returns it."""
        self.run(model)
        return model

    def run(
        self, model: Any, callbacks: Sequence[Any] = (), **overrides: Any
    ) -> TrainingResult:
        """Trains a model in place; `overrides` are fields of `FitOptions`."""
        return fit(
            model,
            self.train,
            validation=self.validation,
            task=self.task,
            options=with_overrides(self.options, overrides),
            callbacks=callbacks,
        )

    def metric(self, model: Any) -> float | None:
        """Returns the task's metric on the validation data, None without."""
        if self.validation is None:
            return None
        return evaluate(model, self.validation, task=self.task)

    def num_steps(self) -> int:
        """Returns the steps of one epoch."""
        task = tasks.resolve(self.task)
        return inputs.training_epochs(self.train, task, options=self.options).steps

    def total_rate(self, epochs: int, peak: float) -> float:
        """Returns the sum of the learning rates of all steps of a training.

        Args:
            epochs: its length.
            peak: the largest learning rate; the schedule is that of the options.
        """
        steps = epochs * self.num_steps()
        rates = optimizers.schedule(self.options.schedule, peak, total_steps=steps)
        if not callable(rates):
            return steps * peak
        at = np.linspace(0, steps - 1, min(steps, _RATE_SAMPLES)).astype(int)
        return steps * float(np.mean([float(rates(step)) for step in at]))


def is_model(value: Any) -> bool:
    """Tells whether a value is a model of either Keras."""
    try:
        graph_keras.keras_of(value)
    except errors.GraphError:
        return False
    return hasattr(value, "get_weights")


def drop(metric: float, baseline: float, *, higher_is_better: bool) -> float:
    """Returns how much worse a metric is than the baseline; NaN counts as endless."""
    worse = baseline - metric if higher_is_better else metric - baseline
    return float("inf") if np.isnan(worse) else worse
