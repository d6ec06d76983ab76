"""From a template and plain data to one self-contained page."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from tfslim import escape
from tfslim.report import elide


def render(template: str, **values: Any) -> str:
    """Returns a page; every text in `values` is escaped.

    Args:
        template: name of a file beside this one that extends base.html.
        **values: what it shows; "title" for one.
    """
    import jinja2
    import markupsafe

    def shown(value: Any) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
        return escape.lines(value) if is_text else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfslim.report", "html"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["elided"] = elide.elided
    script, style = _text("sort.js"), _text("style.css")
    return environment.get_template(template).render(
        **values,
        script=markupsafe.Markup(script),
        script_hash=_hash(script),
        style=markupsafe.Markup(style),
    )


def _text(name: str) -> str:
    return resources.files("tfslim.report.html").joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    """Returns what lets a browser run this script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
