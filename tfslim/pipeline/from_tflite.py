"""An export from a float `.tflite`: quantized, verified, timed and reported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

import tfslim
from tfslim import errors, evaluation, quantization, report, tflite
from tfslim.benchmark import environment
from tfslim.data.file_inputs import FeedOptions
from tfslim.pipeline import choices, file_data, rows
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import timing as timing_lib
from tfslim.preprocessing import Preprocessing

OnStep = Callable[[str], None]

# Examples that every file is tested on.
_NUM_EXAMPLES = 1000


def is_file(model: Any) -> bool:
    """Tells whether a model is the path of a `.tflite`."""
    return isinstance(model, str | Path) and str(model).endswith(".tflite")


def export_file(
    path: str,
    config: ml_collections.ConfigDict,
    folder: Path,
    *,
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
    model = tflite.open_file(path)
    data = _load(path, model, config)
    if data.test is None:
        raise errors.ConfigError(f"'{path}' is quantized already; there is no export.")
    if config.data.spec is None:  # Random inputs say nothing of ranges and labels.
        data = dataclasses.replace(data, calibration=None, notes=())
    tflite.Runner(data.model)  # What the runtime refuses would fail later.
    names = [recipe.name for recipe in chosen.recipes]
    with folder_lib.taken(folder, overwrite, names) as own:
        own.start()
        maker = _Maker(own, chosen, data, on_step)
        for recipe in chosen.recipes:
            maker.add(recipe)
        maker.time()
        content = _result(path, config, maker)
        own.write_text(folder_lib.CONFIG, config.to_json(indent=2) + "\n")
        own.write_text(folder_lib.REPORT, report.to_markdown(content))
        own.write_json(folder_lib.RESULT, content)
        own.finish()
    if maker.problem is not None:
        raise maker.problem
    return content


def _load(path: str, model: bytes, config: ml_collections.ConfigDict) -> file_data.Data:
    """Loads the data; random inputs where there is none."""
    if config.training.epochs or config.steps or config.prune.method:
        raise errors.ConfigError(
            f"'{path}' is converted already: it cannot be trained or cut. Give the "
            "Keras model, or leave out --epochs, --steps, --prune and --factorize."
        )
    spec, preset = config.data.spec, config.model.preprocessing
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


class _Maker:
    """Makes, tests and writes one variant after another."""

    def __init__(
        self,
        folder: folder_lib.Folder,
        chosen: choices.Choices,
        data: file_data.Data,
        on_step: OnStep,
    ):
        self._folder, self._chosen = folder, chosen
        self._on_step, self.data = on_step, data
        self.rows: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}
        self.failed: dict[str, str] = {}
        self.notes = list(data.notes)
        self.problem: errors.TfslimError | None = None

    def add(self, recipe: quantization.Recipe) -> None:
        """Makes the variant of a recipe, or notes why it cannot be made."""
        self._on_step(f"quantizing and verifying {recipe.name}")
        try:
            row, content = self._made(recipe)
        except errors.ConfigError:
            raise
        except errors.TfslimError as error:
            self._on_step(f"{recipe.name} is left out: {error}")
            self.failed[recipe.name] = str(error)
            if self._chosen.are_named:
                self.problem = self.problem or error
            return
        self._folder.write_bytes(row["file"], content)
        self.rows.append(row)
        self.contents[recipe.name] = content

    def _made(self, recipe: quantization.Recipe) -> tuple[dict[str, Any], bytes]:
        is_static = recipe.scheme == "static_int8"
        options = self._chosen.quantization
        if not is_static:
            options = dataclasses.replace(options, io="float")
        accurate = quantization.quantize_accurately(
            self.data.model,
            recipe,
            samples=self.data.calibration,
            options=options,
            ranges=self._chosen.ranges if is_static else None,
        )
        test = self.data.test
        assert test is not None  # noqa: S101 - asked for first.
        fallen: dict[str, Any] = {}
        if is_static and self._chosen.max_drop is not None:
            accurate, fallen = self._keep_accuracy(accurate, test, options)
        done = accurate.quantized
        figures = test(done.tflite)
        if fault := test.fault(done.tflite):
            raise errors.VerificationError(f"The {recipe.name} file: {fault}.")
        if is_static and done.calibration:
            self._folder.write_ranges(done.calibration, self.data.model)
        has_data = self.data.calibration is not None
        row = rows.describe(recipe, accurate) | fallen
        row["against"] = "the file as given"
        row["metric"] = figures.get(test.task.metric_name) if has_data else None
        row["parity"] = {
            "num_samples": len(test.outputs[0]),
            "sqnr_db": figures["sqnr_db"],
            "agreement": figures.get(test.task.agreement_name),
        }
        return row, done.tflite

    def _keep_accuracy(
        self,
        accurate: quantization.AccurateResult,
        test: evaluation.FileTest,
        options: quantization.Options,
    ) -> tuple[quantization.AccurateResult, dict[str, Any]]:
        """Returns layers to float, worst first, where INT8 costs too much."""
        max_drop, samples = self._chosen.max_drop, self.data.calibration
        if max_drop is None or samples is None:
            raise errors.ConfigError("--max_drop needs data to calibrate with: --data.")
        goal = test.goal(max_drop)
        found = quantization.keep_accuracy(
            accurate,
            self.data.model,
            samples,
            evaluate=lambda content: float(test(content)[goal.key]),
            least=goal.least,
            options=options,
            on_step=self._on_step,
        )
        if not found.is_met:
            self.problem = self.problem or errors.QuantizationError(
                f"The file is written, but --max_drop={max_drop:g} ({goal.reason}; "
                f"{goal.least:.4f} wanted) cannot be met: with all layers in float it "
                "is missed, too. Test on more examples."
            )
        return found.accurate, {
            "goal": dataclasses.asdict(goal),
            "is_met": found.is_met,
            "fallback": [dataclasses.asdict(step) for step in found.steps],
        }

    def time(self) -> None:
        """Times all that was made."""
        if not self.rows:
            reasons = [f"{name}: {reason}" for name, reason in self.failed.items()]
            raise errors.QuantizationError(
                f"None of the files could be made. {' '.join(reasons)}"
            )
        timings, problem = timing_lib.run(
            self.contents, self._chosen.timing, self._on_step
        )
        if problem is not None:
            self.notes.append(f"Not timed: {problem}")
            self.problem = self.problem or problem
        for row in self.rows:
            row |= timings[row["name"]]


def _result(
    path: str, config: ml_collections.ConfigDict, maker: _Maker
) -> dict[str, Any]:
    content = tflite.read(maker.data.model)
    test = maker.data.test
    assert test is not None  # noqa: S101 - asked for first.
    constants = [t for t in content.tensors if t.is_constant]
    return {
        "schema_version": 1,
        "tfslim": tfslim.__version__,
        "config": json.loads(config.to_json()),
        "model": {
            "name": Path(path).name,
            "input_shape": [list(tensor.shape[1:]) for tensor in content.inputs],
            "params": sum(t.size for t in constants if t.dtype.startswith("float")),
            "macs": None,
            "preprocessing": _json(maker.data.prepare),
            "keras": None,
        },
        "task": {
            "name": test.task.name,
            "metric": test.task.metric_name,
            "agreement": test.task.agreement_name,
            "higher_is_better": test.task.higher_is_better,
        },
        "data": {
            "spec": config.data.spec or "none",
            "test": len(test.outputs[0]),
            "notes": [test.doubt] if config.data.spec and test.doubt else [],
        },
        "training": None,
        "slimming": [],
        "keras_metric": None,
        "original": None,
        "variants": maker.rows,
        "failed": maker.failed,
        "warnings": [],
        "skipped": maker.notes,
        "versions": environment.versions("ai-edge-litert", "litert-quantizer"),
    }


def _json(prepare: Any) -> dict[str, Any] | None:
    """Returns the preprocessing as JSON; None where examples are taken as they are."""
    return prepare.to_json() if isinstance(prepare, Preprocessing) else None
