"""Runs the Keras model and every file on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tfslim import convert, errors, evaluation
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import structure
from tfslim.pipeline.job import Job

# Pictures of a detector that are kept for the report.
_SHOWN = 6
Predict = Callable[[Any], list[np.ndarray]]
EvalFn = Callable[[Predict], float]


def measure(job: Job, eval_fn: EvalFn | None) -> float | None:
    """Returns the task's metric of `job.model` on the test split, None without data."""
    return _measure(job, _keras_predict(job.model), eval_fn)


def measure_file(job: Job, content: bytes, eval_fn: EvalFn | None) -> dict[str, Any]:
    """Returns the same of a file made of `job.model`, and which answers are right."""
    predict = evaluation.Predictor(content)
    if eval_fn is not None or job.feed.test is None or not job.feed.has_targets:
        return {"metric": _measure(job, predict, eval_fn), "right": None}
    outputs, targets = _run(predict, job.feed.test()), _targets(job)
    return {
        "metric": _metric_of(job, outputs, targets),
        "right": _right(job, outputs, targets),
    }


def rehearse(job: Job) -> None:
    """Measures one batch, for what the metric does not take to be told early.

    Raises:
        ConfigError: the data's targets are not those of the model.
    """
    if job.feed.test is None or not job.feed.has_targets:
        return
    x, y = next(iter(job.feed.test()))
    names = structure.output_names(job.model)
    targets = structure.in_order(job.task.target(x, y), names, "targets")
    _metric_of(job, _keras_predict(job.model)(x), targets)


def _measure(job: Job, predict: Predict, eval_fn: EvalFn | None) -> float | None:
    if eval_fn is not None:
        return float(eval_fn(predict))
    if job.feed.test is None or not job.feed.has_targets:
        return None
    return _metric_of(job, _run(predict, job.feed.test()), _targets(job))


def _run(predict: Predict, batches: Iterable[tuple[Any, Any]]) -> list[np.ndarray]:
    parts = [predict(x) for x, _ in batches]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def _targets(job: Job) -> Any:
    """Returns all targets, as one array or one for each output of the model."""
    assert job.feed.test is not None  # noqa: S101 - asked for first.
    names = structure.output_names(job.model)
    return structure.joined(
        [
            structure.in_order(job.task.target(x, y), names, "targets")
            for x, y in job.feed.test()
        ]
    )


def _metric_of(job: Job, outputs: list[np.ndarray], targets: Any) -> float:
    """Returns the task's metric; over several targets the mean of each output's."""
    if isinstance(targets, list) and not job.task.all_outputs:
        pairs = zip(outputs, targets, strict=True)
        return float(np.mean([job.task.metric(*pair) for pair in pairs]))
    return float(job.task.metric(job.task.measured(outputs), targets))


def _right(job: Job, outputs: list[np.ndarray], targets: Any) -> np.ndarray | None:
    if not job.task.higher_is_better:
        return None
    measured = job.task.measured(outputs)
    return evaluation.examples_right(job.task.metric, measured, targets)


class Checker:
    """Holds the outputs of the Keras model and of the float file to compare with.

    Attributes:
        keras_metric: of the Keras model, None without targets.
        keras_right: which of its answers are right, None where the metric is no share.
        answers: of a classifier, file -> its outputs [examples, classes].
        found: of a detector, file -> its outputs for the first examples.
        outputs: of the Keras model on the test batches.
        targets: what they are compared with, None without.
    """

    def __init__(
        self, job: Job, eval_fn: EvalFn | None, config: ml_collections.ConfigDict
    ):
        """Runs the Keras model over the test batches, or over random inputs.

        Raises:
            VerificationError: it gives NaN or infinity.
        """
        self._job = job
        self._eval_fn = eval_fn
        self._batches = job.feed.test or _random_batches(
            job.model, config.verify.num_samples
        )
        self._predict = _keras_predict(job.model)
        self._inputs = [tuple(tensor.shape) for tensor in job.model.inputs]
        self.outputs = self._run(self._predict)
        _require_finite(job.model, self.outputs)
        self._float_outputs: list[np.ndarray] = []
        self.answers: dict[str, np.ndarray] = {}
        self.found: dict[str, list[np.ndarray]] = {}
        has_targets = job.feed.test is not None and job.feed.has_targets
        self.targets = _targets(job) if has_targets else None
        self.keras_metric = self._metric(self.outputs, self._predict)
        self.keras_right = self._right(self.outputs)

    def outputs_of(self, inputs: Iterable[Any]) -> list[np.ndarray]:
        """Returns the Keras model's outputs for other inputs."""
        return _run(self._predict, ((x, None) for x in inputs))

    def _run(self, predict: Predict) -> list[np.ndarray]:
        return _run(predict, self._batches())

    def _metric(self, outputs: list[np.ndarray], predict: Predict) -> float | None:
        if self._eval_fn is not None:
            return float(self._eval_fn(predict))
        if self.targets is None:
            return None
        return _metric_of(self._job, outputs, self.targets)

    def _right(self, outputs: list[np.ndarray]) -> np.ndarray | None:
        if self._eval_fn is not None or self.targets is None:
            return None
        return _right(self._job, outputs, self.targets)

    def _keep(self, name: str, outputs: list[np.ndarray]) -> None:
        is_row = outputs[0].ndim == 2 and outputs[0].shape[1] > 1
        if self._job.task.name == "classification" and is_row:
            self.answers[name] = outputs[0]
        elif self._job.task.has_boxes and [o.ndim for o in outputs] == [3, 3]:
            self.found[name] = [output[:_SHOWN] for output in outputs]

    def check_float(self, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of the float file, or raises if they differ."""
        row, outputs = self._compare(content, self.outputs)
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
        return evaluation.noise_floor(_keras_predict(self._job.model), x)

    def figures(self, content: bytes) -> dict[str, Any]:
        """Returns metric and parity of a quantized file, sick or not."""
        row, _ = self._compare(content, self._float_outputs)
        return row

    def _compare(
        self, content: bytes, reference: list[np.ndarray]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        predict = evaluation.Predictor(content)
        outputs = self._run(predict)
        parity = evaluation.compare(
            reference, outputs, self._job.task, inputs=self._inputs
        )
        row = {
            "metric": self._metric(outputs, predict),
            "parity": dataclasses.asdict(parity),
        }
        return row, outputs


def _keras_predict(model: Any) -> Predict:
    """Calls a Keras model as `verify.Predictor` calls a file."""
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
        x = structure.in_order(x, names, "inputs") if isinstance(x, dict) else x
        tensors = x if isinstance(x, list | tuple) else [x]
        tensors = [tf.cast(t, s.dtype) for t, s in zip(tensors, specs, strict=True)]
        return [output.numpy() for output in concrete(*tensors)]

    return predict


def _require_finite(model: Any, outputs: list[np.ndarray]) -> None:
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
