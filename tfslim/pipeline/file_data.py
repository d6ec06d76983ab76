"""What `--data` gives: samples to calibrate with, and a test for every file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from absl import flags

from tfslim import data, errors, quantization, tasks, tflite
from tfslim.data import file_feeding
from tfslim.data.file_samples import Test


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples and a test; all None without `--data`.

    Attributes:
        model: the file; sizes that it leaves open are written as the data has them.
        calibration: single inputs from the training split.
        unseen: 32 inputs from the test split.
        test: measures files on the test split; None with --eval_samples=0.
        notes: what the user should know about the data, one line each.
    """

    model: bytes
    calibration: Iterable[tflite.Inputs] | None = None
    unseen: Iterable[tflite.Inputs] | None = None
    test: Test | None = None
    notes: tuple[str, ...] = ()


def load(values: flags.FlagValues, model: bytes) -> Data:
    """Loads what the flags `--data`, `--preprocessing` and `--task` name.

    Raises:
        ConfigError: the data does not fit the model.
        QuantizationError: the float model guesses, and another preprocessing works.
    """
    content = tflite.read(model)
    if values.data is None or file_feeding.is_passed_on(values, content):
        return Data(model)
    task = tasks.resolve(values.task, content)
    dataset, prepare = file_feeding.prepared(values, content)
    batch = content.inputs[0].shape[0] if content.inputs[0].shape else 1
    samples, unseen = (
        file_feeding.grouped(
            data.calibration_samples(split, prepare, count, values.seed), batch
        )
        for split, count in ((dataset.train, values.samples), (dataset.test, 32))
    )
    model = quantization.sized_for_first(model, samples)
    notes = list(dataset.notes)
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
        doubt = test.doubt_preprocessing(dataset.train)
        # A file that is passed on is none the worse.
        is_wrong = doubt is not None and doubt.better is not None
        if doubt is not None and is_wrong and not content.is_quantized:
            raise errors.QuantizationError(f"{doubt.text} Nothing is written.")
        if doubt is not None and (is_wrong or not test.doubt):
            notes.append(doubt.text)
    return Data(model, samples, unseen, test, tuple(notes))
