"""What a user types wrong is one line and exit code 2."""

import importlib
import io
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

import tfslim
from tfslim import cli, commands, export, recipe_names
from tfslim.report import progress


@pytest.fixture(autouse=True)
def _ctrl_c():
    """A shell that starts the tests in the background has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("error", [AssertionError("Concurrent access?"), OSError("x")])
def test_a_signal_that_a_library_makes_an_error_of_is_one_line(capsys, number, error):
    """TensorFlow's own clean-up fails where a signal comes in its middle."""

    def body(values, config):
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        finally:
            raise error

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    code = cli.run("tfslim.x", "", lambda values: None, body, ["x"])
    assert code == 128 + number
    assert _one_line(capsys) == "tfslim.x: interrupted\n"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]


# Native code prints by PyErr_Print, which calls sys.excepthook.
_PRINTS = """
import ctypes, sys, time
from tfslim import cli

def body(values, config):
    text = "import os, time; os.kill(os.getpid(), {number}); time.sleep(1)"
    ctypes.pythonapi.PyRun_SimpleString(text.encode())
    time.sleep(5)
    print("the signal was lost", file=sys.stderr)

cli.run("tfslim.x", "", lambda values: None, body, ["x"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_native_code_prints_of_a_signal_is_left_out(number):
    script = _PRINTS.replace("{number}", str(int(number)))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr == "tfslim.x: interrupted\n"


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    def body(values, config):
        raise AssertionError("a fault of tfslim's")

    with pytest.raises(AssertionError, match="a fault"):
        cli.run("tfslim.x", "", lambda values: None, body, ["x"])


@pytest.mark.parametrize(("flags", "said"), [([], 1), (["--verbosity=0"], 0)])
def test_progress_is_left_out_where_nobody_wants_it(capsys, flags, said):
    def body(values, config):
        with progress.steps() as on_step:
            on_step("working")
        cli.say("result")

    assert cli.run("tfslim.x", "", lambda values: None, body, ["x", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == "result\n" and err.count("working") == said
    # The next command in this process is as loud as ever.
    assert cli.run("tfslim.x", "", lambda values: None, body, ["x"]) == 0
    assert "working" in capsys.readouterr().err


def test_our_warnings_are_one_line_and_others_stay(capsys):
    def body(values, config):
        warnings.warn("normalized\ntwice", tfslim.TfslimWarning, stacklevel=1)
        warnings.warn("another library's", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="another library's"):
        assert cli.run("tfslim.x", "", lambda values: None, body, ["x"]) == 0
    line = "tfslim.x: warning: normalized\\ntwice\n"
    assert capsys.readouterr().err == line


def test_a_terminal_gets_lines_broken_between_words(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", Terminal())
    name = f"/tmp/{'n' * 50}/a-file.tflite"
    cli.say(f"{'  indented words' * 4}\nshort\n{name} is written.\n")
    first, second, short, whole, rest = sys.stdout.getvalue().splitlines()
    assert max(map(len, (first, second))) <= 40
    assert first.startswith("  indented") and second.startswith("    ")
    assert short == "short" and whole == name and rest == "  is written."


def test_a_command_is_its_module(capsys):
    for name, (module, _) in commands.COMMANDS.items():
        assert commands.main(["tfslim", name, "--help"]) == 0
        said = capsys.readouterr().out
        own = importlib.import_module(module)
        assert own.main(["x", "--help"]) == 0
        assert capsys.readouterr().out == said
        assert said.startswith(f"Usage: tfslim {name}")


def test_without_a_command_all_are_listed(capsys):
    assert commands.main(["tfslim"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in commands.COMMANDS)


@pytest.mark.parametrize("name", ["", "export", "quantize", "benchmark"])
def test_version(capsys, name):
    assert commands.main(["tfslim", *name.split(), "--version"]) == 0
    assert capsys.readouterr().out == f"tfslim {tfslim.__version__}\n"


def test_a_misspelt_command(capsys):
    assert commands.main(["tfslim", "exprot", "--model=mlp"]) == 2
    assert "Did you mean 'export'?" in _one_line(capsys)


def _values(argv, **old):
    found = {}

    def define(values):
        cli.add_flags(
            values, ("max_drop", float, ""), ("model", str, ""), ("fast", True, "")
        )

    def body(values, config):
        found.update(values.flag_values_dict())

    code = cli.run("tfslim.x", "", define, body, ["x", *argv], plain="model", old=old)
    return found if code == 0 else code


@pytest.mark.parametrize(
    "argv",
    [
        ["m.tflite", "--max_drop=0.5", "--nofast"],
        ["--max-drop=0.5", "--no-fast", "m.tflite"],
        ["--max-drop", "0.5", "--model=m.tflite", "--no_fast"],
        ["--no-fast", "--max_drop", "0.5", "--", "m.tflite"],
    ],
)
def test_flags_stand_anywhere_and_with_hyphens(argv):
    found = _values(argv)
    assert found["max_drop"] == 0.5
    assert found["model"] == "m.tflite"
    assert found["fast"] is False


def test_an_old_name_is_taken_with_a_warning(capsys):
    assert _values(["--most-drop=1"], most_drop="max_drop")["max_drop"] == 1.0
    assert "--most_drop is called --max_drop here" in _one_line(capsys)


def test_recipes_stand_in_the_help_by_both_names(capsys):
    assert export.main(["export", "--help"]) == 0
    said = capsys.readouterr().out
    for short, name in recipe_names.ALIASES.items():
        assert any(line.split()[:2] == [short, name] for line in said.splitlines()), (
            short
        )


def test_the_table_of_recipes_is_what_is_shipped():
    folder = Path(tfslim.__file__).parent / "quantization/rules/recipes"
    shipped = {path.stem for path in folder.glob("*.json")}
    assert {name for name, _, _ in recipe_names.RECIPES} == shipped


@pytest.mark.parametrize(
    "argv",
    ["--help", "export --help", "prune --help", "prune", "exprot", "export --modle=x"],
)
def test_help_and_wrong_usage_bring_no_tensorflow(argv):
    code = (
        "import sys; from tfslim import commands;"
        f"commands.main(['tfslim', *{argv.split()}]);"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_a_signal_within_a_finalizer_ends_a_command(capsys):
    """Python drops what is raised there, with a traceback."""

    class Last:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def body(values, config):
        del config
        last = Last()
        del last
        time.sleep(5)

    code = cli.run("tfslim.trial", "", lambda values: None, body, ["trial"])
    said = capsys.readouterr().err
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in said and "interrupted" in said


_WITHOUT_TENSORFLOW = """
import sys
for name in ("keras", "tensorflow", "tf_keras", "tensorflow_model_optimization"):
    sys.modules[name] = None  # As where it is not installed.
from tfslim import commands
sys.exit(commands.main(["tfslim", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    "command",
    [
        ["export", "mlp"],
        ["prune", "mlp", "--ratio=0.5", "--out=x.keras"],
        ["optimize", "mlp", "--data=digits", "--max_latency=1ms"],
        ["analyze", "mlp"],
    ],
    ids=lambda command: command[0],
)
def test_a_base_install_names_the_extra(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TENSORFLOW, *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    lines = done.stderr.strip().splitlines()
    assert "pip install 'tfslim[tensorflow]'" in lines[-1]
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert not list(tmp_path.rglob("*.tflite"))
