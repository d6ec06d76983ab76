"""A private folder on a device: files go in, programs run, nothing is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import tempfile
from pathlib import Path
from types import TracebackType

from tfslim import errors
from tfslim.benchmark.android.adb import Completed, Device

FOLDER = "tfslim_benchmark"


class Session:
    """The folder `tfslim_benchmark` under the device's `parent` folder.

    Files are named by their content, so that a name given by the user never reaches
    the device's shell, and a file that is there already is not pushed again.
    Leaving the session stops what runs there and removes the folder, also after Ctrl-C;
    with `keep` the whole files stay for the next session.
    """

    def __init__(self, device: Device, parent: str, *, keep: bool):
        """Does not talk to the device yet.

        Args:
            device: where.
            parent: an absolute path there that adb may write to and run from.
            keep: whether files stay for the next session.
        """
        self.device = device
        self.folder = f"{parent.rstrip('/')}/{FOLDER}"
        self._keep = keep
        self._pid = f"{self.folder}/pid"

    def __enter__(self) -> Session:
        """Makes the folder.

        Raises:
            BenchmarkError: the device refuses.
        """
        done = self.device.query(f"mkdir -p {shlex.quote(self.folder)}")
        if done.exit_code:
            raise errors.BenchmarkError(
                f"Device '{self.device.serial}' cannot make '{self.folder}': "
                f"{done.text.strip()}. Choose another with --device_dir."
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops what runs, and removes what this session brought."""
        folder = shlex.quote(self.folder)
        rest = (
            f"rm -f {folder}/*.part {folder}/pid" if self._keep else f"rm -rf {folder}"
        )
        # A device that is gone cannot be cleaned; the error that tells so is raised
        # by what failed, or there is none and the figures are whole.
        with contextlib.suppress(errors.BenchmarkError):
            self._stop()
            self.device.query(rest, cleaning=True)

    def install(self, content: bytes, *, secs: float, program: bool = False) -> str:
        """Brings `content` to the device, unless it is there; returns its path.

        It gets its name only after the device has computed the same SHA-256.

        Raises:
            BenchmarkError: the device is full, refuses, or was lost.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = f"{self.folder}/{digest}" + ("" if program else ".tflite")
        self.device.retry(
            lambda: self._install(content, digest, path, secs), "a file was pushed"
        )
        if program:
            self.device.query(f"chmod 700 {shlex.quote(path)}")
        return path

    def _install(self, content: bytes, digest: str, path: str, secs: float) -> None:
        if self._digest(path) == digest:
            return
        part = f"{path}.part"
        with tempfile.TemporaryDirectory() as local:
            file = Path(local) / "content"
            file.write_bytes(content)
            self.device.push(file, part, secs=secs)
        arrived = self._digest(part)
        if arrived is None:
            raise errors.BenchmarkError(
                f"Device '{self.device.serial}' has no sha256sum to check what came: "
                "Android 8 or newer is needed."
            )
        if arrived != digest:
            raise errors.BenchmarkError(
                f"A file arrived damaged on device '{self.device.serial}' (SHA-256 "
                f"{arrived}, not {digest}). Check the cable and the storage."
            )
        self.device.query(f"mv {shlex.quote(part)} {shlex.quote(path)}")

    def _digest(self, path: str) -> str | None:
        text = self.device.query(f"sha256sum {shlex.quote(path)} 2>/dev/null").output
        return text.split()[0] if text.strip() else None

    def run(self, arguments: list[str], *, secs: float) -> Completed:
        """Runs a program in the folder, again if the connection breaks.

        Raises:
            BenchmarkError: it took more than `secs`, or the device was lost.
        """
        line = " ".join(shlex.quote(argument) for argument in arguments)
        folder, pid = shlex.quote(self.folder), shlex.quote(self._pid)
        # Without its file, the number may soon be that of another process.
        command = (
            f"cd {folder} && {{ {line} & echo $! > {pid}; "
            f"wait $!; code=$?; rm -f {pid}; exit $code; }}"
        )

        def once() -> Completed:
            # What a broken connection left running would disturb the next run.
            self._stop()
            return self.device.shell(command, secs=secs)

        return self.device.retry(once, "the model ran")

    def _stop(self) -> None:
        pid = shlex.quote(self._pid)
        self.device.query(
            f"test -f {pid} && kill -9 $(cat {pid}) 2>/dev/null; rm -f {pid}",
            cleaning=True,
        )
