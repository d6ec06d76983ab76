"""What a consumer is: a program that runs `.tflite` files on a user's device."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, registry

# The environment variable that says where the consumers' own packages lie.
FOLDER_VARIABLE = "TFSLIM_CONSUMERS"
_SETUP = "tfslim consumers --setup"


class ConsumerError(errors.TfslimError):
    """A program refuses a file, or fails while it runs it."""


class MissingConsumerError(errors.ConfigError):
    """A program is not on this machine."""

    def __init__(self, name: str, reason: str):
        """Says what is missing and the one command that sets it up."""
        super().__init__(
            f"The consumer '{name}' is not here: {reason}. Set it up with: "
            f"{_SETUP}={name}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of a file in one program.

    Attributes:
        outputs: output name -> float32 array [samples, ...], in the file's order;
            empty for a compiler, which runs nothing.
        is_fully_accelerated: whether the program ran every op where it was asked to,
            by its own account; None where it gives none.
        fell_back: what ran elsewhere, such as "SOFTMAX on the CPU".
        versions: package -> version.
        conditions: what the outcome depends on: CPU, driver, emulation.
        seconds: from the start of the process to its end, start-up included.
    """

    outputs: Mapping[str, np.ndarray]
    is_fully_accelerated: bool | None
    fell_back: tuple[str, ...]
    versions: Mapping[str, str]
    conditions: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consumer:
    """One program, and how to run a file in it.

    Attributes:
        name: by which users ask for it.
        what: what it stands for, in a few words.
        missing: says why it is not here; "" where it can run.
        run: (content of the file, input name -> array [samples, ...] of real numbers)
            -> Outcome. Raises `ConsumerError` for a file that it refuses.
    """

    name: str
    what: str
    missing: Callable[[], str]
    run: Callable[[bytes, Mapping[str, np.ndarray]], Outcome]

    def require(self) -> None:
        """Raises MissingConsumerError where the program is not on this machine."""
        reason = self.missing()
        if reason:
            # Both CPUs of arm64 are set up together.
            raise MissingConsumerError(self.name.partition("_")[0], reason)


CONSUMERS: registry.Registry[Consumer] = registry.Registry("consumer")
for _name in ("interpreter", "compiled", "gpu", "arm64", "mediapipe", "vela"):
    CONSUMERS.register_lazy(_name, f"tfslim.consumers.{_name}:CONSUMER")
CONSUMERS.register_lazy("arm64_a53", "tfslim.consumers.arm64:OLDER")


def folder(name: str) -> Path:
    """Returns where a consumer's own packages lie, outside of tfslim's environment.

    The environment variable TFSLIM_CONSUMERS moves it; else it is
    `tfslim/consumers` in the user's cache folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).absolute() / name
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "tfslim" / "consumers" / name
