"""What a model file may name: the lists of `allowed.toml`, which says what they are."""

from __future__ import annotations

import tomllib
from pathlib import Path

LISTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def names(key: str) -> frozenset[str]:
    """Returns one of the lists."""
    return frozenset(LISTS[key].split())


LAYERS = names("layers")
OPERATIONS = names("operations")
PARTS = names("parts")
ACTIVATIONS = names("activations")
FUNCTIONS = ACTIVATIONS | names("functions")
OPS = names("ops")
MODULES = names("modules")
SYMBOLS = frozenset(
    f"{module}.{name}" if module else name
    for module, listed in LISTS["tensorflow"].items()
    for name in listed.split()
)
CLASS_METHODS = frozenset(f"RaggedTensor.{name}" for name in names("class_methods"))
ATTRIBUTES = names("attributes")
DTYPES = names("dtypes")
