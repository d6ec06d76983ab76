"""The one wrapper that runs every command line of tfslim.

Exit codes: 0 done, 1 the job failed, 2 the user typed something wrong, 130 and 143
interrupted by SIGINT (Ctrl-C) and SIGTERM. Errors that tfslim raises on purpose are one
line on stderr, without a traceback.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

import tfslim
from tfslim import config as config_lib
from tfslim import (
    errors,
    escape,
    interruption,
    quiet,
    recipe_names,
    registry,
    streams,
)

# What a shell reports for a command that a signal ended: 128 + its number.
_BY_SIGNAL = 128

ShortForms = Callable[[flags.FlagValues, ml_collections.ConfigDict], None]
# Type of a flag's default -> how absl defines it.
_KINDS: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    float: flags.DEFINE_float,
    int: flags.DEFINE_integer,
    list: flags.DEFINE_list,
    str: flags.DEFINE_string,
}


def add_flags(values: flags.FlagValues, *rows: tuple[str, Any, str]) -> None:
    """Defines flags: name, default and help of each.

    The default's type is the flag's; a type in its place is a flag that is not set.
    """
    for name, default, help_text in rows:
        is_unset = isinstance(default, type)
        kind = default if is_unset else type(default)
        given = None if is_unset else default
        _KINDS[kind](name, given, help_text, flag_values=values)


def run(
    name: str,
    doc: str,
    define: Callable[[flags.FlagValues], None],
    body: Callable[[flags.FlagValues, ml_collections.ConfigDict | None], None],
    argv: Sequence[str],
    *,
    default_config: str | None = None,
    short_forms: ShortForms | None = None,
    plain: str | None = None,
    old: Mapping[str, str] = types.MappingProxyType({}),
) -> int:
    """Runs one command and returns its exit code.

    Args:
        name: the command's module, e.g. "tfslim.export".
        doc: what `--help` shows before the flags.
        define: defines the command's flags on the values it is given.
        body: does the work; gets the parsed flags and the config, if it has one.
        argv: as `sys.argv`, program name first.
        default_config: name of the config that `--config` defaults to; None for a
            command without configs.
        short_forms: writes flags that stand for fields into the config; fields that
            are named in full (--config.field=value) win over them.
        plain: the flag that an argument without dashes sets, wherever it stands; one
            that is a list takes several.
        old: earlier name of a flag -> its name; taken with a warning.
    """
    with streams.usable(), _in_command(name), interruption.handled() as came:
        try:
            values = _common_flags()
            define(values)
            arguments, renamed = _spelled(values, list(argv), old=old)
            config = _parse(
                values,
                arguments,
                plain=plain,
                default_config=default_config,
                short_forms=short_forms,
            )
            if values.verbosity == 0:
                quiet.silence()
            if values.version:
                say(f"tfslim {tfslim.__version__}")
            elif values.help:
                say(_help(name, doc, values=values, plain=plain))
            else:
                with errors.extra_needed(name):
                    body(values, config)
            streams.flush()
            for line in renamed:  # An error stays the one line that it is.
                _complain(f"{name}: warning: {line}")
        except (Exception, KeyboardInterrupt) as error:
            # A signal that comes while a library cleans up may end in any error.
            if came.number is not None or isinstance(error, KeyboardInterrupt):
                _complain(f"{name}: interrupted")
                return _BY_SIGNAL + (came.number or signal.SIGINT)
            if not isinstance(error, errors.TfslimError | OSError | MemoryError):
                raise
            line = escape.terminal(" ".join(_what(error).split()))
            _complain(f"{name}: error: {line}")
            return error.exit_code if isinstance(error, errors.TfslimError) else 1
        return 0


def _common_flags() -> flags.FlagValues:
    """Returns the flags that every command has."""
    values = flags.FlagValues()
    flags.DEFINE_bool(
        "help", False, "Show this help.", short_name="h", flag_values=values
    )
    flags.DEFINE_bool("version", False, "Show the version.", flag_values=values)
    flags.DEFINE_integer(
        "verbosity",
        1,
        "0: results and errors alone; 1: also what is being done.",
        lower_bound=0,
        flag_values=values,
    )
    return values


@contextlib.contextmanager
def _in_command(name: str) -> Iterator[None]:
    """Marks the process as a command's; our warnings are one line there."""
    show = warnings.showwarning

    def one_line(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if issubclass(category, errors.TfslimWarning):
            _complain(f"{name}: warning: {escape.terminal(str(message))}")
        else:
            show(message, category, *rest, **more)

    with quiet.in_command(), warnings.catch_warnings():
        warnings.showwarning = one_line
        yield


def _complain(line: str) -> None:
    with contextlib.suppress(OSError):
        streams.flush()  # What stands in stdout came first.
    print(line, file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Prints lines of a result; names within show their control characters.

    A terminal gets lines that are broken between words.
    """
    lines = escape.lines(text.rstrip("\n")).split("\n")
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = [_wrapped(line, width) for line in lines]
    sys.stdout.write("\n".join(lines) + "\n")


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        # Names of files are to be copied.
        break_long_words=False,
        break_on_hyphens=False,
    )


def _what(error: Exception) -> str:
    """Says what failed; an OSError is a full disk, or a reader that went away."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: '{error.filename}'{_hint(str(error.filename))}"
    return str(error)


def _hint(path: str) -> str:
    """Says how to mend a temporary file that cannot be written, here or in Keras."""
    with contextlib.suppress(OSError):
        ours = Path(tempfile.gettempdir(), tempfile.gettempprefix())
        if path.startswith(str(ours)):
            return ". Name a folder for temporary files that can be written in TMPDIR"
    return ""


def _spelled(
    values: flags.FlagValues, argv: list[str], *, old: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Returns the arguments with the flags' names as they are defined.

    --max-drop is --max_drop, --no-overwrite is --nooverwrite, and an earlier name is
    today's, about which the second list has a line.
    """
    found: list[str] = []
    renamed: list[str] = []
    for number, argument in enumerate(argv):
        if argument == "--":
            return [*found, *argv[number:]], renamed
        flag, equals, value = argument.partition("=")
        if number and flag.startswith("--"):
            name = flag[2:].replace("-", "_")
            if name in old:
                renamed.append(f"--{name} is called --{old[name]} here.")
                name = old[name]
            if name.startswith("no_") and name[3:] in values:
                name = f"no{name[3:]}"
            argument = f"--{name}{equals}{value}"
        found.append(argument)
    return found, renamed


def _split_config(
    argv: list[str], default: str
) -> tuple[list[str], str, list[tuple[str, str]]]:
    """Takes `--config=FILE` and `--config.field=value` out of the arguments."""
    rest, path, overrides = [], default, []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        flag = flag.removeprefix("-").removeprefix("-")
        if not argument.startswith("-") or flag.split(".")[0] != "config":
            rest.append(argument)
            continue
        if not equals:
            value = next(arguments, "")
            if not value:
                raise errors.ConfigError(f"--{flag} needs a value: --{flag}=VALUE.")
        if flag == "config":
            path = value
        else:
            overrides.append((flag.removeprefix("config."), value))
    return rest, path, overrides


def _parse(
    values: flags.FlagValues,
    argv: list[str],
    *,
    plain: str | None,
    default_config: str | None,
    short_forms: ShortForms | None,
) -> ml_collections.ConfigDict | None:
    """Reads all arguments into `values`; returns the config, if there is to be one."""
    if default_config is None:
        _parse_flags(values, argv, plain=plain)
        return None
    flags.DEFINE_string(
        "config",
        default_config,
        "A config file, or the name of a shipped one. Any field can be set: "
        "--config.training.epochs=3.",
        flag_values=values,
    )
    rest, path, overrides = _split_config(argv, default_config)
    _parse_flags(values, rest, plain=plain)
    if values.help or values.version:
        return None
    config = config_lib.load(path)
    if short_forms is not None:
        short_forms(values, config)
    for field, text in overrides:
        config_lib.override(config, field, text=text)
    return config


def _parse_flags(
    values: flags.FlagValues, argv: list[str], *, plain: str | None
) -> None:
    # Flags may stand after plain arguments, too.
    values.set_gnu_getopt(True)
    try:
        rest = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        raise registry.unknown_name(
            "flag", f"--{name}", known=[f"--{known}" for known in _visible(values)]
        ) from error
    except flags.Error as error:
        raise errors.ConfigError(str(error)) from error
    if plain is not None and rest and not values[plain].value:
        is_list = isinstance(values[plain].value, list)
        values[plain].value = rest if is_list else rest[0]
        rest = [] if is_list else rest[1:]
    if rest:
        raise errors.ConfigError(
            f"Unexpected argument '{rest[0]}'. Options are written --name=value; "
            "see --help."
        )


def _visible(values: flags.FlagValues) -> list[str]:
    return [name for name in values if len(name) > 1]


def _help(name: str, doc: str, *, values: flags.FlagValues, plain: str | None) -> str:
    several = plain is not None and isinstance(values[plain].value, list)
    words = [*name.split("."), *([(plain or "").upper()] if plain else [])]
    lines = [
        f"Usage: {' '.join(words)}{' ...' if several else ''} [--flag=value ...]",
        f"   or: python -m {name} ..." if "." in name else "",
        "",
        doc.strip(),
        "",
        "Flags:",
    ]
    for flag in sorted(_visible(values)):
        entry = values[flag]
        default = "" if entry.default in (None, "", False) else f" [{entry.default}]"
        if flag != plain or name != "tfslim":
            lines.append(f"  --{flag}: {' '.join(entry.help.split())}{default}")
    if "recipe" in values:
        lines += ["", "Recipes, with upstream's names beside ours:"]
        lines.append(recipe_names.table())
    return "\n".join(lines)
