"""What `--data` gives: samples to calibrate with, and a test for every file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import flags

from tfslim import data, errors, preprocessing, quantization, tasks, tflite, verify
from tfslim.quantize import feeding

# Equal outputs have infinitely many dB, which JSON cannot hold.
_MOST_DB = 200.0
_NO, _MAYBE, _SURE = range(3)


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples and a test; all None without `--data`.

    Attributes:
        model: the file; sizes that it leaves open are written as the data has them.
        calibration: single inputs from the training split.
        unseen: 32 inputs from the test split.
        test: measures files on the test split; None with --eval_samples=0.
    """

    model: bytes
    calibration: Iterable[tflite.Inputs] | None = None
    unseen: Iterable[tflite.Inputs] | None = None
    test: Test | None = None


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
    """

    def __init__(
        self,
        model: bytes,
        dataset: data.Dataset,
        prepare: preprocessing.Preprocessing,
        task: tasks.Task,
        *,
        num_examples: int,
        seed: int,
    ):
        """Chooses `num_examples` of the test split; nothing is run yet."""
        order = np.random.default_rng(seed).permutation(len(dataset.test))
        self._examples = data.Subset(dataset.test, np.sort(order[:num_examples]))
        self._prepare, self._task = prepare, task
        content = tflite.read(model)
        self._names = list(content.output_names)
        outputs = [content.tensors[index] for index in content.output_names.values()]
        # An ARG_MAX has chosen already.
        self._are_classes = [_are_classes(tensor) for tensor in outputs]
        self.is_classifier = task.name == "classification" and all(
            chosen or (len(tensor.shape) == 2 and tensor.shape[-1] > 1)
            for tensor, chosen in zip(outputs, self._are_classes, strict=True)
        )
        one_each = [_is_row_each(tensor, content.inputs[0]) for tensor in outputs]
        self._scored = _scored(dataset, task, outputs, prepare.input_shape, one_each)
        self._model = model
        self._seen: dict[bytes, dict[str, Any]] = {}
        self._reference: list[np.ndarray] = []

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
        predict = verify.Predictor(content)
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
            _compare(name, truth, found)
            for name, (truth, found, _) in zip(self._names, pairs, strict=True)
        ]
        # The numbers of classes have no distance, unless there is nothing else.
        reals = [
            line
            for line, are_classes in zip(table, self._are_classes, strict=True)
            if not are_classes
        ]
        row["sqnr_db"] = min(line["sqnr_db"] for line in reals or table)
        return {**row, "outputs": table}


def _compare(name: str, truth: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Returns an output's error, in dB and in its own unit."""
    if truth.shape != found.shape:  # Some outputs are as long as they have to be.
        return {"output": name, "sqnr_db": -_MOST_DB, "rms": 0.0, "rms_error": 0.0}
    truth, found = truth.astype(np.float64), found.astype(np.float64)
    return {
        "output": name,
        "sqnr_db": float(np.clip(tasks.sqnr_db(truth, found), -_MOST_DB, _MOST_DB)),
        "rms": float(np.sqrt(np.square(truth).mean())),
        "rms_error": float(np.sqrt(np.square(truth - found).mean())),
    }


def _is_row_each(output: tflite.Tensor, source: tflite.Tensor) -> bool:
    """Whether an output has one row for each example of a batch."""
    if not output.shape:
        return source.shape[0] == 1
    return output.shape_signature[0] == source.shape_signature[0]


def _are_classes(tensor: tflite.Tensor) -> bool:
    return tensor.quantization is None and tensor.dtype in ("int32", "int64")


def _scored(
    dataset: data.Dataset,
    task: tasks.Task,
    outputs: Sequence[tflite.Tensor],
    input_shape: tuple[int, ...],
    one_each: Sequence[bool],
) -> int | None:
    """Returns the number of the output that the targets are of; None if of none.

    Raises:
        ConfigError: it is a reconstruction without an output of the input's shape.
    """
    if task.name == "reconstruction":
        for number, output in enumerate(outputs):
            if output.shape[1:] == input_shape:
                return number
        raise errors.ConfigError(
            f"--task=reconstruction needs an output of the input's shape, "
            f"{list(input_shape)}; the model's is {list(outputs[0].shape[1:])}."
        )
    # Outputs that are not one row an example are of no example.
    fits = [
        _fit(dataset, task, output) if is_row_each else _NO
        for output, is_row_each in zip(outputs, one_each, strict=True)
    ]
    # Of two that only might be it neither is.
    is_clear = max(fits) == _SURE or fits.count(_MAYBE) == 1
    return fits.index(max(fits)) if is_clear else None


def _fit(dataset: data.Dataset, task: tasks.Task, output: tflite.Tensor) -> int:
    """Returns how well the targets fit an output: not at all, perhaps or surely."""
    targets, shape = dataset.test.targets, output.shape
    if task.name != "classification":
        fits = targets.dtype.kind == "f" and targets.shape[1:] == shape[1:]
        return _SURE if fits else _NO
    if targets.dtype.kind != "i":
        return _NO
    if _are_classes(output):
        rows = output.shape[0] if output.shape else 1
        return _SURE if output.size == rows else _NO
    if len(shape) != 2 or shape[-1] < 2:
        return _NO
    names = dataset.class_names
    if len(names) == shape[-1]:
        return _SURE
    # Folders are numbered by their names: other folders would be other classes.
    are_numbers = names == tuple(str(index) for index in range(len(names)))
    return _MAYBE if are_numbers and targets.max() < shape[-1] else _NO


def load(values: flags.FlagValues, model: bytes) -> Data:
    """Loads what the flags `--data`, `--preprocessing` and `--task` name."""
    if values.data is None:
        return Data(model)
    content = tflite.read(model)
    known = feeding.known(values, content)
    task = tasks.resolve(values.task)
    dataset = data.load(values.data, seed=values.seed)
    prepare = feeding.preprocessing_for(values, content, known, dataset)
    batch = content.inputs[0].shape[0] if content.inputs[0].shape else 1
    samples, unseen = (
        feeding.grouped(
            data.calibration_samples(split, prepare, count, values.seed), batch
        )
        for split, count in ((dataset.train, values.samples), (dataset.test, 32))
    )
    model = quantization.sized_for_first(model, samples)
    test = None
    if values.eval_samples:
        test = Test(
            model,
            dataset,
            prepare,
            task,
            num_examples=values.eval_samples,
            seed=values.seed,
        )
    return Data(model, samples, unseen, test)
