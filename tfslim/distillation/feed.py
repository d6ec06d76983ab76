"""Training data with what the teacher says of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, tasks
from tfslim.distillation import losses
from tfslim.training import FitOptions
from tfslim.training import training as fitting


class Feed:
    """Puts what the teacher says behind the targets."""

    def __init__(
        self,
        ask: Callable[[Any], list[np.ndarray]],
        task: tasks.Task,
        objective: losses.Objective,
    ):
        """Takes the teacher, what the student is for, and the loss over both."""
        self._ask = ask
        self._task = task
        self._objective = objective

    def training(self, given: fitting.Training) -> fitting.Training:
        """Returns how to train, with packed targets."""
        validation = given.validation
        if validation is not None:
            validation = self._validation(validation, given.options)
        task = dataclasses.replace(
            self._task,
            loss=self._objective.loss,
            keras_metric=self._objective.keras_metric(),
            target=self._target,
        )
        return dataclasses.replace(
            given, train=self._train(given.train), validation=validation, task=task
        )

    def _target(self, inputs: Any, target: Any) -> Any:
        """Packs what is not packed yet."""
        if self._has_features:
            return self._pack(inputs, self._task.target(inputs, target))[1]
        return target

    @property
    def _has_features(self) -> bool:
        return bool(self._objective.feature_shapes)

    def _train(self, data: Any) -> Any:
        """Returns the data as `fit` takes it.

        Of arrays the outputs are computed once; features would take too much memory,
        so they are computed as the batches come.
        """
        if callable(data):
            return lambda epoch: data(epoch).map(self._pack)
        if isinstance(data, tuple) and self._has_features:
            return data
        return self._packed(data, "data", ", or a function epoch -> dataset")

    def _validation(self, data: Any, options: FitOptions) -> Any:
        if isinstance(data, tuple) and self._has_features:
            x, y, *weights = data
            parts = (x, self._task.target(x, y), *weights)
            data = tf.data.Dataset.from_tensor_slices(parts).batch(options.batch_size)
        return self._packed(data, "validation")

    def _packed(self, data: Any, name: str, more: str = "") -> Any:
        if isinstance(data, tf.data.Dataset):
            return data.map(self._pack)
        if isinstance(data, tuple):
            return self._arrays(data)
        raise errors.ConfigError(
            f"{name} is a {type(data).__name__}; expected arrays (x, y), a "
            f"tf.data.Dataset{more}."
        )

    def _arrays(self, data: tuple[Any, ...]) -> tuple[Any, ...]:
        rows = [
            losses.pack([target, *self._ask(inputs)]).numpy()
            for inputs, target, *_ in fitting.batches(data, self._task)
        ]
        return (data[0], np.concatenate(rows), *data[2:])

    def _pack(self, inputs: Any, target: Any, *weights: Any) -> tuple[Any, ...]:
        flat = tf.nest.flatten(inputs)

        def ask(*arrays: np.ndarray) -> list[np.ndarray]:
            shown = self._ask(tf.nest.pack_sequence_as(inputs, arrays))
            return [np.asarray(array, np.float32) for array in shown]

        shapes = (self._objective.output_shape, *self._objective.feature_shapes)
        shown = tf.numpy_function(ask, flat, [tf.float32] * len(shapes))
        for tensor, shape in zip(shown, shapes, strict=True):
            tensor.set_shape([None, *shape])
        packed = losses.pack([target, *shown])
        sizes = [math.prod(s) for s in (self._objective.target_shape, *shapes)]
        packed.set_shape([None, sum(sizes)])
        return (inputs, packed, *weights)
