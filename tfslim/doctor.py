"""Says what works on this machine, and how to mend what does not.

  tfslim doctor
  tfslim doctor --quick          # without loading TensorFlow
  tfslim doctor --json=doctor.json

Each part is tried, not only looked up: a small model is converted, quantized, pruned
and run. A part that fails is marked: with an x if tfslim cannot do without it, with a -
if only some commands need it.

Exit codes: 0 all that the base needs works, 1 a part of it does not, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from absl import flags

from tfslim import cli, errors

_TRIAL_SECS = 120
_EXTRAS = {
    "tensorflow": "tfslim[tensorflow]",
    "tf_keras": "tfslim[tensorflow]",
    "keras": "tfslim[tensorflow]",
    "tensorflow-model-optimization": "tfslim[tensorflow]",
    "tensorflow-datasets": "tfslim[tensorflow]",
    "matplotlib": "tfslim[plots]",
    "opencv-python-headless": "tfslim[video]",
    "optuna": "tfslim[search]",
}
_FEEDS = {
    "keras2": "import tf_keras as keras",
    "keras3": "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras",
}
# Each runs in a process of its own and prints one line.
_KERAS_TRIAL = """
import numpy as np
{feed}
import tfslim
from tfslim import tflite
inputs = keras.Input((8, 8, 3))
x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
model = keras.Model(inputs, outputs)
sample = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
file = tfslim.convert_model(model).tflite
error = np.abs(tflite.run(file, [sample])[0] - np.asarray(model(sample))).max()
assert error < 1e-4, f"the file differs from the model by {{error:.2g}}"
print(f"Keras {{keras.__version__}}: converted, runs, error {{error:.1g}}")
"""
_TFMOT_TRIAL = """
import tf_keras as keras
import tensorflow_model_optimization as tfmot
model = keras.Sequential([keras.layers.Dense(4, input_shape=(4,))])
wrapped = tfmot.sparsity.keras.prune_low_magnitude(model)
assert tfmot.sparsity.keras.strip_pruning(wrapped).count_params() == 20
print("wraps and strips a model")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one part.

    Attributes:
        group: "machine", "package", "works", "phone" or "consumer".
        name: of the part.
        state: "ok", "missing" or "broken".
        text: what was found, in a line.
        mend: the command that mends it, "" where nothing is to be mended.
        is_needed: whether the base of tfslim does not work without it.
    """

    group: str
    name: str
    state: str
    text: str
    mend: str = ""
    is_needed: bool = False


def examine(*, quick: bool = False) -> Iterator[Finding]:
    """Looks at this machine, part by part.

    Args:
        quick: whether to leave out what loads TensorFlow.
    """
    parts = [_machine, _packages, _runtime, _trials, _adb, _consumers]
    for part in parts:
        if part is _trials and quick:
            continue
        try:
            yield from part()
        except (ImportError, OSError) as error:
            yield Finding(
                group="machine",
                name=part.__name__.strip("_"),
                state="broken",
                text=f"it cannot be looked at: {_line(str(error))}",
                mend=f"{sys.executable} -m pip install --force-reinstall tfslim",
                is_needed=part is _machine,
            )


def _machine() -> Iterator[Finding]:
    from tfslim.benchmark import environment
    from tfslim.tflite import trial

    version = sys.version_info
    fits = (3, 11) <= version[:2] < (3, 14)
    yield Finding(
        group="machine",
        name="python",
        state="ok" if fits else "broken",
        text=f"{version.major}.{version.minor}.{version.micro} at {sys.executable}",
        mend="" if fits else "install Python 3.11, 3.12 or 3.13 and tfslim in it",
        is_needed=True,
    )
    host = environment.host()
    features = ", ".join(host["cpu_features"]) or "none that matter"
    memory = trial.memory_bytes() / 2**30
    yield Finding(
        group="machine",
        name="cpu",
        state="ok",
        text=f"{host['cpu'] or host['machine']}, {host['cores']} cores, "
        f"{memory:.1f} GiB free; XNNPACK's instruction sets: {features}",
    )


def _packages() -> Iterator[Finding]:
    """Compares what is installed with what tfslim asks for."""
    try:
        wanted = importlib.metadata.requires("tfslim") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            group="package",
            name="tfslim",
            state="missing",
            text="it is not installed; it runs from its folder",
            mend="pip install .",
        )
        return
    seen = set()
    for line in wanted:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        condition = line.partition(";")[2]
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", condition)
        if name in seen or (extra and (extra[1] == "dev" or name not in _EXTRAS)):
            continue
        seen.add(name)
        yield _package(name, line.partition(";")[0].strip(), is_needed=extra is None)


def _package(name: str, requirement: str, *, is_needed: bool) -> Finding:
    target = f"'{requirement}'" if is_needed else f"'{_EXTRAS[name]}'"
    mend = f"{sys.executable} -m pip install {target}"
    given = functools.partial(Finding, group="package", name=name, is_needed=is_needed)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return given(state="missing", text="not installed", mend=mend)
    if not satisfies(version, requirement[len(name) :]):
        limits = requirement[len(name) :]
        return given(state="broken", text=f"{version}, {limits} is wanted", mend=mend)
    return given(state="ok", text=version)


def satisfies(version: str, limits: str) -> bool:
    """Whether a version is within limits such as ">=2.3,<3".

    Parts that are no comparison count as met.
    """
    own = _numbers(version)
    for part in limits.strip(" ()").split(","):
        found = re.fullmatch(r"\s*(==|>=|<=|<|>|!=)\s*([\w.]+)\s*", part)
        if found is None:
            continue
        other = _numbers(found[2])
        size = max(len(own), len(other))
        one, two = (n + (0,) * (size - len(n)) for n in (own, other))
        met = {
            "==": one == two,
            ">=": one >= two,
            "<=": one <= two,
            "<": one < two,
            ">": one > two,
            "!=": one != two,
        }
        if not met[found[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:4])


def _runtime() -> Iterator[Finding]:
    yield _tried("litert", _try_litert, package="ai-edge-litert")
    yield _tried("quantizer", _try_quantizer, package="litert-quantizer")


def _tried(name: str, action: Callable[[], str], *, package: str) -> Finding:
    given = functools.partial(Finding, group="works", name=name, is_needed=True)
    try:
        return given(state="ok", text=action())
    except (ImportError, OSError, AttributeError, errors.TfslimError) as error:
        mend = f"{sys.executable} -m pip install --force-reinstall {package}"
        return given(state="broken", text=_line(str(error)), mend=mend)


def _try_litert() -> str:
    from tfslim import tflite
    from tfslim.benchmark import costs

    content = costs.build(costs.dense(64, 64))
    runner = tflite.Runner(content)
    runner.invoke()
    taken = tflite.coverage(content)
    if not taken.is_whole:
        raise errors.ConversionError("XNNPACK leaves a dense layer to other kernels.")
    return "loads and runs a file, all of it in XNNPACK"


def _try_quantizer() -> str:
    import numpy as np

    from tfslim import quantization, tflite
    from tfslim.benchmark import costs

    content = costs.build(costs.dense(64, 64))
    samples = [np.ones((1, 64), np.float32), np.zeros((1, 64), np.float32)]
    done = quantization.quantize_tflite(content, "int8", samples=samples).tflite
    types = {tensor.dtype for tensor in tflite.read(done).tensors}
    if "int8" not in types:
        raise errors.QuantizationError("INT8 was asked for, and nothing became it.")
    return f"makes INT8, {len(content)} bytes to {len(done)}"


def _trials() -> Iterator[Finding]:
    for name, feed in _FEEDS.items():
        yield _trial(name, _KERAS_TRIAL.format(feed=feed))
    yield _trial("tf-mot", _TFMOT_TRIAL)


def _trial(name: str, code: str) -> Finding:
    """Runs code in a process of its own; what it does there cannot hurt this one."""
    given = functools.partial(Finding, group="works", name=name)
    mend = f"{sys.executable} -m pip install 'tfslim[tensorflow]'"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"no end within {_TRIAL_SECS} s"
        return given(state="broken", text=text, mend=mend)
    if done.returncode == 0:
        return given(state="ok", text=_line(done.stdout.strip().splitlines()[-1]))
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    state = "missing" if "ModuleNotFoundError" in lines[-1] else "broken"
    return given(state=state, text=_line(lines[-1]), mend=mend)


def _adb() -> Iterator[Finding]:
    from tfslim.benchmark.android import adb

    given = functools.partial(Finding, group="phone", name="adb")
    try:
        found = adb.Adb().devices()
        yield _attached(found)
    except errors.ConfigError:
        mend = "apt install adb" if shutil.which("apt") else "install platform-tools"
        yield given(state="missing", text="the client is not installed", mend=mend)
    except errors.BenchmarkError as error:
        yield given(state="broken", text=_line(str(error)), mend="adb kill-server")


def _attached(found: Mapping[str, str]) -> Finding:
    given = functools.partial(Finding, group="phone", name="adb")
    if not found:
        mend = "plug in a phone with USB debugging on"
        return given(state="missing", text="no phone is attached", mend=mend)
    shown = ", ".join(f"{serial} ({state})" for serial, state in found.items())
    is_ready = "device" in found.values()
    mend = "" if is_ready else "unlock the phone and accept this computer's key"
    return given(state="ok" if is_ready else "broken", text=shown, mend=mend)


def _consumers() -> Iterator[Finding]:
    from tfslim.consumers import base

    for name in base.CONSUMERS.names():
        given = functools.partial(Finding, group="consumer", name=name)
        try:
            consumer = base.CONSUMERS.get(name)
            reason = consumer.missing()
        except (ImportError, OSError, errors.TfslimError) as error:
            yield given(state="broken", text=_line(str(error)), mend="pip install .")
            continue
        mend = f"tfslim consumers --setup={name.partition('_')[0]}" if reason else ""
        state, text = ("missing", reason) if reason else ("ok", consumer.what)
        yield given(state=state, text=text, mend=mend)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("quick", False, "Leave out what loads TensorFlow."),
        ("json", str, "Where to write the findings as JSON."),
    )


def _run(values: flags.FlagValues, config: None) -> None:
    from tfslim import files

    if values.json:
        files.require_writable(values.json, "--json")
    findings = []
    for finding in examine(quick=values.quick):
        findings.append(finding)
        cli.say(_shown(finding))
    if values.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        files.write_json(values.json, {"schema_version": 1, "findings": rows})
    bad = [f.name for f in findings if f.is_needed and f.state != "ok"]
    if bad:
        raise errors.TfslimError(
            f"tfslim does not work here without: {', '.join(bad)}. The lines above say "
            "how to mend it."
        )


def _shown(finding: Finding) -> str:
    mark = "ok" if finding.state == "ok" else "x " if finding.is_needed else "- "
    line = f"{mark} {finding.name:<30} {finding.text}"
    return f"{line}\n     mend: {finding.mend}" if finding.mend else line


# Takes `sys.argv` and returns the exit code.
main = functools.partial(cli.run, "tfslim.doctor", __doc__ or "", define_flags, _run)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
