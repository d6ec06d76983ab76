"""Times `.tflite` files on Android devices with LiteRT's `benchmark_model`."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

from tfslim import errors, settings
from tfslim.benchmark import parse, validity
from tfslim.benchmark.android import binary, phone
from tfslim.benchmark.android.adb import Adb, Device
from tfslim.benchmark.android.session import Session
from tfslim.benchmark.result import BenchmarkResult, LatencyStats, Options, describe

PROFILE_SOURCE = "benchmark_model --enable_op_profiling on the device"

# Runtime -> delegate -> the flag that asks its tool for it.
_DELEGATES = {
    "interpreter": {
        "xnnpack": "use_xnnpack",
        "gpu": "use_gpu",
        "nnapi": "use_nnapi",
        "none": "",
    },
    "compiled": {"xnnpack": "use_cpu", "gpu": "use_gpu", "npu": "use_npu"},
}
_PROFILE = {"interpreter": "enable_op_profiling", "compiled": "use_profiler"}
_TOLERANCE_C = 1.0
_COOLDOWN_STEP_SECS = 2.0

OnStep = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AndroidOptions(settings.Phones):
    """Which devices, and how they are used.

    Attributes:
        serial: as `adb devices` lists it; several by comma; "all"; empty: the only one.
        benchmark_binary: path of `benchmark_model` on this computer; see `binary.find`.
        device_dir: folder on the device in which a private one is made.
        keep_files: leave the files there, so that the next run need not push them.
        cooldown_secs: longest wait, before each run, for the device to be as cool as
            at the start.
        timeout_secs: for one push or one run of the tool.
        reconnect_secs: how long a device that went away is waited for.
        profile: also have the tool time every op, in a run of its own.
    """

    def __post_init__(self) -> None:
        """Checks the fields."""
        super().__post_init__()
        if not self.device_dir.startswith("/"):
            raise errors.ConfigError(
                f"device_dir must be an absolute path on the device, such as "
                f"/data/local/tmp; got '{self.device_dir}'."
            )


def find_devices(android: AndroidOptions) -> list[str]:
    """Returns the serials that a run would use, without touching the devices.

    Raises:
        ConfigError: none or several, one that is not ready, or no file of that name as
            `benchmark_binary`.
    """
    if android.benchmark_binary:
        binary.read(android.benchmark_binary)
    return Adb().choose(android.serial)


def run_android(
    models: Mapping[str, bytes],
    jobs: Sequence[Options],
    *,
    android: AndroidOptions | None = None,
    on_step: OnStep = lambda text: None,
) -> list[list[BenchmarkResult]]:
    """Times the files on one or several devices, each device in its own thread.

    Every round starts the tool anew for each file, in turn (A B, B A, ...).

    Args:
        models: name -> file. Names stay on this computer.
        jobs: what to time all files with, one after another, e.g. 1 and 4 threads.
        android: which devices, and how.
        on_step: called with a line of text at each step; from several threads.

    Returns:
        For each device and each job one list, with the results in the order of
        `models`: those were interleaved and may be compared.

    Raises:
        ConfigError: no device, several without a choice, one that is not ready, a
            binary for another kind of device.
        SomeDevicesFailedError: some did; it has the results of the others.
        BenchmarkError: a file does not run, the device is full, was lost or too slow.
    """
    android = android or AndroidOptions()
    for options in jobs:
        check_delegate(options.delegate, android.runtime)
    adb = Adb()
    serials = adb.choose(android.serial)
    with futures.ThreadPoolExecutor(len(serials)) as pool:
        tasks = [
            pool.submit(
                _Worker(adb, serial, android=android, on_step=on_step).run, models, jobs
            )
            for serial in serials
        ]
        try:
            futures.wait(tasks)
        except BaseException:
            # Ctrl-C: the workers stop and clean up; leaving the block waits for them.
            adb.cancelled.set()
            raise
    problems = [error for task in tasks if (error := task.exception())]
    sessions = [s for task in tasks if not task.exception() for s in task.result()]
    if problems and sessions:
        raise SomeDevicesFailedError(problems, sessions) from problems[0]
    if problems:
        raise problems[0]
    return sessions


class SomeDevicesFailedError(errors.BenchmarkError):
    """Some devices failed; `sessions` has the results of the others."""

    def __init__(
        self,
        problems: Sequence[BaseException],
        sessions: list[list[BenchmarkResult]],
    ):
        """Joins the problems in one message."""
        super().__init__(" ".join(str(problem) for problem in problems))
        self.sessions = sessions


class _Worker:
    """Runs all jobs on one device."""

    def __init__(
        self, adb: Adb, serial: str, *, android: AndroidOptions, on_step: OnStep
    ):
        self._device = Device(adb, serial, wait_secs=android.reconnect_secs)
        self._cancelled: threading.Event = adb.cancelled
        self._android = android
        self._on_step = on_step

    def run(
        self, models: Mapping[str, bytes], jobs: Sequence[Options]
    ) -> list[list[BenchmarkResult]]:
        android, device = self._android, self._device
        facts = phone.read(device)
        # Before anything is pushed: a binary for another device is found here.
        tool = binary.find(
            android.benchmark_binary,
            facts.pop("abis"),
            on_step=self._on_step,
            runtime=android.runtime,
        )
        digest = hashlib.sha256(tool).hexdigest()
        self._on_step(f"{device.serial}: benchmark_model has SHA-256 {digest}")
        facts["versions"] = {"benchmark_model": f"sha256:{digest[:16]}"}
        session = Session(device, android.device_dir, keep=android.keep_files)
        with session:
            secs = android.timeout_secs
            program = session.install(tool, secs=secs, program=True)
            paths = {}
            for name, data in models.items():
                self._on_step(f"{device.serial}: pushing {name}")
                paths[name] = session.install(data, secs=secs)
            return [
                self._run_job(
                    session,
                    program,
                    paths=paths,
                    models=models,
                    options=options,
                    facts=facts,
                )
                for options in jobs
            ]

    def _run_job(
        self,
        session: Session,
        program: str,
        *,
        paths: Mapping[str, str],
        models: Mapping[str, bytes],
        options: Options,
        facts: Mapping[str, Any],
    ) -> list[BenchmarkResult]:
        charge = phone.battery(self._device)
        before = {
            "temperature_before_c": phone.temperature_c(self._device),
            "battery_percent": charge["percent"],
            "charging": charge["charging"],
        }
        mask = phone.big_cores(facts["max_mhz"], options.num_threads)
        prefix = ["taskset", mask, program] if mask else [program]
        outputs: dict[str, list[parse.ToolOutput]] = {name: [] for name in paths}
        rise, names = 0.0, list(paths)
        for index in range(min(options.rounds, options.num_runs)):
            self._on_step(f"{session.device.serial}: round {index + 1}")
            for name in names:
                rise = max(rise, self._cool_down(before["temperature_before_c"]))
                command = [*prefix, *self._arguments(paths[name], options)]
                outputs[name].append(self._run_tool(session, name, command=command))
            names.reverse()
        profiles = self._profiles(session, prefix, paths=paths, options=options)
        after_c = phone.temperature_c(self._device)
        machine = {
            **{key: value for key, value in facts.items() if key != "max_mhz"},
            **before,
            "temperature_after_c": after_c,
            "battery_percent_after": phone.battery(self._device)["percent"],
            "taskset": mask,
            "delegate": options.delegate,
            "runtime": self._android.runtime,
        }
        heat = phone.check(before, after_c, hottest_rise=rise)
        return [
            _result(
                (name, data),
                options,
                outputs=outputs[name],
                profile=profiles.get(name),
                machine=machine,
                heat=heat,
            )
            for name, data in models.items()
        ]

    def _profiles(
        self,
        session: Session,
        prefix: Sequence[str],
        *,
        paths: Mapping[str, str],
        options: Options,
    ) -> dict[str, parse.ToolOutput]:
        """Has the tool time every op, where that is asked for."""
        found = {}
        for name, path in paths.items() if self._android.profile else ():
            command = [*prefix, *self._arguments(path, options, profile=True)]
            found[name] = self._run_tool(session, name, command=command)
        return found

    def _arguments(
        self, path: str, options: Options, *, profile: bool = False
    ) -> list[str]:
        runtime = self._android.runtime
        return arguments(path, options, runtime=runtime, profile=profile)

    def _run_tool(
        self, session: Session, name: str, *, command: list[str]
    ) -> parse.ToolOutput:
        done = session.run(command, secs=self._android.timeout_secs)
        try:
            return parse.parse(
                done.text, exit_code=done.exit_code, runtime=self._android.runtime
            )
        except errors.BenchmarkError as error:
            raise errors.BenchmarkError(
                f"'{name}' on device '{session.device.serial}': {error}"
            ) from error

    def _cool_down(self, start_c: float | None) -> float:
        """Waits for the start's temperature; returns what is left above it, in °C."""
        waited = 0.0
        while start_c is not None:
            now_c = phone.temperature_c(self._device)
            if now_c is None or now_c <= start_c + _TOLERANCE_C:
                return 0.0
            if waited >= self._android.cooldown_secs:
                return now_c - start_c
            step = min(_COOLDOWN_STEP_SECS, self._android.cooldown_secs - waited)
            self._cancelled.wait(step)
            waited += step
        return 0.0


def check_delegate(delegate: str, runtime: str) -> None:
    """Raises ConfigError for a delegate that a runtime's tool does not have."""
    if delegate not in _DELEGATES[runtime]:
        raise errors.ConfigError(
            f"The runtime '{runtime}' has no delegate '{delegate}' on a phone. Choose "
            f"{', '.join(_DELEGATES[runtime])}, or another --runtime."
        )


def arguments(
    path: str,
    options: Options,
    *,
    runtime: str = "interpreter",
    profile: bool = False,
) -> list[str]:
    """Returns the flags of one run of `benchmark_model`: a round's share of the work.

    Sources: https://ai.google.dev/edge/litert/models/measurement,
    https://ai.google.dev/edge/litert/next/benchmark.
    """
    flags = {
        "graph": path,
        "num_threads": options.num_threads,
        "warmup_runs": options.warmup_runs,
        "warmup_min_secs": f"{options.warmup_secs:g}",
        "num_runs": -(-options.num_runs // options.rounds),
        "min_secs": f"{options.min_secs / options.rounds:g}",
        **{
            # LiteRT 2 runs on the CPU what the accelerator leaves, as apps do.
            flag: str(name == options.delegate or flag == "use_cpu").lower()
            for name, flag in _DELEGATES[runtime].items()
            if flag
        },
    }
    if profile:
        flags[_PROFILE[runtime]] = "true"
    return [f"--{name}={value}" for name, value in flags.items()]


def _result(
    file: tuple[str, bytes],
    options: Options,
    *,
    outputs: Sequence[parse.ToolOutput],
    profile: parse.ToolOutput | None,
    machine: Mapping[str, Any],
    heat: Mapping[str, str],
) -> BenchmarkResult:
    name, data = file
    by_round = [output.latency for output in outputs]
    use = outputs[0].delegate(options.delegate)
    inits = sorted(o.init_us for o in outputs if o.init_us is not None)
    peaks = [o.peak_memory_bytes for o in outputs if o.peak_memory_bytes is not None]
    return BenchmarkResult(
        name=name,
        **describe(data),
        runner="android",
        environment=machine,
        options=options,
        latency=LatencyStats.from_rounds(by_round),
        by_round=by_round,
        init_us=inits[len(inits) // 2] if inits else None,
        peak_memory_bytes=max(peaks, default=None),
        partitions=use.partitions if use else 0,
        delegated_ops=use.delegated_ops if use else None,
        other_ops=_other_ops(use),
        ops=profile.ops if profile else (),
        ops_source=PROFILE_SOURCE if profile else None,
        invalid={
            **validity.check_rounds(by_round),
            **_check_tool(outputs[0], options),
            **heat,
        },
    )


def _check_tool(output: parse.ToolOutput, options: Options) -> dict[str, str]:
    """Looks at what the tool did otherwise than it was asked."""
    found = {}
    if output.unknown_flags:
        found["unknown_flags"] = (
            f"benchmark_model does not know {' '.join(output.unknown_flags)} and ran "
            "without; use a newer one."
        )
    use = output.delegate(options.delegate)
    if use is None and output.is_silent_of_delegates and options.delegate != "xnnpack":
        found["unknown_delegate"] = (
            f"benchmark_model does not say what of the graph '{options.delegate}' ran; "
            "adb logcat may."
        )
    elif options.delegate != "none" and (use is None or use.partitions == 0):
        found["fallback"] = (
            f"The delegate '{options.delegate}' was asked for and runs nothing: these "
            "are figures of the CPU."
        )
    elif use is not None and use.is_whole is False:
        pieces = "" if use.partitions is None else f" in {use.partitions} piece(s)"
        found["partial_fallback"] = (
            f"The delegate '{options.delegate}' runs only a part of the graph{pieces}."
        )
    return found


def _other_ops(use: parse.DelegateUse | None) -> int | None:
    """Returns how many ops the delegate left, None where the tool does not say."""
    if use is None:
        return None
    return 0 if use.is_whole else use.other_ops
