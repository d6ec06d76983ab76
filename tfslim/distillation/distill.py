"""Training a student to do what a teacher does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import checks, errors, tasks
from tfslim.distillation import losses, teachers
from tfslim.distillation.feed import Feed
from tfslim.distillation.losses import DistillOptions
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.graph.editor import Editor
from tfslim.training import FitOptions, seeds
from tfslim.training import training as fitting
from tfslim.training.job import ResumableJob
from tfslim.training.training import Training


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
        skipped: empty: all of a student is trained.
    """

    history: dict[str, list[float]]
    best_epoch: int
    monitor: str
    compared: tuple[str, ...]
    seconds: float
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)


@checks.by_name
@seeds.kept()
def distill(
    student: Any,
    teacher: Any,
    *,
    data: Any,
    validation: Any = None,
    task: str | tasks.Task = "classification",
    how: DistillOptions | None = None,
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, DistillReport]:
    """Trains a student on its task and on what a teacher says of the same inputs.

    The loss is `(1 - teacher_weight) * task's loss + teacher_weight * distance to the
    teacher + feature_weight * mean squared error of features`. The distance of
    classifiers is `distillation_loss` of the logits, also where models end in a
    softmax, otherwise the mean squared error of the outputs. The best epoch is the
    task's best.

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
            weigh the whole loss, the teacher's part, too; or a `Training`, which also
            has the validation data, the task and the options.
        validation: arrays (x, y) or batches (x, target), with weights or without.
        task: what the student is for.
        how: what is learnt from the teacher; None takes the defaults.
        options: how to train; with `backup_dir`, the same call resumes from the last
            epoch after a kill.
        **overrides: fields of `DistillOptions`, such as `temperature`, or of
            `FitOptions` that replace those of `how` and `options`.

    Returns:
        The trained student, a new model of the same Keras, and the report.

    Raises:
        ConfigError: options that do not fit, or shapes that cannot be compared.
        GraphError: a model cannot be read.

    Example:
        smaller, _ = tfslim.prune_channels(model, pruning_ratio=0.5)
        smaller, _ = tfslim.distill(smaller, model, (x, y), epochs=10)
    """
    checks.renamed_keyword(overrides, "alpha", new="teacher_weight")
    given = Training.of(data, validation, task, options)
    own, given = given.split(DistillOptions, how, overrides)
    task = tasks.resolve(given.task, student)
    what = {"method": "distill", "teacher": teacher, **vars(own)}
    graph = _student(student)
    has_logits = _compares_logits(graph, task, outputs=own.outputs)
    layers = [theirs for _, theirs in own.pairs]
    ask = teachers.build(teacher, features=layers, has_logits=has_logits)
    bare, ends_in_softmax = graph, False
    if has_logits:
        bare, ends_in_softmax = teachers.with_logits(graph)
    inputs, target = _first(given.train, task)
    shown = ask(tf.nest.map_structure(lambda array: array[:1], inputs))
    packed, notes = _packed(bare, own.pairs, shown=shown, seed=given.options.seed)
    objective = losses.Objective(
        task=task,
        has_logits=has_logits,
        ends_in_softmax=ends_in_softmax,
        target_shape=target.shape[1:],
        target_dtype=target.dtype,
        output_shape=shown[0].shape[1:],
        feature_shapes=tuple(array.shape[1:] for array in shown[1:]),
        how=own,
    )
    training = Feed(ask, task, objective).training(given)
    model = graph_keras.write(packed, "tf_keras")
    job = ResumableJob(given.options, student, description=what)
    result = job.train(model, training)
    job.finish()
    trained = _with_trained(graph, packed, model=model)
    report = DistillReport(
        history=result.history,
        best_epoch=result.best_epoch,
        monitor=result.monitor,
        compared=(f"outputs by {'logits' if has_logits else 'mse'}", *notes),
        seconds=result.seconds,
    )
    return graph_keras.write(trained, graph_keras.keras_of(student)), report


def _student(model: Any) -> ir.Graph:
    graph = graph_keras.read(model)
    if len(graph.output_refs) != 1:
        raise errors.ConfigError(
            f"The student '{graph.name}' has {len(graph.output_refs)} outputs; "
            "distillation compares one. Distill each head as a model of its own."
        )
    return graph


def _compares_logits(graph: ir.Graph, task: tasks.Task, *, outputs: str) -> bool:
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
    *,
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
    editor = Editor(graph)
    for number in range(len(graph.nodes)):
        editor.copy(number)
    random = np.random.default_rng(seed)
    refs = [editor.moved[output]]
    notes = []
    for (ours, theirs), hint in zip(pairs, shown[1:], strict=True):
        ref = editor.moved[teachers.feature_ref(graph, ours)]
        shape = editor.shape(ref)
        note = f"{ours} {list(shape[1:])} by {theirs} {list(hint.shape[1:])}"
        if shape[1:-1] != hint.shape[1:-1] or None in shape[1:]:
            raise errors.ConfigError(
                f"The features {note} cannot be compared: all but the number of "
                "channels must be equal and known. Choose layers of the same size."
            )
        if shape[-1] != hint.shape[-1]:
            ref = _adapter(editor, ref, width=hint.shape[-1], random=random)
            note += ", through a linear map"
        refs.append(ref)
        notes.append(note)
    return editor.finish(_row(editor, refs)), notes


# Comparing needs the digits, whatever the student computes in.
_PRECISE = {"dtype": "float32"}


def _adapter(
    editor: Editor, ref: ir.TensorRef, *, width: int, random: np.random.Generator
) -> ir.TensorRef:
    """Adds a linear map of the channels to another width."""
    shape = editor.shape(ref)
    inside = int(shape[-1] or 0)
    limit = math.sqrt(6.0 / (inside + width))  # Glorot and Bengio, 2010.
    kernel = random.uniform(-limit, limit, (inside, width)).astype("float32")
    op, config = "Dense", {**_PRECISE, "units": width}
    if len(shape) == 4:
        op, config = "Conv2D", {**_PRECISE, "filters": width, "kernel_size": [1, 1]}
        kernel = kernel[None, None]
    weights = {"kernel": kernel, "bias": np.zeros(width, "float32")}
    return editor.add("distill_map", op, (ref,), (*shape[:-1], width), config, weights)


def _row(editor: Editor, refs: list[ir.TensorRef]) -> ir.TensorRef:
    """Adds what makes all tensors rows of one output."""
    rows = []
    for ref in refs:
        shape = editor.shape(ref)
        if len(shape) != 2:
            size = math.prod(size or 0 for size in shape[1:])
            ref = editor.add(
                "distill_flatten", "Flatten", (ref,), (shape[0], size), _PRECISE
            )
        rows.append(ref)
    if len(rows) == 1:
        return rows[0]
    width = sum(editor.shape(row)[1] or 0 for row in rows)
    config = {**_PRECISE, "axis": -1}
    return editor.add("distill_all", "Concatenate", (rows,), (None, width), config)


def _with_trained(student: ir.Graph, packed: ir.Graph, *, model: Any) -> ir.Graph:
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
