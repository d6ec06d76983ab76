"""What shells offer after `tfslim completion`: asked of the shells themselves."""

import shutil
import subprocess

import pytest

from tfslim import completion, recipe_names

ASK_BASH = """
{script}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_tfslim 2> /dev/null; echo "${{COMPREPLY[@]}}"
"""


def _bash(*words):
    script = ASK_BASH.format(script=completion.bash(), words=" ".join(words))
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tfslim ex", ["export"]),
        ("tfslim export --max", ["--max_drop="]),
        ("tfslim detect --over", ["--overwrite"]),
        # Bash takes an equals sign for a word of its own.
        ("tfslim quantize --io = u", ["uint8"]),
        ("tfslim prune --scope gl", ["global"]),
        ("tfslim export resn", ["resnet18"]),
        ("tfslim completion f", ["fish"]),
        ("tfslim export --config.training.ep", ["--config.training.epochs="]),
        ("tfslim benchmark model", []),  # Files, which the shell knows itself.
    ],
)
def test_bash(words, offered):
    assert _bash(*words.split()) == offered


def test_all_recipes_are_offered():
    assert sorted(_bash("tfslim", "export", "--recipe", "=")) == recipe_names.names()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh():
    script = f"{completion.zsh()}\nprint $_comps[tfslim]"
    done = subprocess.run(
        ["zsh", "-fc", script], capture_output=True, text=True, check=True
    )
    assert "_tfslim" in done.stdout


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tfslim ex", ["export"]),
        ("tfslim prune --scope=gl", ["--scope=global"]),
        ("tfslim completion z", ["zsh"]),
        ("tfslim export --max", ["--max_drop"]),
    ],
)
def test_fish(typed, offered):
    script = f"{completion.fish()}\ncomplete -C '{typed}'"
    done = subprocess.run(
        ["fish", "-c", script], capture_output=True, text=True, check=True
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == offered
