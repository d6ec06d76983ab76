"""Lines of code of the package, a room at a time: `make size`.

Blank lines, comments and docstrings do not count; the formatter decides what a line is.

  python -m benchmarks.code_size
"""

from __future__ import annotations

import ast
import collections
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1] / "tfslim"
_SILENT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> int:
    """Returns the number of lines of `source` that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(ast.parse(source)))


def _docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            text = node.body[0]
            lines.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return lines


def main() -> None:
    """Prints the lines of each room and of all."""
    rooms: collections.Counter[str] = collections.Counter()
    for path in ROOT.rglob("*.py"):
        inner = path.relative_to(ROOT).parts
        room = inner[0] if len(inner) > 1 else "(modules)"
        rooms[room] += code_lines(path.read_text(encoding="utf-8"))
    for room, lines in sorted(rooms.items()):
        print(f"{lines:7,} {room}")
    print(f"{rooms.total():7,} in all")


if __name__ == "__main__":
    main()
