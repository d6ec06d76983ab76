"""tfslim: any Keras model in, the smallest and fastest `.tflite` out, with proof.

Everything public is named in `__init__.pyi`, grouped by what it is for, and imported on
first use, so that `import tfslim` does not import TensorFlow.
"""

from __future__ import annotations

import ast
import importlib
import warnings
from pathlib import Path
from typing import Any

from tfslim import errors, quiet

__version__ = "0.1.0"

# Public name that is to go -> the one that takes its place; usable for one release.
_OLD: dict[str, str] = {}


quiet.watch()


def _places() -> dict[str, tuple[str, str]]:
    """Returns public name -> the module where it stands and its name there."""
    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_PUBLIC = _places()
_MODULES = [name for name, (module, _) in _PUBLIC.items() if module == "tfslim"]

__all__ = ["__version__", *sorted(set(_PUBLIC) - set(_MODULES))]


def __getattr__(name: str) -> Any:
    if name in _OLD:
        text = f"tfslim.{name} is called tfslim.{_OLD[name]} now."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module("tfslim"), _OLD[name])
    if name in _MODULES:
        return importlib.import_module(f"tfslim.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfslim' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    with errors.extra_needed(f"tfslim.{name}"):
        value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
