"""Finding the `benchmark_model` binary that runs on a device."""

from __future__ import annotations

import dataclasses
import os
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfslim import errors, files

VARIABLE = "TFSLIM_BENCHMARK_BINARY"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a `benchmark_model` is downloaded from.

    Attributes:
        url: with {} in place of the architecture.
        architectures: ABI -> what it is called there.
    """

    url: str
    architectures: Mapping[str, str]


# Where LiteRT's documentation sends its readers, by runtime:
# https://ai.google.dev/edge/litert/models/measurement
# https://ai.google.dev/edge/litert/next/benchmark
SOURCES = {
    "interpreter": Source(
        "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/"
        "release/lite/tools/nightly/latest/android_{}_benchmark_model",
        {"arm64-v8a": "aarch64", "armeabi-v7a": "arm"},
    ),
    "compiled": Source(
        "https://storage.googleapis.com/litert/binaries/2.2.0/{}/benchmark_model",
        {"arm64-v8a": "android_arm64"},
    ),
}
# Of the runtimes, in the cache.
_FOLDERS = {"interpreter": "", "compiled": "litert2"}
# The machine field of an ELF header, at byte 18; see man 5 elf.
_ELF_ABIS = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}


def find(
    path: str,
    abis: Sequence[str],
    *,
    on_step: Callable[[str], None] = lambda text: None,
    runtime: str = "interpreter",
    sources: Mapping[str, Source] = types.MappingProxyType(SOURCES),
) -> bytes:
    """Returns a `benchmark_model` that runs on a device.

    Args:
        path: of the binary; empty: that of the environment variable
            TFSLIM_BENCHMARK_BINARY, else one downloaded earlier, else a download.
        abis: what the device runs, the best first, e.g. ["arm64-v8a"].
        on_step: called with a line about a download, with the checksum of what came.
        runtime: whose tool: "interpreter", or "compiled" for LiteRT 2.
        sources: runtime -> where to download its tool from.

    Raises:
        ConfigError: there is no such file, or it is for another kind of device.
        BenchmarkError: the download failed; says how to get the binary by hand.
    """
    path = path or os.environ.get(VARIABLE, "")
    if not path:
        return _downloaded(abis, on_step, runtime=runtime, source=sources[runtime])
    content = read(path)
    abi = elf_abi(content)
    # A script has no ABI: the device's shell finds its interpreter, or does not.
    if abi is not None and abi not in abis:
        raise errors.ConfigError(
            f"The benchmark_model binary '{path}' is for {abi}; the device runs "
            f"{', '.join(abis)}."
        )
    if abi is None and not content.startswith(b"#!"):
        raise errors.ConfigError(
            f"'{path}' is no program for Android: expected an ELF file, such as "
            "android_aarch64_benchmark_model."
        )
    return content


def read(path: str) -> bytes:
    """Reads the binary at `path`; raises ConfigError where it cannot be read."""
    return files.read_given(path, "The benchmark_model binary")


def elf_abi(content: bytes) -> str | None:
    """Returns the Android ABI that an ELF file is for; None if it is no ELF file."""
    if not content.startswith(b"\x7fELF") or len(content) < 20:
        return None
    machine = int.from_bytes(content[18:20], "little")
    return _ELF_ABIS.get(machine, f"machine {machine}")


def _downloaded(
    abis: Sequence[str], on_step: Callable[[str], None], *, runtime: str, source: Source
) -> bytes:
    abi = next((abi for abi in abis if abi in source.architectures), None)
    if abi is None:
        raise errors.ConfigError(
            f"LiteRT offers no benchmark_model (runtime {runtime}) for "
            f"{', '.join(abis)}. Build one and give it by --benchmark_binary."
        )
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(cache) / "tfslim" / "benchmark_model" / _FOLDERS[runtime] / abi
    if kept.is_file():
        return kept.read_bytes()
    url = source.url.format(source.architectures[abi])
    on_step(f"downloading benchmark_model for {abi} from {url}")
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise errors.BenchmarkError(
            f"benchmark_model could not be downloaded ({error}). Get {url} on a "
            f"computer with a network and give it by --benchmark_binary."
        ) from error
    if elf_abi(content) != abi:
        raise errors.BenchmarkError(
            f"What {url} gave is no program for {abi}. Get benchmark_model elsewhere "
            "and give it by --benchmark_binary."
        )
    files.write_bytes(kept, content)
    return content
