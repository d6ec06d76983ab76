"""Times single ops, interleaved: on this machine, or on a phone over adb."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tfslim import errors, tflite
from tfslim.benchmark import android, host
from tfslim.benchmark.android import adb as adb_lib
from tfslim.benchmark.android import binary, phone
from tfslim.benchmark.costs.single_file import build
from tfslim.benchmark.costs.spec import IDLE, Piece
from tfslim.benchmark.costs.table import CostTable, Device, OpCost
from tfslim.benchmark.result import Options

OnStep = Callable[[str], None]

_PASSES = 5
_RUNS = 3
# Of shorter spans half can be spent on coming up to speed after another op.
_SECS = 0.005
# An op that takes longer runs once a pass.
_LONG_US = 2e4
# Ops that are loaded at the same time have so many bytes of weights.
_GROUP_BYTES = 2**28
# A larger cache takes too long to be emptied before each run.
_MOST_CACHE = 2**26
# Of the cache's size is read to empty it.
_EMPTYING = 1.5


def measure_host(
    table: CostTable,
    specs: Sequence[Piece],
    *,
    cold: bool = False,
    on_step: OnStep = lambda text: None,
) -> None:
    """Measures what a table of this machine does not have, and saves it.

    Each op runs in several passes over all ops, so that what slows the machine for a
    while slows all; of the passes' medians the least counts, as noise only adds time.

    Args:
        table: of this machine; its threads and delegate are used.
        specs: ops of files that the runtime has run.
        cold: whether to measure runs with empty caches, too.
        on_step: called with a line of text before the work.
    """
    options = Options(num_threads=table.device.threads, delegate=table.device.delegate)
    cache = table.device.cache_bytes
    cold = cold and cache is not None and cache <= _MOST_CACHE
    by_key = {spec.key: spec for spec in (IDLE, *specs)}
    wanted = table.missing(by_key, cold=cold)
    if not wanted:
        return
    on_step(f"measuring {len(wanted)} single ops on this machine, once")
    emptying = np.ones(int((cache or 0) * _EMPTYING) // 8) if cold else None
    for group in _groups({key: by_key[key] for key in wanted}):
        table.put(_timed(group, options, emptying=emptying))
    table.save()


def measure_android(
    table: CostTable,
    specs: Sequence[Piece],
    *,
    phones: android.AndroidOptions,
    on_step: OnStep = lambda text: None,
) -> None:
    """Measures on a phone what its table does not have, and saves it.

    Every op is pushed as a file of its own and timed by `benchmark_model`.

    Args:
        table: of the phone, see `phone_device`.
        specs: ops of files that the runtime has run.
        phones: which phone, one, and how it is used.
        on_step: called with a line of text at each step.

    Raises:
        ConfigError, BenchmarkError: as `run_android`.
    """
    by_key = {spec.key: spec for spec in (IDLE, *specs)}
    chosen = {key: by_key[key] for key in table.missing(by_key)}
    built: dict[str, bytes] = {}
    options = Options(
        num_threads=table.device.threads,
        delegate=table.device.delegate,
        num_runs=30,
        rounds=3,
        min_secs=0.03,
        warmup_secs=0.01,
    )
    for key, spec in chosen.items():
        found = _load(spec, options)
        if isinstance(found, OpCost):
            table.put({key: found})
        else:
            built[key] = build(spec)
    if not built:
        return
    on_step(f"measuring {len(built)} single ops on the phone, once")
    (results,) = android.run_android(built, [options], android=phones, on_step=on_step)
    found_us = {r.name: min(part.typical for part in r.by_round) for r in results}
    table.put({key: OpCost(us=us) for key, us in found_us.items()})
    table.save()


class Meter:
    """Measures ops where a table is from: on this machine, or on a phone.

    Attributes:
        table: what is known so far.
        phones: which phone; None: this machine.
    """

    def __init__(
        self,
        table: CostTable,
        phones: android.AndroidOptions | None = None,
        *,
        on_step: OnStep = lambda text: None,
    ):
        """Measures nothing yet.

        Args:
            table: of the device.
            phones: which phone, one, and how it is used; None: this machine.
            on_step: called with a line of text at each step.
        """
        self.table = table
        self.phones = phones
        self._on_step = on_step

    def measure(self, specs: Sequence[Piece], *, cold: bool = False) -> None:
        """Completes the table; as `measure_host` and `measure_android`."""
        if self.phones is None:
            measure_host(self.table, specs, cold=cold, on_step=self._on_step)
        else:
            measure_android(
                self.table, specs, phones=self.phones, on_step=self._on_step
            )


def _groups(specs: Mapping[str, Piece]) -> Iterator[dict[str, Piece]]:
    """Yields the ops in groups that are loaded together."""
    group: dict[str, Piece] = {}
    held = 0
    for key, spec in specs.items():
        size = sum(t.num_bytes for t in (*spec.inputs, *spec.outputs))
        if group and held + size > _GROUP_BYTES:
            yield group
            group, held = {}, 0
        group[key] = spec
        held += size
    if group:
        yield group


def _load(spec: Piece, options: Options) -> tflite.Runner | OpCost:
    try:
        runner = host.load(build(spec), options)
        runner.invoke()
    except (errors.TfslimError, KeyError, AttributeError, TypeError) as error:
        return OpCost(us=None, reason=" ".join(str(error).split())[:300])
    return runner


def _timed(
    specs: Mapping[str, Piece], options: Options, *, emptying: np.ndarray | None
) -> dict[str, OpCost]:
    """Times ops; `emptying` is read before each cold run."""
    loaded = {key: _load(spec, options) for key, spec in specs.items()}
    found = {key: cost for key, cost in loaded.items() if isinstance(cost, OpCost)}
    runners = {k: r for k, r in loaded.items() if isinstance(r, tflite.Runner)}
    medians: dict[str, list[float]] = {key: [] for key in runners}
    colds: dict[str, list[float]] = {key: [] for key in runners}
    for _ in range(_PASSES):
        for key, runner in runners.items():
            (first,) = host.time_us(runner, 1, least_secs=0)
            runs = _RUNS if first < _LONG_US else 1
            spans = host.time_us(runner, runs, least_secs=_SECS)
            medians[key].append(float(np.median(spans)))
    # Apart: emptying the caches slows the runs that come next, too.
    if emptying is not None:
        for _ in range(_PASSES):
            for key, runner in runners.items():
                colds[key].append(_cold_us(runner, emptying))
    return found | {
        key: OpCost(
            us=min(medians[key]),
            cold_us=max(min(colds[key]), min(medians[key])) if colds[key] else None,
        )
        for key in runners
    }


def _cold_us(runner: tflite.Runner, emptying: np.ndarray) -> float:
    """Runs once with weights out of the caches, and inputs in them, as written."""
    interpreter, clock = runner.interpreter, time.perf_counter_ns
    inputs = [
        (details["index"], interpreter.get_tensor(details["index"]))
        for details in interpreter.get_input_details()
    ]
    emptying.sum()
    for index, value in inputs:
        interpreter.set_tensor(index, value)
    start = clock()
    interpreter.invoke()
    return (clock() - start) / 1e3


def phone_device(
    phones: android.AndroidOptions, options: Options | None = None
) -> Device:
    """Describes the phone that a run would use.

    Raises:
        ConfigError: none or several are attached, or there is no `benchmark_model`.
    """
    options = options or Options()
    adb = adb_lib.Adb()
    serials = adb.choose(phones.serial)
    if len(serials) != 1:
        raise errors.ConfigError(
            f"Costs are measured on one phone, and {len(serials)} are chosen: name one "
            "with --serial."
        )
    device = adb_lib.Device(adb, serials[0], wait_secs=phones.reconnect_secs)
    facts = phone.read(device)
    tool = binary.find(phones.benchmark_binary, facts["abis"])
    digest = hashlib.sha256(tool).hexdigest()[:16]
    return Device(
        cpu=f"{facts['device']} {facts['cpu']}",
        features=tuple(facts["abis"]),
        runtime=f"benchmark_model {digest}, {facts['os']}",
        threads=options.num_threads,
        delegate=options.delegate,
    )
