"""A real adb client with a server of its own, and loopback devices for it."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tf_keras

from tests import android_device
from tfslim import convert

_PROPERTIES = """\
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.product.manufacturer]: [Loop]
[ro.product.model]: [Back 1]
[ro.soc.model]: [LB1000]
"""
_BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 80
  temperature: 310
"""


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory):
    """Environment of an adb server that no one else talks to."""
    if shutil.which("adb") is None:
        pytest.skip("the adb client is not installed (Debian: apt install adb)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    patch = pytest.MonkeyPatch()
    patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    # Else the server looks for emulators on ports 5555 and up of this computer.
    patch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "0")
    subprocess.run(["adb", "start-server"], check=True, capture_output=True)
    yield
    subprocess.run(["adb", "kill-server"], check=True, capture_output=True)
    patch.undo()


class Phone:
    """A loopback device with its folders."""

    def __init__(self, folder: Path):
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls.jsonl"
        # A hostile folder: the shell must get it as data.
        self.dir = folder / "data local;tmp $(touch owned) 'x'"
        self.dir.mkdir()
        self.script("getprop", f"cat <<'END'\n{_PROPERTIES}END")
        self.battery(_BATTERY)
        environment = {"STAND_IN_LOG": str(self.log), "PYTHONPATH": str(_ROOT)}
        self.device = android_device.AndroidDevice(
            self.bin, environment, mount=("/mounted", str(folder))
        )
        self.serial = self.device.serial

    def script(self, name, text):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def battery(self, text):
        self.script("dumpsys", f"test $1 = battery || exit 0\ncat <<'END'\n{text}END")

    @property
    def models_received(self):
        return [c for path, c in self.device.received if ".tflite" in path]

    def left(self):
        """Returns what lies in the device's folder."""
        return sorted(p.name for p in self.dir.rglob("*"))


_ROOT = Path(__file__).parents[2]


@pytest.fixture
def new_phone(adb_server, tmp_path):
    """Makes connected loopback devices."""
    phones = []

    def make(connect=True):
        folder = tmp_path / f"phone{len(phones)}"
        folder.mkdir()
        phones.append(Phone(folder))
        if connect:
            subprocess.run(
                ["adb", "connect", phones[-1].serial], check=True, capture_output=True
            )
        return phones[-1]

    yield make
    for phone in phones:
        subprocess.run(["adb", "disconnect", phone.serial], capture_output=True)
        phone.device.stop()


@pytest.fixture
def phone(new_phone):
    return new_phone()


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """The stand-in for benchmark_model, as one file."""
    path = tmp_path_factory.mktemp("tool") / "benchmark model"
    script = Path(__file__).parent / "stand_in.py"
    path.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}' \"$@\"\n")
    return path


@pytest.fixture(scope="session")
def tiny_models():
    """Two files, the second with much more work."""
    found = {}
    for name, filters in (("a", 4), ("b", 256)):
        inputs = tf_keras.Input((32, 32, 8))
        outputs = tf_keras.layers.Conv2D(filters, 3, activation="relu")(inputs)
        found[name] = convert.convert_model(tf_keras.Model(inputs, outputs)).tflite
    return found
