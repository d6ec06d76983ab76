"""Writes what completes commands, flags and names in a shell.

  source <(tfslim completion bash)                        # in ~/.bashrc
  source <(tfslim completion zsh)                         # in ~/.zshrc
  tfslim completion fish > ~/.config/fish/completions/tfslim.fish

Exit codes: 0 done, 2 wrong usage.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from absl import flags

from tfslim import cli, commands, recipe_names, registry, settings

_BASH = """\
_tfslim() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local words=
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
                [[ $current == -* ]] || words= ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ ${{COMPREPLY[0]}} == --*= ]] && compopt -o nospace 2> /dev/null
    return 0
}}
complete -o default -F _tfslim tfslim"""
_ZSH = (
    "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit"
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(values, ("shell", str, "bash, zsh or fish."))


def _choices() -> dict[str, Sequence[str]]:
    """Returns flag -> the names that it takes."""
    from tfslim import models

    own = {name.rpartition(".")[2]: f for name, f in settings.FIELDS.items()}
    closed = {name: settings.limits(field).choices for name, field in own.items()}
    return {
        **{name: found for name, found in closed.items() if found},
        "recipe": recipe_names.names(),
        "model": models.MODELS.names(),
        "shell": list(_SHELLS),
    }


def _flags_of(name: str) -> flags.FlagValues:
    values = flags.FlagValues()
    importlib.import_module(commands.COMMANDS[name][0]).define_flags(values)
    return values


def bash() -> str:
    """Returns the script for bash."""
    choices = _choices()
    known, values = [], []
    for name in commands.COMMANDS:
        own = _flags_of(name)
        written = [f"--{f}{'' if own[f].boolean else '='}" for f in sorted(own)]
        if name in commands.WITH_CONFIG:
            written += [f"--config.{field}=" for field in settings.FIELDS]
        known.append(f'{name}) words="{" ".join(written)}" ;;')
        values += [
            f'"{name} --{flag}") words="{" ".join(choices[flag])}" ;;'
            for flag in sorted(own)
            if flag in choices
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
    choices = _choices()
    lines = ["complete -c tfslim -e"]
    for name, (_, what) in commands.COMMANDS.items():
        lines.append(
            f"complete -c tfslim -n __fish_use_subcommand -f -a {name} -d '{what}'"
        )
        own = _flags_of(name)
        for flag in sorted(own):
            takes = "" if own[flag].boolean else " -r"
            if flag in choices:
                takes += f" -a '{' '.join(choices[flag])}'"
            said = (own[flag].help or "").split(".")[0].replace("'", "")
            lines.append(
                f"complete -c tfslim -n '__fish_seen_subcommand_from {name}' "
                f"-l {flag}{takes} -d '{said}'"
            )
    return "\n".join(lines)


_SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def _run(values: flags.FlagValues, config: None) -> None:
    if values.shell not in _SHELLS:
        raise registry.unknown_name("shell", values.shell, _SHELLS)
    sys.stdout.write(_SHELLS[values.shell]() + "\n")


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.completion", doc, define_flags, _run, argv, plain="shell")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
