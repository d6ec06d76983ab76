"""Names from files of others, shown so that they change nothing but what they say.

A name may hold terminal codes, HTML, line breaks or marks of Markdown. Whoever shows
one passes it through here; files and JSON keep it as it is.
"""

from __future__ import annotations

import re
import unicodedata

# They swap the order in which the letters beside them are shown.
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Controls, halves of characters, and separators of lines and paragraphs.
_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def terminal(text: object) -> str:
    r"""Returns `text` on one line, its control characters written out.

    Example:
        >>> print(terminal("red\x1b[31m and\na second line"))
        red\x1b[31m and\na second line
    """
    return "".join(_shown(character) for character in str(text))


def lines(text: str) -> str:
    """Does what `terminal` does, but keeps line breaks: for a text of our own."""
    return "\n".join(terminal(line) for line in text.split("\n"))


def markdown(text: object) -> str:
    r"""Returns `text` for a line, heading or table of Markdown, to be read alone.

    Example:
        >>> print(markdown("<img src=x> a|b *c* conv_1"))
        &lt;img src=x&gt; a\|b \*c\* conv_1
    """
    # A lone underscore within a word marks nothing.
    marks = r"[\\`*\[\]|#~$!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    marked = re.sub(marks, r"\\\g<0>", terminal(text))
    return marked.translate(_ENTITIES)


def code(text: object) -> str:
    """Returns `text` as a code span of Markdown, its backticks included.

    Example:
        >>> print(code("conv`1"))
        ``conv`1``
    """
    shown = terminal(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    # Inside of a table even a code span ends at a bar.
    shown = shown.replace("|", "\\|")
    space = " " if shown[:1] in ("`", "") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _shown(character: str) -> str:
    if character.isprintable() and character not in _TURNS:
        return character
    if unicodedata.category(character) in _CATEGORIES or character in _TURNS:
        return character.encode("unicode_escape").decode("ascii")
    return character
