"""Cores, sensors and binaries, by hand."""

import dataclasses
import http.server
import threading

import pytest

from tfslim import errors
from tfslim.benchmark.android import adb, binary, phone


class _Device:
    """Answers queries from a table; the adb client is not at issue here."""

    serial = "X"

    def __init__(self, **answers):
        self._answers = answers

    def query(self, command):
        text = self._answers.get(command.replace(" ", "_"), "")
        return adb.Completed(exit_code=0, output=text, errors="")


@pytest.mark.parametrize(
    ("mhz", "threads", "mask"),
    [
        # 4 small, 3 big, 1 prime: bits 0-3, 4-6, 7.
        ([1800] * 4 + [2400] * 3 + [2850], 1, "80"),
        ([1800] * 4 + [2400] * 3 + [2850], 2, "f0"),
        ([1800] * 4 + [2400] * 3 + [2850], 4, "f0"),
        ([1800] * 4 + [2400] * 3 + [2850], 5, None),
        ([2000] * 8, 1, None),
        ([2400, 2400, 1800, 1800], 1, "3"),
        ([], 1, None),
    ],
)
def test_big_cores(mhz, threads, mask):
    assert phone.big_cores(dict(enumerate(mhz)), threads) == mask


_THERMAL = """\
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=37.1, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=41.5, mType=0, mName=CPU1, mStatus=0}
\tTemperature{mValue=50.0, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
"""


def test_temperature_is_that_of_the_hottest_cpu_now():
    assert phone.temperature_c(_Device(dumpsys_thermalservice=_THERMAL)) == 41.5
    battery = _Device(dumpsys_battery="  temperature: 287\n")
    assert phone.temperature_c(battery) == 28.7
    assert phone.temperature_c(_Device()) is None


def _elf(machine):
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(8)


@pytest.fixture
def server():
    """Serves one file as the official place does."""
    state = {"content": _elf(183), "requests": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state["requests"].append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state["content"])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state["url"] = f"http://127.0.0.1:{running.server_port}/android_{{}}_tool"
        yield state
        running.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(binary.VARIABLE, raising=False)


def _from(url):
    return {
        runtime: dataclasses.replace(source, url=url)
        for runtime, source in binary.SOURCES.items()
    }


def test_each_runtime_has_a_tool_of_its_own(server):
    for runtime in ("interpreter", "compiled", "compiled"):
        binary.find("", ["arm64-v8a"], runtime=runtime, sources=_from(server["url"]))
    assert server["requests"] == [
        "/android_aarch64_tool",
        "/android_android_arm64_tool",
    ]
    with pytest.raises(errors.ConfigError, match=r"\(runtime compiled\) for armeabi"):
        binary.find("", ["armeabi-v7a"], runtime="compiled")


def test_binary_is_downloaded_once(server):
    steps = []
    for _ in range(2):
        content = binary.find(
            "", ["arm64-v8a"], on_step=steps.append, sources=_from(server["url"])
        )
        assert content == _elf(183)
    assert server["requests"] == ["/android_aarch64_tool"]
    assert len(steps) == 1 and "downloading" in steps[0]


def test_wrong_download_is_not_kept(server, tmp_path):
    server["content"] = b"<html>"
    with pytest.raises(errors.BenchmarkError, match="is no program for arm64-v8a"):
        binary.find("", ["arm64-v8a"], sources=_from(server["url"]))
    assert not list(tmp_path.rglob("arm64*"))


def test_no_network_says_how_to_get_the_binary():
    with pytest.raises(errors.BenchmarkError, match=r"http://.*--benchmark_binary"):
        binary.find("", ["arm64-v8a"], sources=_from("http://127.0.0.1:9/{}"))
    with pytest.raises(errors.ConfigError, match=r"runtime interpreter.* for mips"):
        binary.find("", ["mips"])


def test_binary_by_path_and_environment(tmp_path, monkeypatch):
    path = tmp_path / "tool"
    path.write_bytes(_elf(40))
    assert binary.find(str(path), ["arm64-v8a", "armeabi-v7a"]) == _elf(40)
    with pytest.raises(errors.ConfigError, match="for armeabi-v7a; the device"):
        binary.find(str(path), ["x86_64"])
    monkeypatch.setenv(binary.VARIABLE, str(path))
    assert binary.find("", ["armeabi-v7a"]) == _elf(40)
    path.write_text("PK")
    with pytest.raises(errors.ConfigError, match="no program for Android"):
        binary.find("", ["armeabi-v7a"])
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        binary.find(str(tmp_path / "none"), [])
