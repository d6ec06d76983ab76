"""Runs the Keras model and every file on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tfslim import convert, errors, evaluation
from tfslim.evaluation import Predict
from tfslim.graph import keras as graph_keras
from tfslim.graph import keras_run
from tfslim.pipeline import structure
from tfslim.pipeline.job import Job

# Pictures of a detector that are kept for the report.
_SHOWN = 6
EvalFn = Callable[[Predict], float]


def measure(job: Job, eval_fn: EvalFn | None) -> float | None:
    """Returns the task's metric of `job.model` on the test split, None without data."""
    return _measure(job, _keras_predict(job.model), eval_fn=eval_fn)


def measure_file(job: Job, content: bytes, *, eval_fn: EvalFn | None) -> dict[str, Any]:
    """Returns the same of a file made of `job.model`, and which answers are right."""
    predict = evaluation.Predictor(content)
    if eval_fn is not None or not _has_targets(job):
        return {"metric": _measure(job, predict, eval_fn=eval_fn), "right": None}
    done = evaluation.Evaluator(predict, _batches(job), task=job.task)
    return {
        "metric": done.metric(done.outputs),
        "right": _right(job, done.outputs, targets=done.targets),
    }


def _measure(job: Job, predict: Predict, *, eval_fn: EvalFn | None) -> float | None:
    if eval_fn is not None:
        return float(eval_fn(predict))
    if not _has_targets(job):
        return None
    evaluator = evaluation.Evaluator(predict, _batches(job), task=job.task)
    return evaluator.metric(evaluator.outputs)


def rehearse(job: Job) -> None:
    """Measures one batch, for what the metric does not take to be told early.

    Raises:
        ConfigError: the data's targets are not those of the model.
    """
    if _has_targets(job):
        x, targets = next(_batches(job)())
        evaluation.metric_of(job.task, _keras_predict(job.model)(x), targets=targets)


def _has_targets(job: Job) -> bool:
    return job.feed.test is not None and job.feed.has_targets


def _batches(job: Job) -> Callable[[], Iterator[tuple[Any, Any]]]:
    """Returns what starts a pass over the test batches, with the task's targets."""
    names, test = structure.output_names(job.model), job.feed.test
    assert test is not None  # noqa: S101 - asked for first.

    def batches() -> Iterator[tuple[Any, Any]]:
        for x, y in test():
            targets = None
            if job.feed.has_targets:
                targets = structure.in_order(
                    job.task.target(x, y), names, what="targets"
                )
            yield x, targets

    return batches


def _right(
    job: Job, outputs: Sequence[np.ndarray], *, targets: Any
) -> np.ndarray | None:
    if not job.task.higher_is_better or job.task.all_outputs:
        return None
    return evaluation.examples_right(job.task.metric, outputs[0], targets=targets)


class Checker:
    """Holds every file against the Keras model that it was made from.

    Attributes:
        keras: what the Keras model answers on the test batches, and the targets.
        keras_metric: of the Keras model, None without targets.
        keras_right: which of its answers are right, None where the metric is no share.
        answers: of a classifier, file -> its outputs [examples, classes].
        found: of a detector, file -> its outputs for the first examples.
    """

    def __init__(
        self, job: Job, eval_fn: EvalFn | None, *, config: ml_collections.ConfigDict
    ):
        """Runs the Keras model over the test batches, or over random inputs.

        Raises:
            VerificationError: it gives NaN or infinity.
        """
        self._job = job
        self._eval_fn = eval_fn
        self._batches = (
            _batches(job)
            if job.feed.test is not None
            else _random_batches(job.model, config.verify.num_samples)
        )
        self._predict = _keras_predict(job.model)
        self._inputs = [tuple(tensor.shape) for tensor in job.model.inputs]
        scored = 0 if _has_targets(job) else None
        self.keras = evaluation.Evaluator(
            self._predict, self._batches, task=job.task, scored=scored
        )
        _require_finite(job.model, self.keras.outputs)
        self._float_outputs: Sequence[np.ndarray] = []
        self.keras_metric = self._metric(self.keras.outputs, self._predict)
        self.keras_right = self._right(self.keras.outputs)
        self.answers: dict[str, np.ndarray] = {}
        self.found: dict[str, list[np.ndarray]] = {}

    def outputs_of(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Returns the Keras model's outputs for other inputs."""
        parts = [self._predict(x) for x in inputs]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _metric(self, outputs: Sequence[np.ndarray], predict: Predict) -> float | None:
        if self._eval_fn is not None:
            return float(self._eval_fn(predict))
        return self.keras.metric(outputs)

    def _right(self, outputs: Sequence[np.ndarray]) -> np.ndarray | None:
        if self._eval_fn is not None or self.keras.targets is None:
            return None
        return _right(self._job, outputs, targets=self.keras.targets)

    def _keep(self, name: str, outputs: list[np.ndarray]) -> None:
        is_row = outputs[0].ndim == 2 and outputs[0].shape[1] > 1
        if self._job.task.name == "classification" and is_row:
            self.answers[name] = outputs[0]
        elif self._job.task.has_boxes and [o.ndim for o in outputs] == [3, 3]:
            self.found[name] = [output[:_SHOWN] for output in outputs]

    def check_float(self, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of the float file, or raises if they differ."""
        row, outputs = self._compare(content, self.keras.outputs)
        parity = evaluation.Parity(**row["parity"])
        noise = 0.0
        if parity.relative_error > evaluation.MAX_RELATIVE_ERROR:
            noise = self._noise()
        evaluation.require_parity(parity, name="float32", noise=noise)
        self._float_outputs = outputs
        self._keep("float32", outputs)
        return {"against": "Keras", "right": self._right(outputs), **row}

    def check(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of a quantized file, or raises if it is useless.

        Raises:
            VerificationError: its output has collapsed; says the likely cause.
        """
        row, outputs = self._compare(content, self._float_outputs)
        evaluation.require_healthy(
            self._float_outputs,
            outputs,
            name=name,
            classes=self._job.task.name == "classification",
            inputs=self._inputs,
        )
        self._keep(name, outputs)
        return {"against": "float32", "right": self._right(outputs), **row}

    def _noise(self) -> float:
        """Returns how far the Keras model is from itself on the first batch."""
        x, _ = next(iter(self._batches()))
        return evaluation.noise_floor(self._predict, x)

    def figures(self, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of a quantized file, collapsed or not."""
        row, _ = self._compare(content, self._float_outputs)
        return row

    def _compare(
        self, content: bytes, reference: Sequence[np.ndarray]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        predict = evaluation.Predictor(content)
        outputs = self.keras.run(predict)
        parity = evaluation.compare(
            reference, outputs, task=self._job.task, inputs=self._inputs
        )
        row = {
            "metric": self._metric(outputs, predict),
            "parity": dataclasses.asdict(parity),
        }
        return row, outputs


def _keras_predict(model: Any) -> Predict:
    """Calls a Keras model as `evaluation.Predictor` calls a file."""
    if graph_keras.backend_of(model) != "tensorflow":
        return _elsewhere(model)
    # TensorFlow compiles no layers with spaces in their names.
    model, _ = graph_keras.to_scoped_names(model)
    specs = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in model.inputs]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*tensors: Any) -> Any:
        arguments = graph_keras.pack_inputs(model, tensors)
        return tf.nest.flatten(model(arguments, training=False))

    # Of a function that is traced for each model TensorFlow complains in many lines.
    concrete = traced.get_concrete_function()

    def predict(x: Any) -> list[np.ndarray]:
        names = structure.input_names(model)
        x = structure.in_order(x, names, what="inputs") if isinstance(x, dict) else x
        tensors = x if isinstance(x, list | tuple) else [x]
        tensors = [tf.cast(t, s.dtype) for t, s in zip(tensors, specs, strict=True)]
        return [output.numpy() for output in concrete(*tensors)]

    return predict


def _elsewhere(model: Any) -> Predict:
    """Returns the same for a model that another backend of Keras 3 computes."""
    names, call = structure.input_names(model), keras_run.compiled(model)

    def predict(x: Any) -> list[np.ndarray]:
        x = structure.in_order(x, names, what="inputs") if isinstance(x, dict) else x
        arrays = [
            np.asarray(array, tf.as_dtype(tensor.dtype).as_numpy_dtype)
            for array, tensor in zip(
                x if isinstance(x, list | tuple) else [x], model.inputs, strict=True
            )
        ]
        outputs = call(graph_keras.pack_inputs(model, arrays))
        return [np.asarray(output) for output in tf.nest.flatten(outputs)]

    return predict


def _require_finite(model: Any, outputs: Sequence[np.ndarray]) -> None:
    bad = [~np.isfinite(o).reshape(len(o), -1).all(axis=1) for o in outputs]
    rows = np.logical_or.reduce(bad)
    if not rows.any():
        return
    layer, weight = convert.largest_weight(model)
    raise errors.VerificationError(
        f"The Keras model itself gives NaN or infinity for {int(rows.sum())} of "
        f"{len(rows)} inputs: it overflows. Its largest weight is {weight:.3g}, in "
        f"layer '{layer}'; where that is sound, look at the inputs and their "
        "preprocessing."
    )


def _random_batches(model: Any, num_samples: int) -> Callable[[], Any]:
    """Without data, parity is still checked: on uniform values in [-1, 1], or 0 and 1.

    The latter are for inputs of integers, such as the numbers of words.
    """

    def values(random: np.random.Generator, tensor: Any) -> np.ndarray:
        shape, dtype = (1, *tensor.shape[1:]), np.dtype(tf.as_dtype(tensor.dtype).name)
        if dtype.kind == "f":
            return random.uniform(-1, 1, shape).astype(dtype)
        return random.integers(0, 2, shape).astype(dtype)

    def batches() -> Any:
        random = np.random.default_rng(0)
        for _ in range(num_samples):
            x = [values(random, tensor) for tensor in model.inputs]
            yield (x[0] if len(x) == 1 else x), None

    return batches
