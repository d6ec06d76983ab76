"""Training a student to do what a teacher does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, registry, tasks, training
from tfslim.distillation import losses, teachers
from tfslim.distillation.feed import Feed
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.training import training as fitting
from tfslim.training.job import ResumableJob

_COMPARED = ("auto", "logits", "mse")
_BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What a distillation did.

    Attributes:
        history: Keras' logs, one value per epoch; losses are those of the distillation,
            metrics are the task's.
        best_epoch: the epoch whose weights the student has, from 0.
        monitor: the log that the best epoch was chosen by.
        compared: what was learnt from the teacher, one line each.
        seconds: wall time.
    """

    history: dict[str, list[float]]
    best_epoch: int
    monitor: str
    compared: tuple[str, ...]
    seconds: float


def distill(
    student: Any,
    teacher: Any,
    data: Any,
    *,
    validation: Any = None,
    task: str | tasks.Task = "classification",
    temperature: float = 4.0,
    alpha: float = 0.9,
    features: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    feature_weight: float = 1.0,
    outputs: str = "auto",
    options: training.FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, DistillReport]:
    """Trains a student on its task and on what a teacher says of the same inputs.

    The loss is `(1 - alpha) * task's loss + alpha * distance to the teacher +
    feature_weight * mean squared error of features`. The distance of classifiers is
    `distillation_loss` of the logits, also where models end in a softmax, otherwise
    the mean squared error of the outputs. The best epoch is the task's best.

    The teacher runs in the input pipeline, in inference mode: once over arrays, once
    a batch over datasets, so that it sees what augmentation makes of a sample.

    Sources: Hinton, Vinyals, Dean, 2015, https://arxiv.org/abs/1503.02531; features:
    Romero et al., "FitNets", ICLR 2015, https://arxiv.org/abs/1412.6550, here in one
    loss with the rest, not in a stage before it.

    Args:
        student: a functional or Sequential model of tf_keras or Keras 3 with one
            output, such as the result of `prune_channels`; not changed.
        teacher: a model of either Keras, such as the one before pruning; a `.tflite`
            file by its path or bytes; or a function from a batch of inputs to what is
            compared (logits for classifiers).
        data: what `fit` takes to train on, weights of the examples included: they
            weigh the whole loss, the teacher's part, too.
        validation: arrays (x, y) or batches (x, target), with weights or without.
        task: what the student is for.
        temperature: softens both softmaxes.
        alpha: share of the teacher's output in the loss, in [0, 1].
        features: pairs of a layer of the student and one of the teacher, whose outputs
            are compared; where their widths differ, a linear map of the student's
            channels (1x1) is learnt with it and dropped at the end.
        feature_weight: weight of the features, all together.
        outputs: how outputs are compared: `logits`, `mse`, or `auto`, which takes
            logits for the task classification, if there is more than one column, and
            for students that end in a softmax.
        options: how to train; with `backup_dir`, the same call after a kill goes on
            from the last epoch.
        **overrides: fields of `FitOptions` that replace those of `options`.

    Returns:
        The trained student, a new model of the same Keras, and the report.

    Raises:
        ConfigError: options that do not fit, or shapes that cannot be compared.
        GraphError: a model cannot be read.

    Example:
        smaller, _ = tfslim.prune_channels(model, pruning_ratio=0.5)
        smaller, _ = tfslim.distill(smaller, model, (x, y), epochs=10)
    """
    losses.check_temperature(temperature)
    task = tasks.resolve(task, student)
    pairs = tuple(features.items() if isinstance(features, Mapping) else features)
    _check(alpha, feature_weight, pairs, outputs)
    options = training.with_overrides(options or training.FitOptions(), overrides)
    job = {
        "method": "distill",
        "teacher": teacher,
        "loss": [temperature, alpha, pairs, feature_weight, outputs],
    }
    backup = ResumableJob(options, student, job)
    graph = _student(student)
    has_logits = _compares_logits(graph, task, outputs)
    ask = teachers.build(
        teacher, features=[theirs for _, theirs in pairs], has_logits=has_logits
    )
    bare, ends_in_softmax = (
        teachers.with_logits(graph) if has_logits else (graph, False)
    )
    sample = _first(data, task)
    shown = ask(tf.nest.map_structure(lambda array: array[:1], sample[0]))
    packed, notes = _packed(bare, pairs, shown, options.seed)
    target = np.asarray(sample[1])
    objective = losses.Objective(
        task_loss=task.loss,
        metric=task.keras_metric,
        has_logits=has_logits,
        ends_in_softmax=ends_in_softmax,
        target_shape=target.shape[1:],
        target_dtype=target.dtype,
        output_shape=shown[0].shape[1:],
        feature_shapes=tuple(array.shape[1:] for array in shown[1:]),
        temperature=temperature,
        alpha=alpha,
        feature_weight=feature_weight,
    )
    feed = Feed(ask, task, objective)
    model = graph_keras.write(packed, "tf_keras")
    result = backup.train(model, feed.how(data, validation, options))
    backup.finish()
    trained = _with_trained(graph, packed, model)
    report = DistillReport(
        history=result.history,
        best_epoch=result.best_epoch,
        monitor=result.monitor,
        compared=(f"outputs by {'logits' if has_logits else 'mse'}", *notes),
        seconds=result.seconds,
    )
    return graph_keras.write(trained, graph_keras.keras_of(student)), report


def _check(
    alpha: float, feature_weight: float, pairs: tuple[Any, ...], outputs: str
) -> None:
    if outputs not in _COMPARED:
        raise registry.unknown_name("comparison of outputs", outputs, _COMPARED)
    if not 0.0 <= alpha <= 1.0:
        raise errors.ConfigError(
            f"alpha must be in [0, 1], got {alpha}. 0.9 listens mostly to the teacher."
        )
    if alpha == 0.0 and not pairs:
        raise errors.ConfigError(
            "With alpha=0 and no features nothing is learnt from the teacher: use fit."
        )
    if not feature_weight >= 0.0:
        raise errors.ConfigError(
            f"feature_weight must be 0 or more, got {feature_weight}."
        )
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise errors.ConfigError(
            f"features must be pairs (layer of the student, layer of the teacher), got "
            f"{pairs!r}."
        )


def _student(model: Any) -> ir.Graph:
    graph = graph_keras.read(model)
    if len(graph.output_refs) != 1:
        raise errors.ConfigError(
            f"The student '{graph.name}' has {len(graph.output_refs)} outputs; "
            "distillation compares one. Distill each head as a model of its own."
        )
    return graph


def _compares_logits(graph: ir.Graph, task: tasks.Task, outputs: str) -> bool:
    if outputs != "auto":
        return outputs == "logits"
    layer = graph.layer_of(graph.nodes[graph.output_refs[0].node])
    is_softmax = layer.op in ("Softmax", "softmax")
    is_softmax |= layer.config.get("activation") == "softmax"
    return is_softmax or (task.name == "classification" and not task.is_binary)


def _first(data: Any, task: tasks.Task) -> tuple[Any, Any]:
    """Returns the first batch of inputs and targets as arrays."""
    for batch in fitting.batches(data, task):
        if isinstance(batch, tuple) and len(batch) in (2, 3):
            inputs = tf.nest.map_structure(np.asarray, batch[0])
            return inputs, np.asarray(batch[1])
        raise errors.ConfigError(
            "data must give (inputs, targets) or (inputs, targets, weights)."
        )
    raise errors.DataError("The training data has no batches.")


def _packed(
    graph: ir.Graph,
    pairs: tuple[tuple[str, str], ...],
    shown: list[np.ndarray],
    seed: int,
) -> tuple[ir.Graph, list[str]]:
    """Returns the student whose one output has all that is compared, and notes."""
    output = graph.output_refs[0]
    wanted = shown[0].shape[1:]
    if graph.shape(output)[1:] != wanted:
        raise errors.ConfigError(
            f"The student gives {list(graph.shape(output)[1:])} for a sample, the "
            f"teacher {list(wanted)}: they must be equal to be compared."
        )
    builder = _Builder(graph, np.random.default_rng(seed))
    refs = [output]
    notes = []
    for (ours, theirs), hint in zip(pairs, shown[1:], strict=True):
        ref = teachers.feature_ref(graph, ours)
        shape = graph.shape(ref)
        note = f"{ours} {list(shape[1:])} by {theirs} {list(hint.shape[1:])}"
        if shape[1:-1] != hint.shape[1:-1] or None in shape[1:]:
            raise errors.ConfigError(
                f"The features {note} cannot be compared: all but the number of "
                "channels must be equal and known. Choose layers of the same size."
            )
        if shape[-1] != hint.shape[-1]:
            ref = builder.adapter(ref, hint.shape[-1])
            note += ", through a linear map"
        refs.append(ref)
        notes.append(note)
    return builder.finish(refs), notes


class _Builder:
    """Adds adapters and one packed output to a student's graph."""

    def __init__(self, graph: ir.Graph, random: np.random.Generator):
        self._graph = graph
        self._layers = dict(graph.layers)
        self._nodes = list(graph.nodes)
        self._random = random

    def adapter(self, ref: ir.TensorRef, width: int) -> ir.TensorRef:
        """Adds a linear map of the channels to another width."""
        shape = self._nodes[ref.node].shapes[ref.port]
        inside, is_image = int(shape[-1] or 0), len(shape) == 4
        limit = math.sqrt(6.0 / (inside + width))  # Glorot and Bengio, 2010.
        kernel = self._random.uniform(-limit, limit, (inside, width))
        config: dict[str, Any] = {"units": width}
        if is_image:
            config = {"filters": width, "kernel_size": [1, 1]}
            kernel = kernel[None, None]
        weights = {
            "kernel": kernel.astype("float32"),
            "bias": np.zeros(width, "float32"),
        }
        op = "Conv2D" if is_image else "Dense"
        return self._add(op, config, (ref,), (*shape[:-1], width), weights)

    def finish(self, refs: list[ir.TensorRef]) -> ir.Graph:
        """Returns the graph with all tensors as rows of one output."""
        rows = []
        for ref in refs:
            shape = self._nodes[ref.node].shapes[ref.port]
            if len(shape) != 2:
                size = math.prod(size or 0 for size in shape[1:])
                ref = self._add("Flatten", {}, (ref,), (shape[0], size))
            rows.append(ref)
        output = rows[0]
        if len(rows) > 1:
            widths = [self._nodes[r.node].shapes[r.port][1] or 0 for r in rows]
            output = self._add(
                "Concatenate", {"axis": -1}, (rows,), (None, sum(widths))
            )
        return dataclasses.replace(
            self._graph, layers=self._layers, nodes=tuple(self._nodes), outputs=output
        )

    def _add(
        self,
        op: str,
        config: Mapping[str, Any],
        args: tuple[Any, ...],
        shape: ir.Shape,
        weights: Mapping[str, Any] | None = None,
    ) -> ir.TensorRef:
        name = f"distill_{op.lower()}_{len(self._nodes)}"
        # Comparing needs the digits, whatever the student computes in.
        config = {**config, "dtype": "float32"}
        self._layers[name] = ir.Layer(name, op, config, weights or {})
        self._nodes.append(ir.Node(name, args, (shape,)))
        return ir.TensorRef(len(self._nodes) - 1)


def _with_trained(student: ir.Graph, packed: ir.Graph, model: Any) -> ir.Graph:
    """Returns the student's graph with the weights of the trained, packed model."""
    variables = graph_keras.variables(packed, model)
    return student.with_layers(
        {
            name: dataclasses.replace(
                layer,
                weights={w: np.array(variables[name][w]) for w in layer.weights},
            )
            for name, layer in student.layers.items()
            if name in variables
        }
    )
