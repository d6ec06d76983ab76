"""Runs the Keras model and every file on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tfslim import verify
from tfslim.pipeline.job import Job

Predict = Callable[[Any], list[np.ndarray]]
EvalFn = Callable[[Predict], float]


def measure(job: Job, eval_fn: EvalFn | None) -> float | None:
    """Returns the task's metric of `job.model` on the test split, None without data."""
    predict = _keras_predict(job.model)
    if eval_fn is not None:
        return float(eval_fn(predict))
    if job.feed.test is None:
        return None
    parts, targets = [], []
    for x, y in job.feed.test():
        parts.append(predict(x))
        targets.append(job.task.target(x, y))
    outputs = [np.concatenate(output) for output in zip(*parts, strict=True)]
    return float(job.task.metric(job.task.measured(outputs), np.concatenate(targets)))


class Checker:
    """Holds the outputs of the Keras model and of the float file to compare with."""

    def __init__(
        self, job: Job, eval_fn: EvalFn | None, config: ml_collections.ConfigDict
    ):
        """Runs the Keras model over the test batches, or over random inputs."""
        self._job = job
        self._eval_fn = eval_fn
        self._batches = job.feed.test or _random_batches(
            job.model, config.verify.num_samples
        )
        predict = _keras_predict(job.model)
        self._keras_outputs = self._run(predict)
        self._float_outputs: list[np.ndarray] = []
        self.keras_metric = self._metric(self._keras_outputs, predict)

    def _run(self, predict: Predict) -> list[np.ndarray]:
        parts = [predict(x) for x, _ in self._batches()]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _metric(self, outputs: list[np.ndarray], predict: Predict) -> float | None:
        if self._eval_fn is not None:
            return float(self._eval_fn(predict))
        if self._job.feed.test is None or not self._job.feed.has_targets:
            return None
        target = [self._job.task.target(x, y) for x, y in self._batches()]
        task = self._job.task
        return float(task.metric(task.measured(outputs), np.concatenate(target)))

    def check_float(self, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of the float file, or raises if they differ."""
        row, outputs = self._compare(content, self._keras_outputs)
        parity = verify.Parity(**row["parity"])
        noise = 0.0
        if parity.relative_error > verify.MAX_RELATIVE_ERROR:
            noise = self._noise()
        verify.require_parity(parity, name="float32", noise=noise)
        self._float_outputs = outputs
        return {"against": "Keras", **row}

    def check(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of a quantized file, or raises if it is useless.

        Raises:
            VerificationError: its output has collapsed; says the likely cause.
        """
        row, outputs = self._compare(content, self._float_outputs)
        verify.require_healthy(
            self._float_outputs,
            outputs,
            name=name,
            classes=self._job.task.name == "classification",
        )
        return {"against": "float32", **row}

    def _noise(self) -> float:
        """Returns how far the Keras model is from itself on the first batch."""
        x, _ = next(iter(self._batches()))
        return verify.noise_floor(_keras_predict(self._job.model), x)

    def _compare(
        self, content: bytes, reference: list[np.ndarray]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        predict = verify.Predictor(content)
        outputs = self._run(predict)
        parity = verify.compare(reference, outputs, self._job.task)
        row = {
            "metric": self._metric(outputs, predict),
            "parity": dataclasses.asdict(parity),
        }
        return row, outputs


def _keras_predict(model: Any) -> Predict:
    """Calls a Keras model as `verify.Predictor` calls a file."""
    names = [tensor.name.split(":")[0] for tensor in model.inputs]
    specs = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in model.inputs]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*tensors: Any) -> Any:
        arguments = tensors[0] if len(tensors) == 1 else list(tensors)
        return tf.nest.flatten(model(arguments, training=False))

    def predict(x: Any) -> list[np.ndarray]:
        if isinstance(x, dict):
            x = [x[name] for name in names]
        tensors = x if isinstance(x, list | tuple) else [x]
        return [output.numpy() for output in traced(*tensors)]

    return predict


def _random_batches(model: Any, num_samples: int) -> Callable[[], Any]:
    """Without data, parity is still checked: on uniform values in [-1, 1]."""

    def batches() -> Any:
        random = np.random.default_rng(0)
        for _ in range(num_samples):
            x = [
                random.uniform(-1, 1, (1, *tensor.shape[1:])).astype(np.float32)
                for tensor in model.inputs
            ]
            yield (x[0] if len(x) == 1 else x), None

    return batches
