"""Sets up the consumers, each in a folder of its own outside of tfslim's environment.

MediaPipe and Vela get a virtual environment each. The GPU accelerator gets Chromium's
software driver for Vulkan, and arm64 an emulator, a Python and LiteRT for arm64; both
come out of Debian packages, which are unpacked, not installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tfslim import errors
from tfslim.consumers import arm64, base, gpu

_ARM64_PACKAGES = ("libpython3.11-stdlib", "python3.11-minimal", "libstdc++6")
# Of the wheels for arm64: 2.3.0 crashes in QEMU 7.2.
_ARM64_WHEELS = ("ai-edge-litert==1.4.0", "numpy<2.3")
_PLATFORMS = ("manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
_DRIVER_API = "1.1.0"


class SetupError(errors.TfslimError):
    """A consumer cannot be set up on this machine."""


def set_up(name: str) -> None:
    """Sets up one consumer anew.

    Args:
        name: a key of `SETUPS`.

    Raises:
        SetupError: something that it needs is not to be had.
    """
    try:
        SETUPS[name]()
    except (OSError, StopIteration) as error:
        raise SetupError(f"It cannot be set up: {error}.") from error
    reason = base.CONSUMERS.get(name).missing()
    if reason:
        raise SetupError(f"It is set up, and still missing: {reason}.")


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


# Consumer -> how it gets here; the Interpreter and the compiled model always are.
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


def _unpack(packages: Iterable[Path], target: Path) -> None:
    for package in list(packages):
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
