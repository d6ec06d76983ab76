"""LiteRT 2's GPU accelerator (ML Drift over WebGPU and Vulkan).

A machine without a GPU runs it on SwiftShader, the software driver of Chromium: slow,
and the same compiler and shaders.
"""

from __future__ import annotations

import os
import platform
import re
from ctypes import util
from pathlib import Path

from tfslim.consumers import compiled, process
from tfslim.consumers.base import Consumer, ConsumerError, Outcome, folder
from tfslim.consumers.samples import Samples

DRIVER = "icd.json"
_DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d")
# Mesa's software driver lacks a feature that LiteRT's shaders need.
_REFUSED = "lvp_"
_NODES = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate")


def _missing() -> str:
    if platform.system() != "Linux":
        return "it runs on Linux only"
    if (folder("gpu") / DRIVER).exists() or _has_driver():
        return ""
    return "there is no Vulkan driver that LiteRT takes"


def _has_driver() -> bool:
    """Whether the system has Vulkan's loader and a driver that LiteRT does not refuse.

    A driver that users name for themselves is taken as it is.
    """
    if os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES"):
        return True
    found = [p for name in _DRIVERS for p in Path(name).glob("*.json")]
    usable = [path for path in found if not path.name.startswith(_REFUSED)]
    return bool(usable) and util.find_library("vulkan") is not None


def _run(content: bytes, inputs: Samples) -> Outcome:
    environment = {} if _has_driver() else _software()
    ran = compiled.run_on("GPU", content, inputs=inputs, environment=environment)
    adapter = re.search(r"Selected adapter: ([^\n]*)", ran.said)
    if adapter is None:
        raise ConsumerError("LiteRT found no GPU, and would have used the CPU.")
    whole = ran.facts["is_fully_accelerated"]
    return ran.outcome(
        is_fully_accelerated=whole,
        fell_back=_left(ran),
        accelerator="GPU (WebGPU)",
        adapter=adapter[1].strip(),
    )


def _software() -> dict[str, str]:
    own = folder("gpu")
    driver = str(own / DRIVER)
    libraries = [str(own), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        "VK_DRIVER_FILES": driver,
        "VK_ICD_FILENAMES": driver,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


def _left(ran: process.Ran) -> list[str]:
    """Says how many ops the GPU left to the CPU, by LiteRT's own log."""
    taken = [tuple(map(int, found)) for found in _NODES.findall(ran.said)]
    left = [f"{whole - part} of {whole} ops on the CPU" for part, whole in taken[:1]]
    return [] if ran.facts["is_fully_accelerated"] else left


CONSUMER = Consumer(
    name="gpu",
    what="LiteRT 2 CompiledModel, GPU over WebGPU",
    missing=_missing,
    run=_run,
)
