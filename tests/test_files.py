"""Files and folders appear whole or not at all."""

import errno
import json
import os
import stat
import threading

import numpy as np
import pytest

from tfslim import errors, files


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert path.read_text() == '{\n  "a": 2\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "folder"
    with files.whole_folder(path) as building:
        (building / "first").write_text("1")
    with pytest.raises(RuntimeError), files.whole_folder(path) as building:
        (building / "second").write_text("2")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["first"]
    with files.whole_folder(path) as building:
        (building / "third").write_text("3")
    assert [p.name for p in path.iterdir()] == ["third"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_has_no_infinity(tmp_path):
    value = {"a": [1.0, float("inf"), (float("nan"), 2)], "b": np.float64("-inf")}
    files.write_json(tmp_path / "a.json", value)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found == {"a": [1.0, None, [None, 2]], "b": None}


def test_require_writable(tmp_path):
    files.require_writable(tmp_path / "new" / "a", "--out")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(errors.ConfigError, match=r"--out .* cannot be written"):
            files.require_writable(path, "--out")


@pytest.mark.parametrize("length", [240, 255])
def test_a_name_as_long_as_can_be_is_written(tmp_path, length):
    path = tmp_path / ("ü" * 10 + "n" * (length - 20))
    files.require_writable(path, "--out")
    files.write_bytes(path, b"1")
    with files.whole_folder(tmp_path / ("f" * 255)) as folder:
        (folder / "a").write_text("2")
    assert path.read_bytes() == b"1"
    assert (tmp_path / ("f" * 255) / "a").read_text() == "2"


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128, "d/" * 2100 + "a"])
def test_a_name_too_long_is_refused_before(tmp_path, name):
    with pytest.raises(errors.ConfigError, match="too long"):
        files.require_writable(tmp_path / name, "--out")


def test_the_mode_is_that_of_any_other_file(tmp_path):
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    files.write_bytes(tmp_path / "ours", b"")
    with files.whole_folder(tmp_path / "whole"):
        pass
    for ours, plain in (("ours", "plain"), ("whole", "folder")):
        modes = [(tmp_path / name).stat().st_mode for name in (ours, plain)]
        assert modes[0] == modes[1]


def test_writing_leaves_the_umask_to_other_threads(tmp_path):
    """Else a file that another thread makes meanwhile is open to everyone."""
    stop, seen = threading.Event(), set()

    def look():
        while not stop.is_set():
            handle = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY, 0o666)
            seen.add(stat.S_IMODE(os.fstat(handle).st_mode))
            os.close(handle)
            (tmp_path / "other").unlink()

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(100):
        files.write_bytes(tmp_path / f"{number % 3}", b"")
    stop.set()
    thread.join()
    assert len(seen) == 1


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*a\.tflite"):
        files.write_bytes(tmp_path / "a.tflite", b"1")
    with (
        pytest.raises(OSError, match=r"No space left.*result"),
        files.whole_folder(tmp_path / "result"),
    ):
        full(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_files_are_read(tmp_path, kind):
    path = tmp_path / "a.tflite"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=f"it is a .*{kind}, not a file"):
        files.read_bytes(path)


def test_text_that_is_no_unicode_is_written(tmp_path):
    files.write_text(tmp_path / "a", "conv\udce9")
    assert (tmp_path / "a").read_text() == "conv\\udce9"


@pytest.mark.parametrize("what", ["", "The baseline"])
def test_read_given_names_the_file_and_the_reason(tmp_path, what):
    path = tmp_path / "none.json"
    message = f"^{f'{what} ' if what else ''}'.*none.json' cannot be read: No such"
    with pytest.raises(errors.ConfigError, match=message):
        files.read_given(path, what)
    path.write_bytes(b"content")
    assert files.read_given(path, what) == b"content"
