"""The step that times an export's files, on this computer and on phones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from tfslim import benchmark, errors, registry
from tfslim.benchmark import android, baseline, comparison, host

RUNNERS = ("host", "android")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """What `config.benchmark` asks for.

    Attributes:
        runners: names in `RUNNERS`; none: nothing is timed.
        options: of both runners; the phone may have another delegate.
        phone_delegate: delegate on the phone.
        android: which phones, and how.
    """

    runners: tuple[str, ...]
    options: benchmark.Options
    phone_delegate: str
    android: android.AndroidOptions


def plan(config: ml_collections.ConfigDict) -> Timing:
    """Reads the config.

    Raises:
        ConfigError: an unknown runner, or a value out of range.
    """
    fields = config.benchmark.to_dict()
    runners = tuple(dict.fromkeys(fields.pop("runners")))
    for name in runners:
        if name not in RUNNERS:
            raise registry.unknown_name("benchmark runner", name, known=RUNNERS)
    phone = fields.pop("android")
    timing = Timing(
        runners=runners,
        phone_delegate=phone.pop("delegate"),
        options=benchmark.Options(**fields),
        android=android.AndroidOptions(**phone),
    )
    if "host" in runners and timing.options.delegate not in host.DELEGATES:
        raise registry.unknown_name(
            "delegate of the host", timing.options.delegate, known=host.DELEGATES
        )
    if "android" in runners:
        android.check_delegate(_on_phone(timing).delegate, timing.android.runtime)
    return timing


def require_phones(timing: Timing) -> None:
    """Raises ConfigError where a phone is asked for and none is ready."""
    if "android" in timing.runners:
        android.find_devices(timing.android)


def _on_phone(timing: Timing) -> benchmark.Options:
    return dataclasses.replace(timing.options, delegate=timing.phone_delegate)


def run(
    contents: Mapping[str, bytes], timing: Timing, *, on_step: Callable[[str], None]
) -> tuple[dict[str, dict[str, Any]], errors.BenchmarkError | None]:
    """Times the files.

    Returns:
        Name -> what a row of the result gets: "benchmark" with the host's figures and
        "comparison" with those of the first file,
        "android" a list with one entry a phone, each compared with the first file. And
        what went wrong: that must not cost the results that stand.
    """
    rows: dict[str, dict[str, Any]] = {name: {} for name in contents}
    problem: errors.BenchmarkError | None = None
    if "host" in timing.runners:
        on_step(f"timing {_files(contents)} on this machine")
        results, problem = _run_host(contents, timing.options)
        for result, change in comparison.with_first(results) if results else ():
            rows[result.name]["benchmark"] = result.to_json()
            rows[result.name]["comparison"] = change and change.to_json()
    if "android" in timing.runners:
        on_step(f"timing {_files(contents)} on Android")
        sessions, on_phone = _run_phones(contents, timing, on_step=on_step)
        problem = problem or on_phone
        for results in sessions:
            for row in comparison.with_first(results):
                entry = baseline.row_to_json(row)
                rows[row[0].name].setdefault("android", []).append(entry)
    return rows, problem


def _files(contents: Mapping[str, bytes]) -> str:
    return f"{len(contents)} file{'' if len(contents) == 1 else 's'}"


def _run_host(
    contents: Mapping[str, bytes], options: benchmark.Options
) -> tuple[list[benchmark.BenchmarkResult], errors.BenchmarkError | None]:
    """Times the files that run here, and says why another one does not."""
    good, problem = {}, None
    for name, content in contents.items():
        try:
            benchmark.check_host(name, content, options=options)
        except errors.BenchmarkError as error:
            problem = problem or error
        else:
            good[name] = content
    try:
        return benchmark.run_host(good, options) if good else [], problem
    except errors.BenchmarkError as error:
        return [], problem or error


def _run_phones(
    contents: Mapping[str, bytes], timing: Timing, *, on_step: Callable[[str], None]
) -> tuple[list[list[benchmark.BenchmarkResult]], errors.BenchmarkError | None]:
    jobs = [_on_phone(timing)]
    try:
        done = android.run_android(
            contents, jobs, android=timing.android, on_step=on_step
        )
    except android.SomeDevicesFailedError as error:
        return error.sessions, error
    except errors.BenchmarkError as error:
        return [], error
    return done, None
