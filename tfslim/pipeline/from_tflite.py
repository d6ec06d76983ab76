"""An export from a float `.tflite`: quantized, verified, timed and reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from tfslim import errors, evaluation, preprocessing, tflite
from tfslim.benchmark import environment
from tfslim.data.file_inputs import FeedOptions
from tfslim.pipeline import choices, file_data, pages, pixels, proving
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import timing as timing_lib
from tfslim.pipeline.maker import Made, Maker

OnStep = Callable[[str], None]

# Examples that every file is tested on.
_NUM_EXAMPLES = 1000
_PIXELS = "The files take pixels in 0..255: a convolution in front normalizes them."


def is_file(model: Any) -> bool:
    """Tells whether a model is the path of a `.tflite`."""
    return isinstance(model, str | Path) and str(model).endswith(".tflite")


def export_file(
    path: str,
    config: ml_collections.ConfigDict,
    *,
    folder: Path,
    overwrite: bool,
    on_step: OnStep,
) -> dict[str, Any]:
    """Quantizes a file by each recipe of a config, and writes the folder.

    Args:
        path: of a float `.tflite`.
        config: as `export_model` takes it; what trains or cuts is refused.
        folder: of the results.
        overwrite: whether it may hold others.
        on_step: called with a line of text before each step.

    Returns:
        The content of `result.json`.

    Raises:
        ConfigError: something asked for does not exist, or is not for a file.
        TfslimError: the file cannot be read, or a variant that was asked for by name
            cannot be made; all else is written.
    """
    folder_lib.claim(folder, overwrite)
    config = choices.resolve(path, config, has_data=False)
    choices.check_names(config)
    chosen = choices.look_up(config)
    timing_lib.require_phones(chosen.timing)
    proving.require(config.verify.consumers)
    model, is_inside = pixels.of_file(tflite.open_file(path), config)
    data = _load(path, model, config=config, is_inside=is_inside)
    if data.test is None:
        raise errors.ConfigError(f"'{path}' is quantized already; there is no export.")
    has_data = config.data.spec is not None
    tflite.Runner(data.model)  # What the runtime refuses would fail later.
    names = [recipe.name for recipe in chosen.recipes]
    # Random inputs say nothing of ranges and labels.
    notes = [_PIXELS] if is_inside else []
    made = Made(notes=[*notes, *(data.notes if has_data else ())])
    with folder_lib.taken(folder, overwrite, variants=names) as own:
        own.start()
        maker = Maker(
            float_file=data.model,
            samples=data.calibration if has_data else None,
            chosen=chosen,
            judge=_Judge(data.test, has_data),
            folder=own,
            made=made,
            on_step=on_step,
        )
        maker.add_all()
        maker.require_any()
        is_proved = bool(has_data and config.verify.consumers)
        truth = _truth(data.test, data, is_needed=is_proved)
        made.prove(config.verify.consumers, truth, on_step)
        made.time(chosen.timing, on_step)
        content = _result(path, config, data=data, test=data.test) | made.to_json(
            config, data.test.task
        )
        more = {"histograms": made.histograms}
        pages.write(own, content, config=config, files=made.files, more=more)
    if made.problem is not None:
        raise made.problem
    return content


def _truth(
    test: evaluation.FileTest, data: file_data.Data, *, is_needed: bool
) -> proving.Truth:
    """Returns what the file as given answers on the data."""
    if not is_needed:
        return proving.Truth(inputs=None)
    names, fields = list(tflite.read(data.model).input_names), data.preprocessing
    inputs = proving.as_pictures(
        proving.first_inputs(test.batches(), names),
        preprocessing.Preprocessing.from_json(fields) if fields else None,
    )
    predict = evaluation.Predictor(data.model)
    outputs = predict(inputs if len(inputs) > 1 else inputs[0])
    return proving.Truth(inputs=inputs, outputs=outputs, name="given")


def _load(
    path: str, model: bytes, *, config: ml_collections.ConfigDict, is_inside: bool
) -> file_data.Data:
    """Loads the data; random inputs where there is none."""
    if config.training.epochs or config.steps or config.prune.method:
        raise errors.ConfigError(
            f"'{path}' is converted already: it cannot be trained or cut. Give the "
            "Keras model, or leave out --epochs, --steps, --prune and --factorize."
        )
    spec, preset = config.data.spec, config.model.preprocessing
    if is_inside:
        preset = "raw"
    feed = FeedOptions(
        # They tell whether a file still does what the float one does.
        data=spec or "synthetic",
        preprocessing=preset if preset != "auto" else None if spec else "raw",
        input_shape=",".join(map(str, config.model.input_shape)),
        seed=config.seed,
        model=f"'{path}'",
    )
    return file_data.load(
        model,
        feed,
        task=_task(config, tflite.read(model)),
        num_samples=config.quantization.calibration_samples,
        num_test=_NUM_EXAMPLES if spec else config.verify.num_samples,
    )


def _task(config: ml_collections.ConfigDict, content: tflite.TfliteModel) -> str:
    """Returns the task's name; by the shapes, where the config does not say."""
    if config.task != "auto":
        return str(config.task)
    shapes = [tensor.shape for tensor in content.outputs]
    if shapes == [tensor.shape for tensor in content.inputs]:
        return "reconstruction"
    is_row = len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][-1] > 1
    return "classification" if is_row else "regression"


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Holds files against the one that was given.

    Attributes:
        test: measures them.
        has_data: whether it is on real data, or on random inputs.
    """

    test: evaluation.FileTest
    has_data: bool

    def goal(self, max_drop: float) -> evaluation.Goal:
        return self.test.goal(max_drop)

    def value(self, key: str, content: bytes) -> float:
        return float(self.test(content)[key])

    def check(self, name: str, content: bytes) -> dict[str, Any]:
        figures, task = self.test(content), self.test.task
        if fault := self.test.fault(content):
            raise errors.VerificationError(f"The {name} file is of no use: {fault}.")
        return {
            "against": "the file as given",
            "metric": figures.get(task.metric_name) if self.has_data else None,
            "change": self.test.change(content) if self.has_data else None,
            "parity": {
                "num_samples": len(self.test.outputs[0]),
                "sqnr_db": figures["sqnr_db"],
                "agreement": figures.get(task.agreement_name),
            },
        }


def _result(
    path: str,
    config: ml_collections.ConfigDict,
    *,
    data: file_data.Data,
    test: evaluation.FileTest,
) -> dict[str, Any]:
    content, has_data = tflite.read(data.model), config.data.spec is not None
    constants = [t for t in content.tensors if t.is_constant]
    return {
        "model": {
            "name": Path(path).name,
            "input_shape": [list(tensor.shape[1:]) for tensor in content.inputs],
            "params": sum(t.size for t in constants if t.dtype.startswith("float")),
            "macs": None,
            "preprocessing": data.preprocessing,
            "keras": None,
        },
        "data": {
            "spec": config.data.spec or "none",
            "test": len(test.outputs[0]),
            "notes": [test.doubt] if has_data and test.doubt else [],
        },
        "training": None,
        "slimming": [],
        "keras_metric": None,
        "original": None,
        "versions": environment.versions("ai-edge-litert", "litert-quantizer"),
    }
