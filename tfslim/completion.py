"""Writes what completes commands, flags and names in a shell.

  source <(tfslim completion bash)                        # in ~/.bashrc
  source <(tfslim completion zsh)                         # in ~/.zshrc
  tfslim completion fish > ~/.config/fish/completions/tfslim.fish

Exit codes: 0 done, 2 wrong usage.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfslim import cli, commands, errors, models, recipe_names, registry, settings

_BASH = """\
_tfslim() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local words= names=
    # Bash takes --flag=value for three words.
    [[ $current == = ]] && current= && previous="=" && COMP_CWORD=$((COMP_CWORD + 1))
    [[ $previous == = ]] && previous=${{COMP_WORDS[COMP_CWORD-2]}}
    if (( COMP_CWORD == 1 )); then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} $previous" in
{values}
            *)
                case "${{COMP_WORDS[1]}}" in
{flags}
                esac
                [[ $current == -* ]] || words=$names ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ ${{COMPREPLY[0]}} == --*= ]] && compopt -o nospace 2> /dev/null
    return 0
}}
complete -o default -F _tfslim tfslim"""
# What stands without a flag's name.
_PLAIN = ("model", "shell")
_ZSH = (
    "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit"
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(values, ("shell", str, "bash, zsh or fish."))


def _choices(command: str) -> dict[str, Sequence[str]]:
    """Returns flag -> the names that it takes."""
    own = {name.rpartition(".")[2]: f for name, f in settings.FIELDS.items()}
    found = {name: settings.limits(field).choices for name, field in own.items()}
    found["recipe"] = tuple(recipe_names.names())
    found["shell"] = tuple(_SHELLS)
    if command in commands.WITH_CONFIG:  # Of the others it is a file.
        found["model"] = tuple(models.MODELS.names())
    return {name: names for name, names in found.items() if names}


def _flags_of(command: str) -> dict[str, flags.Flag[Any]]:
    values = flags.FlagValues()
    importlib.import_module(commands.COMMANDS[command][0]).define_flags(values)
    return {name: values[name] for name in sorted(values)}


def bash() -> str:
    """Returns the script for bash."""
    known, values = [], []
    for command in commands.COMMANDS:
        choices, own = _choices(command), _flags_of(command)
        written = [f"--{name}{'' if own[name].boolean else '='}" for name in own]
        if command in commands.WITH_CONFIG:
            written += [f"--config.{field}=" for field in settings.FIELDS]
        plain = " ".join(
            next((choices[n] for n in _PLAIN if n in own and n in choices), ())
        )
        known.append(f'{command}) words="{" ".join(written)}" names="{plain}" ;;')
        values += [
            f'"{command} --{name}") words="{" ".join(choices[name])}" ;;'
            for name in own
            if name in choices
        ]
    return _BASH.format(
        commands=" ".join(commands.COMMANDS),
        flags="\n".join(" " * 20 + line for line in known),
        values="\n".join(" " * 12 + line for line in values),
    )


def zsh() -> str:
    """Returns the script for zsh, which takes that of bash."""
    return f"{_ZSH}\n{bash()}"


def fish() -> str:
    """Returns the script for fish."""
    lines = ["complete -c tfslim -e"]
    for command, (_, what) in commands.COMMANDS.items():
        lines.append(
            f"complete -c tfslim -n __fish_use_subcommand -f -a {command} -d '{what}'"
        )
        choices, only = _choices(command), f"'__fish_seen_subcommand_from {command}'"
        for name, flag in _flags_of(command).items():
            takes = "" if flag.boolean else " -r"
            if name in choices:
                names = f" -a '{' '.join(choices[name])}'"
                takes = f"{' -r' if name == 'model' else ' -x'}{names}"
                if name in _PLAIN:
                    lines.append(f"complete -c tfslim -n {only}{names}")
            said = re.sub(r"['\\\\]", "", flag.help or "").split(".")[0]
            lines.append(f"complete -c tfslim -n {only} -l {name}{takes} -d '{said}'")
    return "\n".join(lines)


_SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def _run(values: flags.FlagValues, config: None) -> None:
    if not values.shell:
        raise errors.ConfigError("No shell is given. Write: tfslim completion bash.")
    if values.shell not in _SHELLS:
        raise registry.unknown_name("shell", values.shell, known=_SHELLS)
    sys.stdout.write(_SHELLS[values.shell]() + "\n")


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.completion",
    __doc__ or "",
    define_flags,
    _run,
    plain="shell",
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
