"""The variants of a float file: each made, checked and written, or left out."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import ml_collections

import tfslim
from tfslim import errors, evaluation, quantization, tasks
from tfslim.pipeline import choices, cost_split, proving
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import timing as timing_lib

OnStep = Callable[[str], None]
SCHEMA_VERSION = 1


class Judge(Protocol):
    """Holds files against the float one."""

    def goal(self, max_drop: float) -> evaluation.Goal:
        """Returns what a drop of `max_drop` points means."""
        ...

    def value(self, key: str, content: bytes) -> float:
        """Returns the figure of a file that a goal names."""
        ...

    def check(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns what the result says of a file; raises if it is of no use."""
        ...


@dataclasses.dataclass(kw_only=True)
class Made:
    """What was made.

    Attributes:
        rows: what the result says of each variant.
        contents: name -> file.
        consumers: name -> consumer -> what came of the file in it.
        failed: variant -> why it could not be made.
        notes: what the user should know.
        warnings: what speaks against the figures.
        histograms: what the activations are, and the ranges chosen, for the page.
        problem: what the job ends with though all else is written.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    contents: dict[str, bytes] = dataclasses.field(default_factory=dict)
    consumers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    histograms: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    problem: errors.TfslimError | None = None

    @property
    def files(self) -> dict[str, bytes]:
        """Name of the file -> its content."""
        return {row["file"]: self.contents[row["name"]] for row in self.rows}

    def time(
        self,
        timing: timing_lib.Timing,
        on_step: OnStep,
        first: Mapping[str, bytes] = types.MappingProxyType({}),
    ) -> dict[str, dict[str, Any]]:
        """Times the files after those of `first`; returns the figures of each."""
        timings, problem = timing_lib.run(
            {**first, **self.contents}, timing, on_step=on_step
        )
        if problem is not None:
            self.notes.append(f"Not timed: {problem}")
            self.problem = self.problem or problem
        for row in self.rows:
            row |= timings[row["name"]]
        return timings

    def prove(
        self, names: Sequence[str], truth: proving.Truth, on_step: OnStep
    ) -> None:
        """Runs the files in consumers, and warns of those that get them wrong."""
        self.consumers = proving.prove(
            self.contents, names, truth=truth, on_step=on_step
        )
        self.warnings += proving.warnings(self.consumers)

    def to_json(
        self, config: ml_collections.ConfigDict, task: tasks.Task
    ) -> dict[str, Any]:
        """Returns the part of `result.json` that every export has."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tfslim": tfslim.__version__,
            "config": json.loads(config.to_json()),
            "task": {
                "name": task.name,
                "metric": task.metric_name,
                "agreement": task.agreement_name,
                "higher_is_better": task.higher_is_better,
            },
            "variants": self.rows,
            "failed": self.failed,
            "warnings": self.warnings,
            "consumers": self.consumers,
            "skipped": self.notes,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes one variant after another.

    Attributes:
        float_file: that all are made from.
        samples: to calibrate with.
        layers: layer -> recipe, which the config's own come before.
        chosen: what is made.
        judge: checks the files.
        folder: where they are written.
        made: where it is noted.
        on_step: called with a line of text before each step.
    """

    float_file: bytes
    samples: Iterable[Any] | None
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    chosen: choices.Choices
    judge: Judge
    folder: folder_lib.Folder
    made: Made
    on_step: OnStep

    def add_all(self) -> None:
        """Makes a variant by each recipe that was chosen."""
        for recipe in self.chosen.recipes:
            self.on_step(f"quantizing and verifying {recipe.name}")
            self.put(recipe.name, functools.partial(self._quantized, recipe))

    def put(
        self,
        name: str,
        make: Callable[[], tuple[dict[str, Any], bytes]],
        *,
        was_named: bool = False,
    ) -> None:
        """Writes the variant that `make` gives, row and file, or notes why not."""
        try:
            row, content = make()
        except errors.ConfigError:
            raise
        except errors.TfslimError as error:
            self.on_step(f"{name} is left out: {error}")
            self.made.failed[name] = str(error)
            if was_named or self.chosen.are_named:
                self.made.problem = self.made.problem or type(error)(
                    f"{name} could not be made, the rest is written: {error}"
                )
            return
        self.folder.write_bytes(row["file"], content)
        self.made.rows.append(row)
        self.made.contents[name] = content

    def require_any(self) -> None:
        """Raises QuantizationError if there is no variant."""
        if not self.made.rows:
            reasons = [f"{name}: {why}" for name, why in self.made.failed.items()]
            raise errors.QuantizationError(
                f"None of the files could be made. {' '.join(reasons)}"
            )

    def _quantized(self, recipe: quantization.Recipe) -> tuple[dict[str, Any], bytes]:
        is_static, given = recipe.scheme == "static_int8", self.chosen.quantization
        options = dataclasses.replace(
            given,
            layers={**self.layers, **given.layers},
            io=given.io if is_static else None,
        )
        choice = cost_split.choose(
            self.float_file, recipe, options=options, samples=self.samples, mode="auto"
        )
        if choice.layers:
            options = dataclasses.replace(options, layers=choice.layers)
        if choice.report:
            self.made.notes += choice.notes
        accurate = quantization.quantize_accurately(
            self.float_file,
            recipe,
            samples=self.samples,
            options=options,
            # Ranges kept from an earlier run are those of 8-bit activations.
            ranges=self.chosen.ranges if is_static else None,
            passes=self._passes,
        )
        fallen: dict[str, Any] = {}
        if is_static and self.chosen.max_drop is not None:
            accurate, fallen = self._keep_accuracy(
                recipe.name, accurate, options=options
            )
        done = accurate.quantized
        self.made.warnings += done.doubts
        row = describe(recipe, accurate) | fallen
        if choice.report:
            kept = cost_split.with_reasons(done.kept_float, choice.reasons)
            row |= {"kept_float": kept, "costs": choice.report}
        row |= self.judge.check(recipe.name, done.tflite)
        if is_static and done.calibration:
            self.folder.write_ranges(done.calibration, self.float_file)
            if self.samples is not None and not self.made.histograms:
                self.made.histograms = quantization.histograms(
                    accurate.source, self.samples, calibration=done.calibration
                )
        return row, done.tflite

    @functools.cached_property
    def _passes(self) -> quantization.FloatPasses:
        """What one recipe has run of the float file, for the next."""
        return quantization.FloatPasses(self.float_file, self.samples or ())

    def _keep_accuracy(
        self,
        name: str,
        accurate: quantization.AccurateResult,
        *,
        options: quantization.Options,
    ) -> tuple[quantization.AccurateResult, dict[str, Any]]:
        """Returns layers to float, worst first, where INT8 misses the goal."""
        max_drop, samples = self.chosen.max_drop, self.samples
        if max_drop is None or samples is None:
            raise errors.ConfigError("--max_drop needs data to calibrate with.")
        goal = self.judge.goal(max_drop)
        self.on_step(f"--max_drop: {goal.least:.4f} wanted, as {goal.reason}")
        found = quantization.keep_accuracy(
            accurate,
            self.float_file,
            samples=samples,
            evaluate=lambda content: self.judge.value(goal.key, content),
            least=goal.least,
            options=options,
            passes=self._passes,
            on_step=self.on_step,
        )
        if not found.is_met:
            self.made.problem = self.made.problem or errors.QuantizationError(
                f"{name}.tflite is written, but --max_drop={max_drop:g} "
                f"({goal.reason}; {goal.least:.4f} wanted) cannot be met: with all "
                "layers in float it is missed, too. Test on more examples."
            )
        return found.accurate, {
            "goal": dataclasses.asdict(goal),
            "is_met": found.is_met,
            "fallback": [dataclasses.asdict(step) for step in found.steps],
        }


def sizes(content: bytes) -> dict[str, int]:
    """Returns a file's size as it is and packed."""
    return {
        "size_bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, 6, mtime=0)),
    }


def describe(
    recipe: quantization.Recipe, accurate: quantization.AccurateResult
) -> dict[str, Any]:
    """Returns what the result says of a variant before it is checked and timed."""
    done = accurate.quantized
    calibrated = done.calibration
    return {
        "name": recipe.name,
        "file": f"{recipe.name}.tflite",
        "calibration": calibrated
        and {
            "method": calibrated.method,
            "num_samples": calibrated.num_samples,
            "trials": [dataclasses.asdict(trial) for trial in calibrated.trials],
            "steps": accurate.steps,
            "taken": accurate.taken,
        },
        "scheme": recipe.scheme,
        **sizes(done.tflite),
        "kept_float": [dataclasses.asdict(kept) for kept in done.kept_float],
    }
