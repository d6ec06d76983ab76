"""The adb client, wrapped: devices, shell commands and pushes that tell what failed."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfslim import errors

T = TypeVar("T")

_COMMAND_SECS = 30.0
_ATTEMPTS = 3
# adb keeps the exit code to itself on old devices, and gives one of its own when the
# connection breaks: a command has ended only when this line has arrived.
_END = re.compile(r"\ntfslim-exit:(\d+)\s*\Z")
_STATES = {
    "unauthorized": "is not authorized: unlock it and accept this computer's key (the "
    "dialog 'Allow USB debugging?')",
    "offline": "is offline: unplug it and plug it in again, or run 'adb reconnect'",
    "no permissions": "may not be opened by this user: see the udev rules in "
    "https://developer.android.com/studio/run/device",
    "recovery": "is in recovery mode: reboot it",
    "sideload": "is in sideload mode: reboot it",
    "bootloader": "is in the bootloader: reboot it",
    "connecting": "is still connecting: wait a moment",
}


class DisconnectedError(errors.BenchmarkError):
    """The connection to a device broke; the action may be tried again."""


class CancelledError(errors.BenchmarkError):
    """The user stopped the run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completed:
    """How a command ended, on this computer or on the device."""

    exit_code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.output + self.errors


class Adb:
    """The adb client of this computer; may be used from several threads.

    Attributes:
        cancelled: once set, what is running is stopped, and nothing new starts but
            what cleans up.
    """

    def __init__(self) -> None:
        """Finds the client.

        Raises:
            ConfigError: it is not installed.
        """
        places = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
        tools = [str(Path(place) / "platform-tools") for place in places if place]
        path = shutil.which("adb") or shutil.which("adb", path=os.pathsep.join(tools))
        if path is None:
            raise errors.ConfigError(
                "The adb client is not installed. Install it ('apt install adb', 'brew "
                "install android-platform-tools', or "
                "https://developer.android.com/tools/releases/platform-tools)."
            )
        self._path = path
        self.cancelled = threading.Event()

    def run(
        self, *arguments: str, secs: float = _COMMAND_SECS, cleaning: bool = False
    ) -> Completed:
        """Runs the client.

        Args:
            *arguments: of adb, each as it is: no shell reads them on this computer.
            secs: it is stopped after that.
            cleaning: whether it also runs after the user stopped the job.

        Raises:
            BenchmarkError: it took too long.
            CancelledError: the user stopped the job.
        """
        process = subprocess.Popen(
            [self._path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C must reach the job only, which then cleans up with adb.
            start_new_session=True,
        )
        end = time.monotonic() + secs
        try:
            while True:
                if self.cancelled.is_set() and not cleaning:
                    raise CancelledError("The benchmark was stopped.")
                if time.monotonic() > end:
                    raise errors.BenchmarkError(
                        f"'adb {' '.join(arguments)[:80]}' took more than {secs:g} s."
                    )
                try:
                    output, problems = process.communicate(timeout=0.1)
                except subprocess.TimeoutExpired:
                    continue
                return Completed(
                    exit_code=process.returncode,
                    output=output.decode(errors="replace").replace("\r\n", "\n"),
                    errors=problems.decode(errors="replace").replace("\r\n", "\n"),
                )
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def devices(self) -> dict[str, str]:
        """Returns the attached devices: serial -> state, "device" if ready.

        Raises:
            BenchmarkError: the adb server does not answer.
        """
        done = self.run("devices", cleaning=True)
        if done.exit_code:
            raise errors.BenchmarkError(f"adb does not work: {done.text.strip()}")
        lines = done.output.partition("List of devices attached")[2].splitlines()
        found = {}
        for line in lines:
            serial, tab, state = line.partition("\t")
            if tab:
                found[serial] = state.split(";")[0].partition(" (")[0].strip()
        return found

    def choose(self, wanted: str) -> list[str]:
        """Returns the serials of the devices to use, all of them ready.

        Args:
            wanted: serials by comma; "all": every one that is attached; empty: the
                only one. HOST:PORT is connected first where needed.

        Raises:
            ConfigError: there is none, more than one, or one is not ready.
        """
        found = self.devices()
        if wanted and wanted != "all":
            serials = list(dict.fromkeys(part.strip() for part in wanted.split(",")))
            for serial in serials:
                if ":" in serial and found.get(serial) != "device":
                    self.run("connect", serial)
            found = self.devices()
        elif not found:
            raise errors.ConfigError(
                "No Android device is attached. Plug one in with USB debugging on "
                "(Settings > System > Developer options), or run 'adb connect "
                "HOST:PORT'; 'adb devices' must list it."
            )
        else:
            serials = list(found)
            if len(serials) > 1 and not wanted:
                raise errors.ConfigError(
                    f"{len(serials)} devices are attached ({', '.join(serials)}). "
                    "Choose with --serial=SERIAL, several by comma, or --serial=all."
                )
        for serial in serials:
            state = found.get(serial)
            if state is None:
                raise errors.ConfigError(
                    f"No device '{serial}' is attached; 'adb devices' lists: "
                    f"{', '.join(found) or 'none'}."
                )
            if state != "device":
                reason = _STATES.get(state, f"is not ready (state '{state}')")
                raise errors.ConfigError(f"Device '{serial}' {reason}.")
        return serials


class Device:
    """One device, by its serial."""

    def __init__(self, adb: Adb, serial: str, *, wait_secs: float):
        """Does not talk to the device yet; waits `wait_secs` if it goes away."""
        self.adb = adb
        self.serial = serial
        self._wait_secs = wait_secs

    def query(self, command: str, *, cleaning: bool = False) -> Completed:
        """Runs a command that may be run twice: again if the connection breaks.

        Raises:
            BenchmarkError: the device was lost.
        """
        return self.retry(
            lambda: self.shell(command, cleaning=cleaning), "it was asked for its state"
        )

    def shell(
        self, command: str, *, secs: float = _COMMAND_SECS, cleaning: bool = False
    ) -> Completed:
        """Runs a command line in the device's shell; quote what is data.

        Raises:
            DisconnectedError: the device went away before the command ended.
            BenchmarkError: it took more than `secs`.
        """
        wrapped = f"({command}); code=$?; echo; echo tfslim-exit:$code"
        done = self.adb.run(
            *("-s", self.serial, "shell", wrapped), secs=secs, cleaning=cleaning
        )
        end = _END.search(done.output)
        if end is None:
            raise DisconnectedError(_last_line(done.errors) or "the connection closed")
        return Completed(
            exit_code=int(end[1]),
            output=done.output[: end.start()],
            errors=done.errors,
        )

    def push(self, local: Path, remote: str, *, secs: float) -> None:
        """Copies a file to the device.

        Raises:
            DisconnectedError: the device went away.
            BenchmarkError: the device refused the file, or has no room for it.
        """
        done = self.adb.run("-s", self.serial, "push", str(local), remote, secs=secs)
        if done.exit_code == 0:
            return
        text = done.text
        if "No space left" in text:
            raise errors.BenchmarkError(
                f"Device '{self.serial}' is full: {local.stat().st_size / 1e6:.1f} MB "
                f"do not fit under {remote.rpartition('/')[0]}. Free some space, or "
                "choose another --device_dir."
            )
        if re.search(r"remote .*(denied|failed|Read-only)", text):
            raise errors.BenchmarkError(
                f"Device '{self.serial}' refused a file: {_last_line(text)}"
            )
        raise DisconnectedError(_last_line(text))

    def retry(self, action: Callable[[], T], doing: str) -> T:
        """Does `action`, again if the connection breaks, three times at most.

        Raises:
            BenchmarkError: it broke every time, or the device did not come back.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return action()
            except DisconnectedError as error:
                if attempt == _ATTEMPTS or not self._is_back():
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise errors.BenchmarkError(
                        f"Device '{self.serial}' was lost while {doing}, {times}: "
                        f"{error}. Check the cable, and that the phone stays awake."
                    ) from error
        raise AssertionError("not reached")

    def _is_back(self) -> bool:
        end = time.monotonic() + self._wait_secs
        while time.monotonic() < end:
            if ":" in self.serial:
                self.adb.run("connect", self.serial, cleaning=True)
            if self.adb.devices().get(self.serial) == "device":
                return True
            self.adb.cancelled.wait(0.3)
        return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
