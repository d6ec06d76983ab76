"""A loopback Android device: speaks the adb wire protocol, backed by a folder and sh.

The real adb client talks to it after `adb connect 127.0.0.1:PORT`. It has the services
that a benchmark needs: shell (plain and v2), exec, and sync with STAT, STA2, LST2, SEND
and RECV. Paths are those of this computer, so a test gives a folder of its own as the
device's; only where two devices need the same path, `mount` puts it elsewhere here.
Commands named in `bin_dir` come before the system's.

Protocol: https://android.googlesource.com/platform/packages/modules/adb, protocol.txt,
SYNC.TXT and shell_protocol.h.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path

_VERSION, _MAX_DATA = 0x01000001, 256 * 1024
_COMMANDS = "CNXN AUTH OPEN OKAY CLSE WRTE"  # codespell:ignore
_CNXN, _AUTH, _OPEN, _OKAY, _CLSE, _WRTE = (
    int.from_bytes(name.encode(), "little") for name in _COMMANDS.split()
)
_BANNER = (
    b"device::ro.product.name=loop;ro.product.model=Loop;features=shell_v2,stat_v2"
)
_STDOUT, _STDERR, _EXIT = 1, 2, 3


class CutError(Exception):
    """A fault asked for the connection to break here."""


@dataclasses.dataclass
class Faults:
    """What goes wrong, until a test sets it back.

    Attributes:
        silent: does not answer a connection.
        unauthorized: never accepts a key.
        cut_pushes, cut_runs: so many connections break in the middle of a push, or of
            a command that holds `cut_word`.
        disk_full: every file sent fails for lack of space.
        delay_secs: wait before every packet of a file.
    """

    silent: bool = False
    unauthorized: bool = False
    cut_pushes: int = 0
    cut_runs: int = 0
    cut_word: str = "--graph="
    disk_full: bool = False
    delay_secs: float = 0.0


class AndroidDevice:
    """Listens on a free port of 127.0.0.1 until it is stopped.

    Attributes:
        serial: what adb calls it: "127.0.0.1:PORT".
        faults: to be switched by tests.
        commands: every command line that a shell got.
        received: path and content of every file that arrived whole.
        bytes_received: payload of all files, whole or not.
    """

    def __init__(
        self,
        bin_dir: Path,
        environment: dict[str, str] | None = None,
        mount: tuple[str, str] = ("", ""),
    ):
        self._mount = mount
        self.faults = Faults()
        self.commands: list[str] = []
        self.received: list[tuple[str, bytes]] = []
        self.bytes_received = 0
        self.environment = {
            **os.environ,
            **(environment or {}),
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
        }
        self.processes: set[subprocess.Popen] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def place(self, text: str) -> str:
        """Puts the mounted folder's place into a path or a command line."""
        mounted, folder = self._mount
        return text.replace(mounted, folder) if mounted else text

    def stop(self) -> None:
        """Closes every connection and ends every command."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for process in list(self.processes):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            _Transport(self, connection).serve()
        except (OSError, EOFError, CutError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()


class _Transport:
    """One connection of an adb server, with its streams."""

    def __init__(self, device: AndroidDevice, connection: socket.socket):
        self.device = device
        self._connection = connection
        self._lock = threading.Lock()
        self._streams: dict[int, _Stream] = {}
        self._next = 1

    def serve(self) -> None:
        try:
            while True:
                head = _exactly(self._connection, 24)
                command, first, second, size, _, magic = struct.unpack("<6I", head)
                assert command ^ 0xFFFFFFFF == magic, "a packet out of step"
                self._handle(command, first, second, _exactly(self._connection, size))
        finally:
            for stream in self._streams.values():
                stream.close()

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        head = struct.pack(
            "<6I",
            command,
            first,
            second,
            len(data),
            sum(data) & 0xFFFFFFFF,
            command ^ 0xFFFFFFFF,
        )
        with self._lock:
            self._connection.sendall(head + data)

    def cut(self) -> None:
        """Breaks the connection, as a pulled cable does."""
        self._connection.shutdown(socket.SHUT_RDWR)
        raise CutError

    def _handle(self, command: int, first: int, second: int, data: bytes) -> None:
        if command in (_CNXN, _AUTH):
            if self.device.faults.silent:
                pass
            elif self.device.faults.unauthorized:
                # Whatever it signs, it is asked again; a public key is not answered:
                # the dialog on the screen waits.
                if command == _CNXN or first == 2:
                    self.send(_AUTH, 1, 0, os.urandom(20))
            else:
                self.send(_CNXN, _VERSION, _MAX_DATA, _BANNER)
        elif command == _OPEN:
            local, self._next = self._next, self._next + 1
            stream = self._streams[local] = _Stream(self, local, first)
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=stream.run, args=(service,), daemon=True).start()
        elif command in (_OKAY, _WRTE, _CLSE) and second in self._streams:
            stream = self._streams[second]
            if command == _OKAY:
                stream.ready.release()
            elif command == _WRTE:
                stream.incoming.put(data)
                self.send(_OKAY, second, first)
            else:
                stream.close()
                del self._streams[second]


class _Stream:
    """One service that the host opened."""

    def __init__(self, transport: _Transport, local: int, remote: int):
        self._transport = transport
        self._ids = local, remote
        # One packet may be on its way; the host's OKAY allows the next.
        self.ready = threading.Semaphore(0)
        self.incoming: queue.Queue[bytes | None] = queue.Queue()
        self._buffer = b""
        self._closed = False

    def run(self, service: str) -> None:
        transport = self._transport
        try:
            transport.send(_OKAY, *self._ids)
            self.ready.release()
            if service == "sync:":
                _Sync(transport.device, transport, self).run()
            elif service.startswith(("shell", "exec:")):
                self._shell(service)
            transport.send(_CLSE, *self._ids)
        except (OSError, EOFError, CutError):
            pass

    def close(self) -> None:
        self._closed = True
        self.incoming.put(None)
        self.ready.release()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), _MAX_DATA):
            self.ready.acquire()
            if self._closed:
                self.ready.release()  # For whoever else waits to write.
                raise EOFError
            self._transport.send(_WRTE, *self._ids, data[start : start + _MAX_DATA])

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.incoming.get()
            if data is None:
                raise EOFError
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _shell(self, service: str) -> None:
        device = self._transport.device
        kind, _, command = service.partition(":")
        is_v2 = "v2" in kind.split(",")
        device.commands.append(command)
        process = subprocess.Popen(
            ["/bin/sh", "-c", device.place(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_v2 else subprocess.STDOUT,
            env=device.environment,
            start_new_session=True,
        )
        device.processes.add(process)
        try:
            if device.faults.cut_runs and device.faults.cut_word in command:
                device.faults.cut_runs -= 1
                time.sleep(0.2)
                self._transport.cut()
            lock = threading.Lock()
            readers = [
                threading.Thread(target=self._pipe, args=(pipe, packet, lock, is_v2))
                for pipe, packet in (
                    (process.stdout, _STDOUT),
                    (process.stderr, _STDERR),
                )
                if pipe is not None
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            code = process.wait()
            code = 128 - code if code < 0 else code
            if is_v2:
                self.write(struct.pack("<BIB", _EXIT, 1, code & 0xFF))
        finally:
            device.processes.discard(process)

    def _pipe(self, pipe, packet: int, lock: threading.Lock, is_v2: bool) -> None:
        with contextlib.suppress(OSError, EOFError), pipe:
            while data := os.read(pipe.fileno(), 4096):
                head = struct.pack("<BI", packet, len(data)) if is_v2 else b""
                with lock:
                    self.write(head + data)


class _Sync:
    """The file service: requests of four letters, a length, and a path."""

    def __init__(self, device: AndroidDevice, transport: _Transport, stream: _Stream):
        self._device = device
        self._transport = transport
        self._stream = stream

    def run(self) -> None:
        while True:
            kind, size = struct.unpack("<4sI", self._stream.read(8))
            path = self._device.place(self._stream.read(size).decode())
            if kind == b"QUIT":
                return
            if kind == b"STAT":
                self._stat_v1(path)
            elif kind in (b"STA2", b"LST2"):
                self._stat_v2(kind, path)
            elif kind == b"SEND":
                self._receive_file(*path.rsplit(",", 1))
            elif kind == b"RECV":
                self._send_file(path)
            else:
                self._fail(f"unknown request {kind!r}")
                return

    def _stat_v1(self, path: str) -> None:
        numbers = (0, 0, 0)
        with contextlib.suppress(OSError):
            found = Path(path).stat()
            numbers = found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime)
        self._stream.write(struct.pack("<4s3I", b"STAT", *numbers))

    def _stat_v2(self, kind: bytes, path: str) -> None:
        layout = "<4sI2Q4IQ3q"
        fields = "dev ino mode nlink uid gid size atime mtime ctime"
        try:
            found = Path(path).stat() if kind == b"STA2" else Path(path).lstat()
        except OSError as error:
            self._stream.write(struct.pack(layout, kind, error.errno, *[0] * 10))
            return
        numbers = [int(getattr(found, f"st_{field}")) for field in fields.split()]
        self._stream.write(struct.pack(layout, kind, 0, *numbers))

    def _receive_file(self, path: str, mode: str) -> None:
        faults, content, problem = self._device.faults, b"", None
        if faults.disk_full:
            problem = "No space left on device"
        elif not Path(path).parent.is_dir():
            problem = f"couldn't create file: No such file or directory: {path}"
        while True:
            kind, size = struct.unpack("<4sI", self._stream.read(8))
            if kind == b"DONE":
                break
            assert kind == b"DATA", kind
            data = self._stream.read(size)
            time.sleep(faults.delay_secs)
            content += data
            self._device.bytes_received += len(data)
            if not problem:
                Path(path).write_bytes(content)
            if faults.cut_pushes:
                faults.cut_pushes -= 1
                self._transport.cut()
        if problem:
            self._fail(problem)
            return
        # An empty file has no DATA at all.
        Path(path).write_bytes(content)
        Path(path).chmod(stat.S_IMODE(int(mode)))
        self._device.received.append((path, content))
        self._stream.write(struct.pack("<4sI", b"OKAY", 0))

    def _send_file(self, path: str) -> None:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            self._fail(f"open failed: {error.strerror}")
            return
        for start in range(0, len(content), 64 * 1024):
            part = content[start : start + 64 * 1024]
            self._stream.write(struct.pack("<4sI", b"DATA", len(part)) + part)
        self._stream.write(struct.pack("<4sI", b"DONE", 0))

    def _fail(self, message: str) -> None:
        data = message.encode()
        self._stream.write(struct.pack("<4sI", b"FAIL", len(data)) + data)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
