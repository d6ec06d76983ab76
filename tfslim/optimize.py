"""The best model under a budget: searched, trained, exported and measured.

  tfslim optimize mobilenet_v2 --data=digits --max_latency=1ms --max_drop=1
  tfslim optimize model.keras --data=folder:photos --max_size=500kB --out=out/small
  tfslim optimize model.keras --data=npz:set.npz --max_latency=5ms --family=5
  tfslim optimize --config=configs/search_mobilenet.py --max_latency=2ms --workers=2

Predictions from measured ops and sensitivities choose a few candidates; these are
fine-tuned briefly and measured, the winner is trained fully and exported. Trials are
kept: the same command goes on after a kill, and joins in from another terminal or, with
--study=URL, another machine. See docs/search.md.

Exit codes: 0 done, 1 the budget cannot be met or the job failed, 2 wrong usage.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
from absl import flags

from tfslim import cli, errors

if TYPE_CHECKING:
    from tfslim.pipeline.trial_rows import Wanted

_FACTORS = {
    "max_latency": {"us": 1.0, "ms": 1e3, "s": 1e6},
    "max_size": {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    "max_memory": {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    "max_macs": {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9},
}
# Of a trial; the figures beside it take the rest of 80 columns.
_MOST_NAME = 38
_EXAMPLES = {"max_latency": "5ms", "max_size": "500kB", "max_macs": "20M"}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("model", str, "Of the zoo, or a .keras, .h5, …; or the config's."),
        ("data", str, "digits, tfds:NAME, folder:PATH, npz:PATH, …."),
        ("out", "out/optimize", "The folder of the results; of an earlier run: go on."),
        ("max_latency", str, "Of one run on this machine: 800us, 5ms."),
        ("max_size", str, "Of the file: 500kB, 2MB."),
        ("max_macs", str, "Multiply-accumulates: 20M."),
        ("max_memory", str, "That running the file takes: 30MB."),
        ("max_drop", 1.0, "Percentage points of the metric that may be lost."),
        ("family", 0, "How many models along the front; 0: the best one."),
        ("epochs", 8, "Of the winner's fine-tuning."),
        ("brief_epochs", 2, "Of each trial's fine-tuning."),
        ("workers", 1, "Processes that train trials on this machine."),
        ("study", str, "URL of the trials' database; default: SQLite in --out."),
        ("worker", False, "Only take trials of a search that is planned already."),
    )


def amount(name: str, text: str | None) -> float | None:
    """Reads "5ms", "500kB" or "20M"; None where nothing is given.

    Raises:
        ConfigError: it is no such amount.
    """
    if text is None:
        return None
    factors = _FACTORS[name]
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    unit = found[2].lower() if found else ""
    try:
        value = float(found[1]) if found else 0.0
    except ValueError:
        value = 0.0
    if value <= 0 or unit not in factors:
        example = _EXAMPLES.get(name, "30MB")
        raise errors.ConfigError(
            f"--{name} must be an amount such as {example}, got '{text}'."
        )
    return value * factors[unit]


def _run(values: flags.FlagValues, config: ml_collections.ConfigDict | None) -> None:
    from tfslim.search import study

    study.require()
    wanted = _wanted(values, config)
    assert config is not None  # noqa: S101 - the command has one.
    # Late: --help must not wait for TensorFlow.
    from tfslim import report
    from tfslim.pipeline import export, optimize_model
    from tfslim.report import progress

    export.start_tensorflow()
    out = Path(values.out)
    with progress.steps() as on_step:
        if values.worker:
            plan = optimize_model.planned(out)
            optimize_model.work(wanted, plan, out=out, on_step=on_step)
            return
        plan = optimize_model.prepare(wanted, config, out=out, on_step=on_step)
        with _Others(values, out):
            optimize_model.work(wanted, plan, out=out, on_step=on_step)
        found = optimize_model.finish(wanted, plan, out=out, on_step=on_step)
        if not report.plot_front(found, out / "front.png"):
            on_step("no picture of the front: pip install 'tfslim[plots]'")
        write_page(found, out)
    cli.say(_shown(found, out))
    missed = [
        f"{name} of {row['folder']}"
        for row in found["final"]
        for name, met in row["meets"].items()
        if not met
    ]
    if missed and not values.family:
        raise errors.TrainingError(
            f"The budget is missed: {', '.join(missed)}. {out} has the nearest; raise "
            "it, or train longer: --epochs."
        )


def write_page(found: dict[str, Any], out: Path) -> None:
    """Writes the page of what was made, with the search that led there."""
    from tfslim import files
    from tfslim.report import folders, html

    runs = folders.read([out / row["folder"] for row in found["final"]])
    first = next(iter(runs))
    result, extras = runs[first]
    runs[first] = result, {**extras, "front": found}
    files.write_text(out / folders.PAGE, html.compare_to_html(runs))


class _Others:
    """The other workers, as processes of their own; they end when nothing waits."""

    def __init__(self, values: flags.FlagValues, out: Path):
        self._command = [
            *(sys.executable, "-m", "tfslim.optimize", "--worker", f"--out={out}"),
            f"--brief_epochs={values.brief_epochs}",
            *([f"--study={values.study}"] if values.study else []),
        ]
        self._count = values.workers - 1
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> None:
        self._running = [
            subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
            for _ in range(self._count)
        ]

    def __exit__(self, *error: object) -> None:
        for process in self._running:
            if error[0] is not None:
                process.terminate()
            process.wait()


def _wanted(
    values: flags.FlagValues, config: ml_collections.ConfigDict | None
) -> Wanted:
    from tfslim.pipeline.trial_rows import Wanted
    from tfslim.search.choose import Goal

    for name, least in (("family", 0), ("workers", 1), ("epochs", 0)):
        if values[name].value < least:
            raise errors.ConfigError(
                f"--{name} must be at least {least}, got {values[name].value}."
            )
    limits = {name: amount(name, values[name].value) for name in _FACTORS}
    is_open = not any(limits.values()) and not values.family and not values.worker
    if is_open:
        raise errors.ConfigError(
            "No budget is given. Write --max_latency=5ms, --max_size=500kB, "
            "--max_macs=20M or --max_memory=30MB; or --family=5."
        )
    return Wanted(
        source=config.model.name if config is not None else "",
        goal=Goal(
            max_latency_us=limits["max_latency"],
            max_size_bytes=limits["max_size"],
            max_macs=limits["max_macs"],
            max_memory_bytes=limits["max_memory"],
        ),
        max_drop=values.max_drop,
        family=values.family,
        epochs=values.epochs,
        brief_epochs=values.brief_epochs,
        study=values.study or "",
    )


def _short_forms(values: flags.FlagValues, config: ml_collections.ConfigDict) -> None:
    if values.model:
        config.model.name = values.model
    if values.data:
        config.data.spec = values.data


def _shown(found: dict[str, Any], out: Path) -> str:
    from tfslim.report import elide

    trials = sorted(found["trials"], key=lambda row: row["latency_us"])
    rows = [
        ("baseline, float32", found["baseline"]["float32"], None),
        *((r["candidate"]["name"], r, r["candidate"]["predicted"]) for r in trials),
        *((f"{r['folder']}, trained", r, None) for r in found["final"]),
    ]
    names = elide.elided([name for name, _, _ in rows], _MOST_NAME)
    width = max(map(len, names.values()))
    lines = [f"{'':<{width}} {'metric':>8} {'latency':>10} {'size':>10}  predicted"]
    for name, row, predicted in rows:
        lines.append(_line(f"{names[name]:<{width}}", row, predicted=predicted))
    error = found["prediction"]["median_error"]
    lines.append(f"predicted latency: median error {error:.1%} of the measured one")
    lines += [f"{name} failed: {why}" for name, why in found["failed"].items()]
    lines += [f"{out / row['folder']} is written." for row in found["final"]]
    return "\n".join(lines)


def _line(name: str, row: dict[str, Any], *, predicted: dict[str, float] | None) -> str:
    told = "" if predicted is None else f"{predicted['latency_us'] / 1e3:.3f} ms"
    return (
        f"{name} {row['metric']:8.4f} {row['latency_us'] / 1e3:7.3f} ms "
        f"{row['size_bytes'] / 1e3:7.1f} kB  {told}"
    )


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.optimize",
    __doc__ or "",
    define_flags,
    _run,
    plain="model",
    default_config="quickstart",
    short_forms=_short_forms,
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
