"""Times .tflite files on this computer or on phones, and says whether they differ.

All files run interleaved in rounds; each is compared with the first. The verdict is
that of a confidence interval over the rounds.

  tfslim benchmark float32.tflite int8.tflite --num_threads=1,2
  tfslim benchmark model.tflite --profile
  tfslim benchmark new.tflite --baseline=old.tflite --max_regression=5%
  tfslim benchmark float32.tflite int8.tflite --android

--baseline also takes the .json of an earlier run. --android needs the adb client
and a phone with USB debugging on.

Exit codes: 0 done, 1 a file failed or regressed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from absl import flags

from tfslim import cli, errors, files, report
from tfslim.benchmark import (
    BenchmarkResult,
    Comparison,
    Options,
    android,
    baseline,
    check_host,
    compare,
    comparison,
    profile_host,
    run_host,
)
from tfslim.benchmark.profile import SOURCE
from tfslim.report import progress

T = TypeVar("T")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("files", [], "The .tflite files."),
        ("num_threads", "1", "Threads; several by comma are timed one after another."),
        ("num_runs", 100, "Timed runs a file, at least."),
        ("min_secs", 1.0, "Seconds of timed runs a file, at least."),
        ("rounds", 20, "Interleaved rounds; a verdict needs 8."),
        ("warmup_runs", 5, "Untimed runs before the first round, at least."),
        ("warmup_secs", 0.1, "Seconds of untimed runs before, at least."),
        ("delegate", "xnnpack", "xnnpack, none; on phones gpu, nnapi or npu, too."),
        ("profile", False, "Also time every op."),
        ("baseline", str, "An older .tflite, or the .json of an earlier run."),
        ("max_regression", "5%", "Slower than the baseline by more: exit code 1."),
        ("confidence", 0.99, "Of the intervals, between 0 and 1."),
        ("out", [], "Files to write the results to, by comma: a .json, a .md."),
        ("json", str, "The same as --out with a .json."),
        ("markdown", str, "The same as --out with a .md, for a pull request."),
        ("android", False, "Run on phones, over adb."),
        (
            "runtime",
            "interpreter",
            "On phones: interpreter, or compiled (LiteRT 2's CompiledModel).",
        ),
        ("serial", "", "Which phones, by comma, or all; none: the only one."),
        ("benchmark_binary", "", "benchmark_model for the phone; none: a download."),
        ("device_dir", "/data/local/tmp", "Folder on the phone for a private one."),
        ("keep_files", False, "Leave the files on the phone."),
        ("cooldown_secs", 60.0, "Longest wait for a phone to cool down, each time."),
        ("timeout_secs", 600.0, "For one push or one run on a phone."),
        ("reconnect_secs", 20.0, "Longest wait for a phone that went away."),
    )


def _run(values: flags.FlagValues, _: Any) -> None:
    allowed = _share(values.max_regression)
    jobs = [
        _fields(Options, values, num_threads=number)
        for number in _threads(values.num_threads)
    ]
    comparison.min_rounds(values.confidence)  # Refuses a wrong one before any run.
    _read_out(values)
    for flag in ("json", "markdown"):
        if values[flag].value:
            files.require_writable(values[flag].value, f"--{flag}")
    models = _models([Path(name) for name in values.files], values.baseline)
    old = None
    if values.baseline and not values.baseline.endswith(".tflite"):
        old = baseline.read(Path(values.baseline))
    problem: errors.BenchmarkError | None = None
    if values.android:
        sessions, problem = _time_on_phones(values, models, jobs=jobs)
    else:
        models, problem = _good(models, jobs[0], baseline_path=values.baseline)
        sessions = _time_here(values, models, jobs=jobs)
    rows: list[baseline.Row] = []
    for results in sessions:
        if old is None:
            rows += comparison.with_first(results, confidence=values.confidence)
        else:
            rows += [
                (result, _with_old(result, old, values=values)) for result in results
            ]
    content = baseline.to_json(rows)
    if values.json:
        files.write_json(values.json, content)
    if values.markdown:
        files.write_text(values.markdown, report.latency_to_markdown(content["rows"]))
    report.latency_to_terminal(content["rows"])
    if problem is not None:
        raise problem
    if values.baseline:
        _gate(rows, allowed)


def _read_out(values: flags.FlagValues) -> None:
    """Takes the files that --out names for those of --json and --markdown."""
    for path in values.out:
        flag = {".json": "json", ".md": "markdown"}.get(Path(path).suffix)
        if flag is None:
            raise errors.ConfigError(f"--out must end with .json or .md, got '{path}'.")
        values[flag].value = path


def _time_on_phones(
    values: flags.FlagValues, models: dict[str, bytes], *, jobs: list[Options]
) -> tuple[list[list[BenchmarkResult]], errors.BenchmarkError | None]:
    """Returns the results, and what went wrong on some of the phones."""
    options = _fields(android.AndroidOptions, values)
    with progress.steps() as on_step:
        try:
            return android.run_android(
                models, jobs, android=options, on_step=on_step
            ), None
        except android.SomeDevicesFailedError as error:
            return error.sessions, error


def _good(
    models: dict[str, bytes], options: Options, *, baseline_path: str | None
) -> tuple[dict[str, bytes], errors.BenchmarkError | None]:
    """Returns the files that run, and what is wrong with the others.

    Raises:
        BenchmarkError: none runs, or not the baseline.
    """
    good, faults = {}, []
    for number, (name, data) in enumerate(models.items()):
        try:
            check_host(name, data, options=options)
            good[name] = data
        except errors.BenchmarkError as error:
            faults.append(str(error))
            if not number and baseline_path and baseline_path.endswith(".tflite"):
                raise
    problem = errors.BenchmarkError(" ".join(faults)) if faults else None
    if problem is not None and not good:
        raise problem
    return good, problem


def _time_here(
    values: flags.FlagValues, models: dict[str, bytes], *, jobs: list[Options]
) -> list[list[BenchmarkResult]]:
    """Returns the results in lists: those of one list were interleaved."""
    sessions = [run_host(models, options) for options in jobs]
    if not values.profile:
        return sessions
    return [
        [
            dataclasses.replace(
                result,
                ops=profile_host(models[result.name], result.options),
                ops_source=SOURCE,
            )
            for result in results
        ]
        for results in sessions
    ]


def _with_old(
    result: BenchmarkResult,
    old: Sequence[BenchmarkResult],
    *,
    values: flags.FlagValues,
) -> Comparison:
    before = baseline.match(result, old)
    return compare(before, result, paired=False, confidence=values.confidence)


def _gate(rows: Sequence[baseline.Row], allowed: float) -> None:
    slower = [c for _, c in rows if c is not None and c.is_regression(allowed)]
    if slower:
        worst = max(slower, key=lambda comparison: comparison.ratio)
        raise errors.BenchmarkError(
            f"'{worst.new}' takes {worst.ratio:.3f} of the time of '{worst.base}' "
            f"({worst.confidence:.0%} interval {worst.low:.3f} to {worst.high:.3f}); "
            f"at most {1 + allowed:.3f} is allowed (--max_regression)."
        )


def _models(paths: Sequence[Path], baseline_path: str | None) -> dict[str, bytes]:
    """Reads the files; a .tflite baseline comes first, so that all compare with it."""
    if not paths:
        raise errors.ConfigError("No file was given: tfslim benchmark model.tflite.")
    if baseline_path and baseline_path.endswith(".tflite"):
        paths = [Path(baseline_path), *paths]
    names = [path.name for path in paths]
    models: dict[str, bytes] = {}
    for path in paths:
        name = path.name if names.count(path.name) == 1 else str(path)
        if name in models:
            raise errors.ConfigError(f"'{path}' was given twice. Name each file once.")
        models[name] = files.read_given(path)
    return models


def _fields(kind: type[T], values: flags.FlagValues, **given: Any) -> T:
    """Makes a dataclass from the flags that are called like its fields."""
    names = {field.name for field in dataclasses.fields(cast(Any, kind))} - set(given)
    return kind(**{name: values[name].value for name in names}, **given)


def _threads(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise errors.ConfigError(
            f"--num_threads takes whole numbers by comma, such as 1,2,4; got '{text}'."
        )
    return [int(part) for part in dict.fromkeys(parts)]


def _share(text: str) -> float:
    """Reads "5%" or "0.05"."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise errors.ConfigError(
            f"--max_regression takes a share such as 5% or 0.05; got '{text}'."
        )
    return share


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.benchmark",
    __doc__ or "",
    define_flags,
    _run,
    plain="files",
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
