"""What a model file may name: the lists of `allowed.toml`, which says what they are."""

from __future__ import annotations

import tomllib
from pathlib import Path

_LISTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _names(key: str) -> frozenset[str]:
    return frozenset(_LISTS[key].split())


LAYERS = _names("layers")
OPERATIONS = _names("operations")
PARTS = _names("parts")
ACTIVATIONS = _names("activations")
FUNCTIONS = ACTIVATIONS | _names("functions")
OPS = _names("ops")
MODULES = _names("modules")
SYMBOLS = frozenset(
    f"{module}.{name}" if module else name
    for module, listed in _LISTS["tensorflow"].items()
    for name in listed.split()
)
CLASS_METHODS = frozenset(f"RaggedTensor.{name}" for name in _names("class_methods"))
ATTRIBUTES = _names("attributes")
DTYPES = _names("dtypes")
