"""What a user types wrong is one line and exit code 2."""

import os
import signal
import subprocess
import sys

import pytest

from tfslim import cli, export


def _one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.sede=3", "Did you mean 'seed'?"),
        ("--config.training=3", "is a section"),
        ("--nosuch", "Unknown flag '--nosuch'"),
        ("--modle=resnet18", "Did you mean '--model'?"),
        ("--config=missing.py", "no config file 'missing.py'"),
        ("--epochs=ten", "epochs"),
        ("--config.seed", "needs a value"),
        ("--model=mlp stray", "Unexpected argument 'stray'"),
        ("--model=resnet18:alpha", "'alpha' in 'resnet18:alpha'"),
    ],
)
def test_wrong_usage(capsys, tmp_path, argument, message):
    out_dir = tmp_path / "out"
    assert export.main(["export", f"--out={out_dir}", *argument.split()]) == 2
    assert message in _one_line(capsys)
    assert not out_dir.exists()


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from tfslim import export; code = export.main(['x', '--help']);"
        "sys.exit(3 if 'tensorflow' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for flag in ("--model", "--data", "--recipe", "--out", "--config"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(28, "No space left on device", "a.tflite"),
            "No space left on device: 'a.tflite'",
        ),
        (MemoryError("189 GiB"), "out of memory: 189 GiB"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, error, text):
    def body(values, config):
        raise error

    assert cli.run("tfslim.x", "Doc.", lambda values: None, body, ["x"]) == 1
    assert capsys.readouterr().err.splitlines() == [f"tfslim.x: error: {text}"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_command_in_one_line(capsys, number, code):
    left = []

    def body(values, config):
        try:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)  # A second one changes nothing.
        finally:
            left.append("cleaned")

    before = signal.getsignal(signal.SIGTERM)
    assert cli.run("tfslim.x", "", lambda values: None, body, ["x"]) == code
    assert left == ["cleaned"]
    assert _one_line(capsys) == "tfslim.x: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before
