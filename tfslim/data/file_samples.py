"""Runs files over the test examples and says how well they do."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim import data, errors, evaluation, preprocessing, tasks, tflite
from tfslim.data import file_labels

# Examples that other preprocessing is tried on.
_NUM_TRIED = 256
# An error of that many dB is as large as what varies in the output.
_USELESS_DB = 1.0
# Choices of the float model of which more are one class tell nothing of agreement.
_ONE_SIDED = 0.9


@dataclasses.dataclass(frozen=True)
class Goal:
    """What `--max_drop` asks for.

    Attributes:
        key: the figure that decides, a key of what `Test` returns.
        least: the value to reach.
        reason: why this figure.
    """

    key: str
    least: float
    reason: str


class Test:
    """Runs files over the test examples; the first is what the others are held to.

    Attributes:
        is_classifier: whether each of the model's outputs chooses among classes.
        task: gives the metric and the agreement.
        num_examples: of the test.
    """

    def __init__(
        self,
        model: bytes,
        dataset: data.Dataset,
        prepare: data.Prepare,
        task: tasks.Task,
        *,
        num_examples: int,
        seed: int,
    ):
        """Chooses `num_examples` of the test split; nothing is run yet."""
        order = np.random.default_rng(seed).permutation(len(dataset.test))
        self._examples = data.Subset(dataset.test, np.sort(order[:num_examples]))
        self._prepare, self._task = prepare, task
        self.task, self.num_examples = task, len(self._examples)
        content = tflite.read(model)
        self._names = list(content.output_names)
        self._inputs = [tensor.shape for tensor in content.inputs]
        outputs = [content.tensors[index] for index in content.output_names.values()]
        # An ARG_MAX has chosen already.
        self._are_classes = [file_labels.are_classes(tensor) for tensor in outputs]
        self.is_classifier = task.name == "classification" and all(
            chosen
            or task.is_binary
            or (len(tensor.shape) == 2 and tensor.shape[-1] > 1)
            for tensor, chosen in zip(outputs, self._are_classes, strict=True)
        )
        one_each = [
            file_labels.is_row_each(tensor, content.inputs[0]) for tensor in outputs
        ]
        self._scored = file_labels.scored(
            dataset, task, outputs, prepare.input_shape, one_each
        )
        self._model = model
        self._seen: dict[bytes, dict[str, Any]] = {}
        self._faults: dict[bytes, str] = {}
        self._reference: list[np.ndarray] = []
        self._columns: list[evaluation.Columns | None] = []

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How examples become the input, as JSON; None where they are taken as is."""
        if not isinstance(self._prepare, preprocessing.Preprocessing):
            return None
        return self._prepare.to_json()

    @property
    def has_labels(self) -> bool:
        """Whether the data's targets are those of one of the model's outputs."""
        return self._scored is not None

    @functools.cached_property
    def doubt(self) -> str:
        """Why the labels may be no labels of this model, "" if nothing speaks for it.

        A model that is right less often than half of chance knows other classes.
        """
        if not self.has_labels or self._task.name != "classification":
            return ""
        chance = 1.0 / len(np.unique(self._examples.targets))
        accuracy = self(self._model)[self._task.metric_name]
        if accuracy > chance / 2.0:
            return ""
        return (
            f"The float model's {self._task.metric_name} is {accuracy:.1%}: the labels "
            "seem to be those of other classes than the model's."
        )

    def doubt_preprocessing(self, examples: data.Examples) -> evaluation.Doubt | None:
        """Says what is wrong if the float model is right as often as by chance.

        Args:
            examples: others than those of the test, to try other preprocessing on.
        """
        prepare = self._prepare
        if (
            self._scored is None
            or self._task.name != "classification"
            or not isinstance(prepare, preprocessing.Preprocessing)
        ):
            return None
        accuracy = self(self._model)[self._task.metric_name]
        if not evaluation.is_chance(accuracy, self._examples.targets):
            return None
        count = min(_NUM_TRIED, len(examples))
        chosen = np.random.default_rng(0).permutation(len(examples))[:count]
        return evaluation.preprocessing_doubt(
            self._classify,
            examples.inputs(np.sort(chosen)),
            examples.targets[np.sort(chosen)],
            prepare,
        )

    def _classify(self, x: np.ndarray) -> np.ndarray:
        """Returns the classes that the float model chooses."""
        assert self._scored is not None  # noqa: S101 - there are labels.
        return self._chosen(self._scored, evaluation.Predictor(self._model)(x))

    def _chosen(self, number: int, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the classes that an output chooses."""
        found = outputs[number]
        if self._are_classes[number]:
            return found.reshape(-1)
        if self._task.threshold is not None:
            return (found > self._task.threshold).reshape(-1).astype(int)
        return np.asarray(found.argmax(axis=-1))

    def fault(self, content: bytes) -> str:
        """Says how a file is useless: collapsed, or as wrong as a constant; "" if not.

        Raises nothing: a file that chooses classes is judged by its choices.
        """
        row = self(content)
        if content == self._model or self._faults[content]:
            return self._faults[content]
        if self.is_classifier:
            numbers = range(len(self._reference))
            choices = [self._chosen(number, self._reference) for number in numbers]
            agreement = row[self._task.agreement_name]
            if all(
                evaluation.chance_level(chosen) > _ONE_SIDED
                or agreement > evaluation.useless_level(chosen)
                for chosen in choices
            ):
                return ""
            return (
                f"it chooses the float model's class in {agreement:.1%}, as by chance"
            )
        lines = [line for line in row["outputs"] if "against_zeros_db" in line]
        for line in lines:
            if line["misled"]:
                column = line["misled"][0]
                return (
                    f"column {column} of output {line['output']} is further from the "
                    "float model than its own mean would be"
                )
        worst = min(lines, key=lambda line: line["against_zeros_db"], default=None)
        if worst is None or worst["against_zeros_db"] >= _USELESS_DB:
            return ""
        return (
            f"output {worst['output']} is as wrong as zeros: "
            f"{worst['against_zeros_db']:.1f} dB against the float model"
        )

    @property
    def scored(self) -> str | None:
        """That output, if there are others."""
        if self._scored is None or len(self._names) == 1:
            return None
        return self._names[self._scored]

    def __call__(self, content: bytes) -> dict[str, Any]:
        """Returns a file's figures.

        The task's metric where there are labels, the agreement with the model where
        it fits, "sqnr_db" of the worst output, and "outputs" with a row for each.
        """
        if not self._reference:
            self._reference, _ = self._run(self._model)
            self._columns = [
                None
                if are_classes
                else evaluation.Columns(
                    truth,
                    alike=self._is_scores(number)
                    or evaluation.is_picture(truth.shape, self._inputs),
                )
                for number, (truth, are_classes) in enumerate(
                    zip(self._reference, self._are_classes, strict=True)
                )
            ]
        if content not in self._seen:
            self._seen[content] = self._measure(content)
        return self._seen[content]

    def goal(self, max_drop: float) -> Goal:
        """Returns what a drop of `max_drop` points means for this model and data.

        Raises:
            ConfigError: it means nothing.
        """
        share = max_drop / 100.0
        if self.has_labels and not self.doubt and self._task.name == "classification":
            least = self(self._model)[self._task.metric_name] - share
            return Goal(self._task.metric_name, least, "the data has labels")
        if self.is_classifier:
            reason = self.doubt or "the data has no labels for this model's classes"
            return Goal(self._task.agreement_name, 1.0 - share, reason)
        if max_drop <= 0:
            raise errors.ConfigError(
                f"--max_drop is the error's share in percent of the output for models "
                f"that do not classify; it must be above 0, got {max_drop}."
            )
        reason = f"the model does not classify: an RMS error of {max_drop:g}% at most"
        return Goal("sqnr_db", -20.0 * float(np.log10(share)), reason)

    def _run(self, content: bytes) -> tuple[list[np.ndarray], np.ndarray]:
        predict = evaluation.Predictor(content)
        batches = data.batches(self._examples, self._prepare, 64)
        rows = [(predict(x), self._task.target(x, y)) for x, y in batches]
        outputs = [
            np.concatenate(part) for part in zip(*(r[0] for r in rows), strict=True)
        ]
        return outputs, np.concatenate([target for _, target in rows])

    def _agreement(
        self, truth: np.ndarray, found: np.ndarray, are_classes: bool
    ) -> float:
        if truth.shape != found.shape:
            return 0.0
        if are_classes:
            return float((truth == found).mean())
        return float(self._task.agreement(truth, found))

    def _measure(self, content: bytes) -> dict[str, Any]:
        outputs, targets = self._run(content)
        row: dict[str, Any] = {}
        pairs = list(zip(self._reference, outputs, self._are_classes, strict=True))
        if self._scored is not None:
            found = outputs[self._scored]
            row[self._task.metric_name] = (
                float((found.reshape(-1) == targets).mean())
                if self._are_classes[self._scored]
                else float(self._task.metric(found, targets))
            )
        if self.is_classifier or self._task.name != "classification":
            row[self._task.agreement_name] = min(
                self._agreement(truth, found, are_classes)
                for truth, found, are_classes in pairs
            )
        table = [
            _compare(name, truth, found, columns)
            for name, (truth, found, _), columns in zip(
                self._names, pairs, self._columns, strict=True
            )
        ]
        self._faults[content] = self._symptom(outputs)
        # The numbers of classes have no distance, unless there is nothing else.
        reals = [
            line
            for line, are_classes in zip(table, self._are_classes, strict=True)
            if not are_classes
        ]
        row["sqnr_db"] = min(line["sqnr_db"] for line in reals or table)
        return {**row, "outputs": table}

    def _is_scores(self, number: int) -> bool:
        """Whether an output holds one score for each class of the labels."""
        return self._task.name == "classification" and number == self._scored

    def _symptom(self, outputs: Sequence[np.ndarray]) -> str:
        """Says which output has collapsed, and how; "" if none has."""
        for number, (truth, found) in enumerate(
            zip(self._reference, outputs, strict=True)
        ):
            columns = self._columns[number]
            if columns is None or truth.shape != found.shape:
                continue
            classes = self._is_scores(number)
            symptom = evaluation.symptom_of(
                truth, found, classes=classes, columns=columns
            )
            if symptom:
                return f"output {self._names[number]} collapsed: {symptom}"
        return ""


def _compare(
    name: str, truth: np.ndarray, found: np.ndarray, columns: evaluation.Columns | None
) -> dict[str, Any]:
    """Returns an output's error, in dB of the worst column and in its own unit."""
    if truth.shape != found.shape:  # Some outputs are as long as they have to be.
        sqnr_db = -evaluation.MOST_DB
        return {"output": name, "sqnr_db": sqnr_db, "rms": 0.0, "rms_error": 0.0}
    errors_ = (columns or evaluation.Columns(truth)).errors(found)
    finite = np.isfinite(truth)
    truth, found = truth[finite].astype(np.float64), found[finite].astype(np.float64)
    return {
        "output": name,
        "sqnr_db": errors_.sqnr_db,
        "column": errors_.column,
        "against_zeros_db": errors_.against_zeros_db,
        "misled": list(errors_.misled),
        "rms": float(np.sqrt(np.square(truth).mean())),
        "rms_error": float(np.sqrt(np.square(truth - found).mean())),
    }
