"""What a model is called on the command line, without opening it."""

from __future__ import annotations

import re
from pathlib import Path

from tfslim import models

# "name:option=value,...": what follows the name must look like an option.
_OPTIONS = re.compile(r"(?P<name>.+?):(?P<options>\w+\s*=.*)?", re.DOTALL)
_APPLICATION = re.compile(
    r"(?P<package>tf\.keras|tf_keras|keras)\.applications[.:](?P<name>\w+)"
)
_FUNCTION = re.compile(r"(?P<module>.+):(?P<function>[A-Za-z_]\w*)")


def is_zoo(source: str) -> bool:
    """Tells whether `source` is a model of the zoo, with or without options."""
    return source.partition(":")[0] in models.MODELS


def is_known(source: str) -> bool:
    """Tells whether there is something to open: a path, a name or a function."""
    return (
        is_zoo(source)
        or Path(source).exists()
        or as_application(source) is not None
        or as_function(source) is not None
    )


def split(source: str) -> tuple[str, str]:
    """Splits "source:option=value,..." into the source and its options.

    A path that exists is a path, whatever stands in it, and so is one with a drive
    letter; "module:function" is one source.

    Example:
        >>> split("my_module:build:width=8")
        ('my_module:build', 'width=8')
    """
    if is_zoo(source):
        name, _, options = source.partition(":")
        return name, options
    match = _OPTIONS.fullmatch(source)
    if match is None or Path(source).exists():
        return source, ""
    return match["name"], match["options"] or ""


def as_application(source: str) -> tuple[str, str] | None:
    """Returns package and name in "keras.applications.MobileNetV2", else None."""
    match = _APPLICATION.fullmatch(source)
    return (match["package"], match["name"]) if match else None


def as_function(source: str) -> tuple[str, str] | None:
    """Returns module and function in "module:function", else None."""
    match = _FUNCTION.fullmatch(source)
    return (match["module"], match["function"]) if match else None
