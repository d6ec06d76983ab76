"""The commands of tfslim: `tfslim COMMAND` is `python -m tfslim.COMMAND`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from absl import flags

from tfslim import cli, registry

# Name -> the module whose `main` runs it, and what `tfslim --help` says of it.
COMMANDS = {
    "export": ("tfslim.export", "a model to verified, timed .tflite files"),
    "quantize": ("tfslim.quantize", "a float .tflite to a smaller one"),
    "prune": ("tfslim.prune", "a model to one with fewer channels"),
    "optimize": ("tfslim.optimize", "the best model under a budget"),
    "benchmark": (
        "tfslim.benchmark.__main__",
        "times .tflite files here or on phones",
    ),
    "analyze": ("tfslim.analyze", "why a model is slow, and what would help"),
    "detect": ("tfslim.detect", "finds objects in pictures and videos"),
    "run": ("tfslim.run", "one picture through a .tflite: labels and scores"),
    "verify": ("tfslim.verify", "a .tflite in the programs that will run it"),
    "consumers": ("tfslim.consumers.__main__", "what of those is on this machine"),
    "report": (
        "tfslim.report.__main__",
        "rebuilds report.html of a folder, compares runs",
    ),
    "doctor": ("tfslim.doctor", "what works on this machine, and how to mend the rest"),
    "completion": ("tfslim.completion", "completes all of this in a shell"),
}
# Those that take --config and each of its fields.
WITH_CONFIG = ("export", "prune", "optimize")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `tfslim COMMAND ...` and returns its exit code."""
    arguments = list(sys.argv if argv is None else argv)[1:]
    if arguments and arguments[0] in COMMANDS:
        module = importlib.import_module(COMMANDS[arguments[0]][0])
        code: int = module.main(arguments)
        return code
    if arguments and not arguments[0].startswith("-"):
        arguments = arguments[:1]  # Its flags are nobody's.
    return cli.run(
        "tfslim", _overview(), _define, _run, ["tfslim", *arguments], plain="command"
    )


def _overview() -> str:
    lines = [f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "Makes Keras models and .tflite files small and fast, with the proof.",
            "",
            "Commands; `tfslim COMMAND --help` says more:",
            *lines,
        ]
    )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("command", None, "", flag_values=values)


def _run(values: flags.FlagValues, config: None) -> None:
    if values.command:
        raise registry.unknown_name("command", values.command, known=COMMANDS)
    cli.say(_overview())
