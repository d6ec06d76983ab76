"""Files, functions and lists of parameters stay of a size that one takes in at once."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "tfslim"
FILES = sorted(ROOT.rglob("*.py"))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _functions(path):
    return [n for n in ast.walk(ast.parse(path.read_text())) if type(n) in _FUNCTIONS]


def _lines(function):
    """Counts what is not docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= text.end_lineno - text.lineno + 1
    return lines


def _parameters(function):
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [a.arg for a in every if a.arg not in ("self", "cls")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path):
    assert len(path.read_text().splitlines()) <= 400
    for function in _functions(path):
        assert _lines(function) <= 50, function.name
        most = 7 if function.name.startswith("_") else 10
        assert len(_parameters(function)) <= most, function.name


def _handed_on():
    """Names that stand for a function without calling it, or with a tuple unpacked."""
    found = set()
    for path in FILES:
        tree = ast.parse(path.read_text())
        plain = {
            id(call.func)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            and not any(isinstance(a, ast.Starred) for a in call.args)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and id(node) not in plain:
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_the_third_argument_of_a_function_is_passed_by_name():
    """Unless another function, or a tuple, decides how it is called."""
    handed_on = _handed_on()
    for path in FILES:
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, _FUNCTIONS) and function.name not in handed_on:
                assert len(function.args.args) <= 2, f"{path.name}: {function.name}"


def test_counting():
    code = 'def f(self, a, *, b):\n    """One.\n\n    Two.\n    """\n    return a\n'
    (function,) = ast.parse(code).body
    assert (_lines(function), _parameters(function)) == (2, ["a", "b"])
