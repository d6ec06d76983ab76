"""A command ends well whatever its stdout and stderr are."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tfslim import cli, quiet

COMMAND = """
import os, sys
from tfslim import cli
def body(values, config):
    opened = os.open({path!r}, os.O_WRONLY | os.O_CREAT)
    os.write(opened, b"result")
    print({text!r}, file=sys.stderr)
    os.system("echo native chatter >&2")
    cli.say({text!r})
sys.exit(cli.run("tfslim.x", "Doc.", lambda values: None, body, ["x"]))
"""


def _run(tmp_path, *, text="größe\x1b[31m", spoil=None, **options):
    code = COMMAND.format(path=str(tmp_path / "out"), text=text)
    return subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=spoil,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_are_harmless(tmp_path, closed):
    def spoil():
        for descriptor in closed:
            os.close(descriptor)

    done = _run(tmp_path, spoil=spoil)
    assert done.returncode == 0
    # Nothing that was meant for a stream went into the file that took its number.
    assert (tmp_path / "out").read_bytes() == b"result"


def test_a_full_stderr_is_harmless(tmp_path):
    with Path("/dev/full").open("wb") as full:
        assert _run(tmp_path, stderr=full).returncode == 0


def test_a_full_stdout_is_one_line(tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = _run(tmp_path, stdout=full)
    assert done.returncode == 1
    line = done.stderr.decode().splitlines()[-1]
    assert "tfslim.x: error: No space left on device: 'stdout'" in line
    assert b"Exception ignored" not in done.stderr


def test_ascii_shows_what_it_can(tmp_path):
    done = _run(tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout == b"gr\\xf6\\xdfe\\x1b[31m\n"


def test_errors_show_names_escaped(capsys):
    def body(values, config):
        raise OSError(2, "No such file", "a\x1b]0;title\x07\nb")

    assert cli.run("tfslim.x", "Doc.", lambda values: None, body, ["x"]) == 1
    said = capsys.readouterr().err
    assert said == "tfslim.x: error: No such file: 'a\\x1b]0;title\\x07 b'\n"


CHATTER = (
    b"I0000 00:00:1796088904.536371   13741 cudart_stub.cc:31] Could not find\n"
    b"2026-11-30 10:00:00.123: I tensorflow/core/util/port.cc:153] oneDNN\n"
    b"E0000 00:00:1.2 7 cuda_platform.cc:52] failed call to cuInit: INTERNAL\n"
    b"W0000 00:00:1.2 7 tf_tfl_flatbuffer_helpers.cc:364] Ignored output_format.\n"
)
TOLD = (
    b"E0000 00:00:1.2 7 executor.cc:9] out of memory\n"
    b"W0000 00:00:1.2 7 gpu_device.cc:1] Cannot dlopen some GPU libraries.\n"
    b"Traceback of a user's own\n"
)


def test_a_library_call_passes_on_all_but_chatter(capfd):
    with quiet.captured_stderr() as said:
        os.write(2, CHATTER + TOLD)
    assert said == [(CHATTER + TOLD).decode()]
    assert capfd.readouterr().err == TOLD.decode()
    with quiet.in_command(), quiet.captured_stderr() as said:
        os.write(2, b"taken")
    assert said == ["taken"]
    assert capfd.readouterr().err == ""


def test_nothing_is_held_back_where_others_may_write(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))
    waiting = threading.Event()
    other = threading.Thread(target=waiting.wait)
    other.start()
    try:
        with quiet.captured_stderr() as said:
            os.write(2, CHATTER)
            assert capfd.readouterr().err == CHATTER.decode()
    finally:
        waiting.set()
        other.join()
    assert said == [""]


def test_who_asks_for_all_sees_all(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet.captured_stderr():
        os.write(2, CHATTER)
    assert capfd.readouterr().err == CHATTER.decode()


@pytest.mark.parametrize(
    ("code", "is_quiet"),
    [
        ("import tfslim; tfslim.build_model('mlp')", True),
        ("import tfslim, tensorflow", False),  # The user's own import.
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("from tfslim.slimming import penalty", True),
                ("import tensorflow, tfslim; tfslim.build_model('mlp')", False),
            )
        ),
    ],
)
def test_tensorflow_comes_in_quietly_where_tfslim_imports_it(code, is_quiet):
    code += (
        "; import sys; assert 'tensorflow' in sys.modules; print(len(sys.meta_path))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=environment,
        text=True,
        check=True,
    )
    assert (done.stderr == "") == is_quiet, done.stderr


def test_threads_of_a_command_leave_stderr_as_it_was():
    before = os.fstat(2)

    def work():
        for _ in range(50):
            with quiet.captured_stderr():
                pass

    with quiet.in_command():
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    after = os.fstat(2)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)


def test_without_descriptors_nothing_is_captured(monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    with quiet.in_command(), quiet.captured_stderr() as said:
        pass
    assert said == [""]


def test_an_unwritable_temporary_folder_is_named(capsys, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent/temporary")

    def body(values, config):
        tempfile.mkdtemp()

    assert cli.run("tfslim.x", "Doc.", lambda values: None, body, ["x"]) == 1
    assert "TMPDIR" in capsys.readouterr().err
