"""Runs files over test examples, and says which of them are useless."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tfslim import tasks, tflite
from tfslim.evaluation.chance import chance_level, useless_level
from tfslim.evaluation.collapse import symptom_of
from tfslim.evaluation.columns import MOST_DB, Columns
from tfslim.evaluation.evaluator import Batches, Evaluator
from tfslim.evaluation.goal import Goal, goal_of
from tfslim.evaluation.places import is_picture
from tfslim.evaluation.predict import Predictor
from tfslim.evaluation.significance import examples_right, paired_change

# What files are compared with.
_GIVEN = "the file as given"
# An error of that many dB is as large as what varies in the output.
_USELESS_DB = 1.0
# Choices of the float model of which more are one class tell nothing of agreement.
_ONE_SIDED = 0.9


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """What came of a file: its figures, how its output collapsed, which are right."""

    figures: dict[str, Any]
    symptom: str
    right: np.ndarray | None


class FileTest(Evaluator):
    """Runs files over batches; the first is what the others are held to.

    Attributes:
        is_classifier: whether each of the model's outputs chooses among classes.
    """

    def __init__(
        self,
        model: bytes,
        batches: Batches,
        task: tasks.Task,
        *,
        scored: int | None,
        classes: Collection[int] = (),
    ):
        """Reads the model; nothing is run yet. Arguments as for `Evaluator`."""
        predict = Predictor(model)
        super().__init__(predict, batches, task=task, scored=scored, classes=classes)
        content = tflite.read(model)
        self._names = list(content.output_names)
        self._inputs = [tensor.shape for tensor in content.inputs]
        outputs = [content.tensors[index] for index in content.output_names.values()]
        self.is_classifier = task.name == "classification" and all(
            number in classes
            or task.is_binary
            or (len(tensor.shape) == 2 and tensor.shape[-1] > 1)
            for number, tensor in enumerate(outputs)
        )
        self._model = model
        self._seen: dict[bytes, _Seen] = {}

    @functools.cached_property
    def num_examples(self) -> int:
        """How many examples the files are run on."""
        return len(self.outputs[0])

    @property
    def has_labels(self) -> bool:
        """Whether the data's targets are those of one of the model's outputs."""
        return self.scored is not None

    @property
    def scored_name(self) -> str | None:
        """The name of that output, if there are others."""
        if self.scored is None or len(self._names) == 1:
            return None
        return self._names[self.scored]

    @functools.cached_property
    def doubt(self) -> str:
        """Why the labels may be no labels of this model, "" if nothing speaks for it.

        A model that is right less often than half of chance knows other classes.
        """
        accuracy = self.metric(self.outputs)
        if accuracy is None or self.task.name != "classification":
            return ""
        if accuracy > 0.5 / len(np.unique(self.targets)):
            return ""
        return (
            f"The float model's {self.task.metric_name} is {accuracy:.1%}: the labels "
            "seem to be those of other classes than the model's."
        )

    @functools.cached_property
    def _columns(self) -> list[Columns | None]:
        """The columns of each output; numbers of classes have none."""
        return [
            None
            if number in self._classes
            else Columns(
                truth,
                alike=self._is_scores(number) or is_picture(truth.shape, self._inputs),
            )
            for number, truth in enumerate(self.outputs)
        ]

    def _is_scores(self, number: int) -> bool:
        """Whether an output holds one score for each class of the labels."""
        return self.task.name == "classification" and number == self.scored

    def __call__(self, content: bytes) -> dict[str, Any]:
        """Returns a file's figures.

        The task's metric where there are labels, the agreement with the model where
        it fits, "sqnr_db" of the worst output, and "outputs" with a row for each.
        """
        return self._measured(content).figures

    def fault(self, content: bytes) -> str:
        """Says how a file is useless: collapsed, or as wrong as a constant; "" if not.

        A file that chooses classes is judged by its choices.
        """
        seen = self._measured(content)
        row, symptom = seen.figures, seen.symptom
        if content == self._model or symptom:
            return symptom
        if self.is_classifier:
            return self._choices_fault(row[self.task.agreement_name])
        lines = [line for line in row["outputs"] if "against_zeros_db" in line]
        for line in lines:
            if line["misled"]:
                return (
                    f"column {line['misled'][0]} of output {line['output']} is further "
                    "from the float model than its own mean would be"
                )
        worst = min(lines, key=lambda line: line["against_zeros_db"], default=None)
        if worst is None or worst["against_zeros_db"] >= _USELESS_DB:
            return ""
        return (
            f"output {worst['output']} is as wrong as zeros: "
            f"{worst['against_zeros_db']:.1f} dB against the float model"
        )

    def _choices_fault(self, agreement: float) -> str:
        for number in range(len(self.outputs)):
            chosen = self.chosen(self.outputs, number)
            is_one_sided = chance_level(chosen) > _ONE_SIDED
            if not is_one_sided and agreement <= useless_level(chosen):
                return (
                    f"it chooses the float model's class in {agreement:.1%}, as by "
                    "chance"
                )
        return ""

    def goal(self, max_drop: float) -> Goal:
        """Returns what a drop of `max_drop` points means for this model and data.

        Raises:
            ConfigError: it means nothing.
        """
        accuracy, metric, agreement = self.metric(self.outputs), None, None
        is_classification = self.task.name == "classification"
        if accuracy is not None and not self.doubt and is_classification:
            metric = self.task.metric_name, accuracy, "the data has labels"
        if self.is_classifier:
            reason = self.doubt or "the data has no labels for this model's classes"
            agreement = self.task.agreement_name, reason
        return goal_of(max_drop, metric=metric, agreement=agreement)

    def change(self, content: bytes) -> dict[str, Any] | None:
        """Returns how a file's accuracy changed: `AccuracyChange` as JSON.

        "against" says what it is compared with. None without labels of the model's
        classes, or where the metric is no share of right answers.
        """
        base, new = (self._measured(c).right for c in (self._model, content))
        if base is None or new is None or self.doubt:
            return None
        return {"against": _GIVEN, **paired_change(base, new).to_json()}

    def _measured(self, content: bytes) -> _Seen:
        if content not in self._seen:
            own = content == self._model
            found = self.outputs if own else self.run(Predictor(content))
            self._seen[content] = _Seen(
                self._figures(found), self._symptom(found), self._right(found)
            )
        return self._seen[content]

    def _right(self, outputs: Sequence[np.ndarray]) -> np.ndarray | None:
        number = self.scored
        if number is None or number in self._classes or self.task.all_outputs:
            return None
        return examples_right(self.task.metric, outputs[number], targets=self.targets)

    def _figures(self, outputs: Sequence[np.ndarray]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        metric = self.metric(outputs)
        if metric is not None:
            row[self.task.metric_name] = metric
        numbers = range(len(outputs))
        if self.is_classifier or self.task.name != "classification":
            row[self.task.agreement_name] = min(
                self._agreement(number, outputs[number]) for number in numbers
            )
        table = [self._compare(number, outputs[number]) for number in numbers]
        # The numbers of classes have no distance, unless there is nothing else.
        reals = [table[number] for number in numbers if number not in self._classes]
        row["sqnr_db"] = min(line["sqnr_db"] for line in reals or table)
        return {**row, "outputs": table}

    def _agreement(self, number: int, found: np.ndarray) -> float:
        truth = self.outputs[number]
        if truth.shape != found.shape:
            return 0.0
        if number in self._classes:
            return float((truth == found).mean())
        return float(self.task.agreement(truth, found))

    def _compare(self, number: int, found: np.ndarray) -> dict[str, Any]:
        """Returns an output's error, in dB of the worst column and in its own unit."""
        name, truth = self._names[number], self.outputs[number]
        if truth.shape != found.shape:  # Some outputs are as long as they have to be.
            return {"output": name, "sqnr_db": -MOST_DB, "rms": 0.0, "rms_error": 0.0}
        measured = (self._columns[number] or Columns(truth)).errors(found)
        finite = np.isfinite(truth)
        truth, found = (part[finite].astype(np.float64) for part in (truth, found))
        return {
            "output": name,
            "sqnr_db": measured.sqnr_db,
            "column": measured.column,
            "against_zeros_db": measured.against_zeros_db,
            "misled": list(measured.misled),
            "rms": float(np.sqrt(np.square(truth).mean())),
            "rms_error": float(np.sqrt(np.square(truth - found).mean())),
        }

    def _symptom(self, outputs: Sequence[np.ndarray]) -> str:
        """Says which output has collapsed, and how; "" if none has."""
        for number, (truth, found) in enumerate(
            zip(self.outputs, outputs, strict=True)
        ):
            columns = self._columns[number]
            if columns is None or truth.shape != found.shape:
                continue
            classes = self._is_scores(number)
            symptom = symptom_of(truth, found, classes=classes, columns=columns)
            if symptom:
                return f"output {self._names[number]} collapsed: {symptom}"
        return ""
