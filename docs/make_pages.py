"""Writes the pages that are made from the code: config.md and api.md.

    python docs/make_pages.py

A test fails where a page is not what this would write.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import tfslim
from tfslim import fields, settings

_DOCS = Path(__file__).parent
_CONFIG = """\
# Every field of a config

Made from `tfslim/settings.py` by `docs/make_pages.py`. On the command line a field is
`--config.training.epochs=3`; in a config file `config.training.epochs = 3`; in Python
`tfslim.export_model(config={"training": {"epochs": 3}})`. A field that is not set is
None.
"""
_API = """\
# Python reference

Made from `tfslim/__init__.pyi` by `docs/make_pages.py`. Everything here is
`tfslim.NAME`; `import tfslim` imports no TensorFlow until something needs it.
"""


def config_page() -> str:
    """Returns the page of the config's fields, a table a section."""
    lines = [_CONFIG]
    _section(settings.Config(), "config", lines)
    return "\n".join(lines)


def _section(section: Any, name: str, lines: list[str]) -> None:
    doc = (type(section).__doc__ or "").strip().splitlines()[0]
    rows, below = [], []
    for declared in dataclasses.fields(section):
        value, limits = getattr(section, declared.name), fields.limits(declared)
        if dataclasses.is_dataclass(value):
            below.append((value, f"{name}.{declared.name}"))
            continue
        help_text = limits.help.replace("|", r"\|")
        taken = _taken(limits).replace("|", r"\|")
        default = f"`{_shown(value)}`"
        rows.append(f"| `{declared.name}` | {default} | {taken} | {help_text} |")
    lines += [f"## {name}", "", doc, ""]
    if rows:
        lines += ["| field | default | takes | what it is |", "|---|---|---|---|"]
        lines += [*rows, ""]
    for value, dotted in below:
        _section(value, dotted, lines)


def _taken(limits: fields.Limits) -> str:
    if limits.choices:
        return ", ".join(f"`{choice}`" for choice in limits.choices)
    kind = {int: "a whole number", float: "a number"}.get(limits.kind or str, "")
    bounds = (limits.least, limits.most, limits.above, limits.below)
    return " ".join(
        [kind, *([str(limits)] if any(b is not None for b in bounds) else [])]
    )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "()"
    return str(value)


def api_page() -> str:
    """Returns the page of the public names, by the groups of `__init__.pyi`."""
    stub = Path(tfslim.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    lines, groups = [_API], stub.split("\n# ")
    for group in groups[2:]:  # The first two are its head.
        title, _, code = group.partition("\n")
        places = [
            (node.module, alias.name)
            for node in ast.parse(code).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        lines += [f"## {title.rstrip('.')}", ""]
        for module, name in places:
            lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


PAGES = {"config.md": config_page, "api.md": api_page}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (_DOCS / file).write_text(make(), encoding="utf-8")
