"""What the data of a file gives: samples to calibrate with, and a test for files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfslim import data, errors, quantization, tasks, tflite
from tfslim.data import file_inputs, file_labels
from tfslim.data.file_inputs import FeedOptions
from tfslim.evaluation import FileTest
from tfslim.preprocessing import Preprocessing

# Of the test split, to look for faults with.
_UNSEEN = 32
# Examples that a file is tested with at a time.
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples and a test; all None without data.

    Attributes:
        model: the file; sizes that it leaves open are written as the data has them.
        calibration: single inputs from the training split.
        unseen: 32 inputs from the test split.
        test: measures files on the test split; None where none is asked for.
        notes: what the user should know about the data, one line each.
        preprocessing: how examples become the input, as JSON; None where they are
            taken as they are.
    """

    model: bytes
    calibration: Iterable[tflite.Inputs] | None = None
    unseen: Iterable[tflite.Inputs] | None = None
    test: FileTest | None = None
    notes: tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None

    @functools.cached_property
    def passes(self) -> quantization.FloatPasses:
        """What one step has run of the file, for the next."""
        return quantization.FloatPasses(self.model, self.calibration or ())

    def tracked(self, on_step: Any) -> Data:
        """Returns the same, with a bar for each pass over the calibration samples."""
        if self.calibration is None:
            return self
        calibration = on_step.track(self.calibration, "samples")
        return dataclasses.replace(self, calibration=calibration)


def load(
    model: bytes,
    options: FeedOptions,
    *,
    task: str = "classification",
    num_samples: int = 300,
    num_test: int = 1000,
) -> Data:
    """Loads the data that a file is calibrated and tested with.

    Args:
        model: the float `.tflite`, or one that is quantized already.
        options: which data, and how they become inputs.
        task: a name in `tasks.TASKS`.
        num_samples: to calibrate with.
        num_test: test examples; 0: nothing is tested.

    Raises:
        ConfigError: the data does not fit the model.
        QuantizationError: the float model guesses, and another preprocessing works.
    """
    content = tflite.read(model)
    if file_inputs.is_passed_on(options, content):
        return Data(model)
    resolved = tasks.resolve(task, content)
    dataset, prepare = file_inputs.prepared(options, content)
    batch = content.inputs[0].shape[0] if content.inputs[0].shape else 1
    samples, unseen = (
        data.calibration_samples(
            split, prepare, num_samples=count, seed=options.seed, batch_size=batch
        )
        for split, count in ((dataset.train, num_samples), (dataset.test, _UNSEEN))
    )
    model = quantization.sized_for_first(model, samples)
    if not num_test:
        return Data(model, samples, unseen, None, dataset.notes)
    order = np.random.default_rng(options.seed).permutation(len(dataset.test))
    examples = data.Subset(dataset.test, np.sort(order[:num_test]))
    test = _test(model, dataset, examples=examples, prepare=prepare, task=resolved)
    doubt = test.doubt_preprocessing(dataset.train, prepare)
    notes = list(dataset.notes)
    # A file that is passed on is none the worse.
    is_wrong = doubt is not None and doubt.better is not None
    if doubt is not None and is_wrong and not content.is_quantized:
        raise errors.QuantizationError(f"{doubt.text} Nothing is written.")
    if doubt is not None and (is_wrong or not test.doubt):
        notes.append(doubt.text)
    return Data(
        model=model,
        calibration=samples,
        unseen=unseen,
        test=test,
        notes=tuple(notes),
        preprocessing=prepare.to_json() if isinstance(prepare, Preprocessing) else None,
    )


def _test(
    model: bytes,
    dataset: data.Dataset,
    *,
    examples: data.Examples,
    prepare: data.Prepare,
    task: tasks.Task,
) -> FileTest:
    """Makes the test of files, and finds the output that the labels are of."""
    content = tflite.read(model)
    outputs = [content.tensors[index] for index in content.output_names.values()]
    rows = [file_labels.is_row_each(tensor, content.inputs[0]) for tensor in outputs]

    def batches() -> Iterator[tuple[Any, Any]]:
        for x, y in data.batches(examples, prepare, batch_size=_BATCH):
            yield x, task.target(x, y)

    return FileTest(
        model,
        batches,
        task,
        scored=file_labels.scored(
            dataset,
            task,
            outputs=outputs,
            input_shape=prepare.input_shape,
            one_each=rows,
        ),
        # An ARG_MAX has chosen already.
        classes=[n for n, o in enumerate(outputs) if file_labels.are_classes(o)],
    )
