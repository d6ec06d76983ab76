"""Sets up the consumers: each in a folder of its own, outside of tfslim's environment.

  python -m tfslim.consumers.setup               # All that this machine can have.
  python -m tfslim.consumers.setup gpu vela

MediaPipe and Vela get a virtual environment each. The GPU accelerator gets Chromium's
software driver for Vulkan, and arm64 an emulator, a Python and LiteRT for arm64; both
come out of Debian packages, which are unpacked, not installed (apt-get and dpkg-deb
must be here). The folder is ~/.cache/tfslim/consumers; TFSLIM_CONSUMERS moves it.

Exit codes: 0 done, 1 one of them could not be set up, 2 wrong usage.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from tfslim import cli, errors, registry
from tfslim.consumers import arm64, base, gpu

_ARM64_PACKAGES = ("libpython3.11-stdlib", "python3.11-minimal", "libstdc++6")
# Of the wheels for arm64: 2.3.0 crashes in QEMU 7.2.
_ARM64_WHEELS = ("ai-edge-litert==1.4.0", "numpy<2.3")
_PLATFORMS = ("manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
_DRIVER_API = "1.1.0"


class SetupError(errors.TfslimError):
    """A consumer cannot be set up on this machine."""


def _environment(name: str, package: str) -> None:
    """Makes a virtual environment with one package."""
    folder = base.folder(name)
    venv.create(folder, with_pip=True, clear=True)
    _call([str(folder / "bin" / "pip"), "install", "--quiet", package])


def _mediapipe() -> None:
    _environment("mediapipe", "mediapipe")


def _vela() -> None:
    _environment("vela", "ethos-u-vela")


def _gpu() -> None:
    own = _fresh("gpu")
    _call(["apt-get", "download", "chromium-common", "libvulkan1"], own)
    unpacked = own / "unpacked"
    _unpack(own.glob("*.deb"), unpacked)
    for name in ("libvk_swiftshader.so", "libvulkan.so.1"):
        found = next(iter(unpacked.rglob(name)), None)
        if found is None:
            raise SetupError(f"The packages hold no {name}.")
        shutil.copy(found.resolve(), own / name)
    shutil.rmtree(unpacked)
    library = str(own / "libvk_swiftshader.so")
    icd = {"library_path": library, "api_version": _DRIVER_API}
    content = {"file_format_version": "1.0.0", "ICD": icd}
    (own / gpu.DRIVER).write_text(json.dumps(content), encoding="utf-8")


def _arm64() -> None:
    own = _fresh("arm64")
    if shutil.which(arm64.EMULATOR) is None:
        _call(["apt-get", "download", "qemu-user-static"], own)
        _unpack(own.glob("qemu*.deb"), own / "unpacked")
        found = next((own / "unpacked").rglob(arm64.EMULATOR))
        shutil.copy(found, own / arm64.EMULATOR)
        shutil.rmtree(own / "unpacked")
    state, cache = own / "apt" / "state", own / "apt" / "cache"
    for folder in (state / "lists" / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True)
    # Lists and packages of another machine, apart from the system's.
    options = [
        "-oAPT::Architecture=arm64",
        "-oAPT::Architectures=arm64",
        f"-oDir::State={state}",
        "-oDir::State::status=/dev/null",
        f"-oDir::Cache={cache}",
        "-oAPT::Sandbox::User=root",
    ]
    _call(["apt-get", *options, "update"])
    choice = ["--yes", "--no-install-recommends", "--download-only", "install"]
    _call(["apt-get", *options, *choice, *_ARM64_PACKAGES])
    _unpack((cache / "archives").glob("*.deb"), own / "root")
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    fetch = ["download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms]
    fetch += ["--python-version", "3.11", "--dest", str(own / "wheels")]
    _call([sys.executable, "-m", "pip", *fetch, *_ARM64_WHEELS])
    for wheel in (own / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(own / "site")
    for folder in (own / "apt", own / "wheels"):
        shutil.rmtree(folder)


SETUPS: dict[str, Callable[[], None]] = {
    "arm64": _arm64,
    "gpu": _gpu,
    "mediapipe": _mediapipe,
    "vela": _vela,
}


def _fresh(name: str) -> Path:
    own = base.folder(name)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    return own


def _unpack(packages: object, target: Path) -> None:
    for package in list(packages):  # type: ignore[call-overload]
        _call(["dpkg-deb", "--extract", str(package), str(target)])
        package.unlink()


def _call(command: Sequence[str], folder: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise SetupError(f"It needs the command '{command[0]}', which is not here.")
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise SetupError(f"'{' '.join(command[:3])} …' fails: {lines[-1][:300]}")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    flags.DEFINE_list(
        "names", [], "Consumers, by comma; may also stand alone.", flag_values=values
    )
    flags.DEFINE_bool(
        "again", False, "Set up anew what is here already.", flag_values=values
    )


def _run(values: flags.FlagValues, config: None) -> None:
    for name in values.names:
        if name not in SETUPS:
            raise registry.unknown_name("consumer to set up", name, SETUPS)
    failed = []
    for name in values.names or SETUPS:
        consumer = base.CONSUMERS.get(name)
        if not (consumer.missing() or values.again):
            cli.say(f"{name}: is here.")
            continue
        cli.say(f"{name}: setting up in {base.folder(name)} …")
        try:
            SETUPS[name]()
        except (SetupError, OSError, StopIteration) as error:
            failed.append(name)
            cli.say(f"{name}: {error}")
            continue
        reason = consumer.missing()
        cli.say(f"{name}: {reason or 'ready'}.")
        failed += [name] if reason else []
    if failed:
        raise SetupError(f"Not set up: {', '.join(failed)}.")


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run(
        "tfslim.consumers.setup", doc, define_flags, _run, argv, plain="names"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
