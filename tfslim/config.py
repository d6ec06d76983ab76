"""Configs: Python files with `get_config()`, merged onto the defaults, overridable.

A file names only what differs from the defaults. A field that the defaults do not
have is an error with the nearest known name, whether it stands in a file or in an
override of the command line (`--config.training.epochs=3`).
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.resources
import importlib.util
import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections import config_dict

from tfslim import errors, files, registry, settings

_LARGEST = 2**63
# Names of fields and steps that are to go -> those of today.
_OLD = {"distil": "distill", "distill.alpha": "distill.teacher_weight"}


def default_config() -> ml_collections.ConfigDict:
    """Returns a new config with every field of `settings.Config` at its default.

    A field that is not set is None.
    """
    return _section(settings.Config()).lock()


def _section(section: Any) -> ml_collections.ConfigDict:
    found = ml_collections.ConfigDict()
    for declared in dataclasses.fields(section):
        value = getattr(section, declared.name)
        if dataclasses.is_dataclass(value):
            value = _section(value)
        elif isinstance(value, Mapping):
            value = ml_collections.ConfigDict(dict(value))
        elif value is None:
            value = config_dict.placeholder(settings.limits(declared).kind or str)
        found[declared.name] = value
    return found


def today(name: str) -> str:
    """Returns the name that a field or step has now; warns of an old one."""
    if name in _OLD:
        text = f"'{name}' is called '{_OLD[name]}' now."
        warnings.warn(text, FutureWarning, stacklevel=2)
    return _OLD.get(name, name)


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a value that its field does not take.

    `merge` refuses such a one, too; this finds those that were assigned.
    """
    for name, declared in settings.FIELDS.items():
        value: Any = config
        for key in name.split("."):
            value = value[key]
        settings.limits(declared).check(f"config.{name}", value)


def find(path: str) -> Path:
    """Returns the config file called `path`: a path, or the name of a shipped one.

    Raises:
        ConfigError: there is no such file.
    """
    given = Path(path)
    if given.is_file():
        return given
    shipped = {file.stem: file for file in _shipped()}
    if given.stem in shipped and given.name in (given.stem, f"{given.stem}.py"):
        return shipped[given.stem]
    raise errors.ConfigError(
        f"There is no config file '{path}'. Give the path of a Python file with "
        f"get_config(), or one of the shipped ones: {', '.join(sorted(shipped))}."
    )


def _shipped() -> list[Path]:
    # In a wheel the files stand inside the package, in a checkout beside it.
    inside = Path(str(importlib.resources.files("tfslim"))) / "configs"
    folder = inside if inside.is_dir() else inside.parents[1] / "configs"
    return [file for file in folder.glob("*.py") if not file.name.startswith("_")]


def load(path: str) -> ml_collections.ConfigDict:
    """Reads the config at `path` and merges it onto the defaults.

    It is a Python file with `get_config()`, or the `config.json` of an earlier result.

    Raises:
        ConfigError: no such file, no `get_config`, an error inside it, or a field
            that the defaults do not have.
    """
    file = find(path)
    config = default_config()
    values = _values(file)
    if not isinstance(values, Mapping):
        raise errors.ConfigError(
            f"'{file}' must hold an object with the config's fields, got "
            f"{_short(values)}."
        )
    merge(config, values)
    return config


def _values(file: Path) -> Any:
    """Returns what a Python config, or the JSON beside a result, sets."""
    if file.suffix == ".json":
        try:
            return json.loads(files.read_text(file))
        except OSError as error:
            raise errors.ConfigError(
                f"'{file}' cannot be read: {error.strerror}."
            ) from error
        except (ValueError, RecursionError) as error:
            raise errors.ConfigError(f"'{file}' is not JSON: {error}") from error
    spec = importlib.util.spec_from_file_location(f"tfslim_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise errors.ConfigError(f"'{file}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        user = module.get_config()
    except Exception as error:
        raise errors.ConfigError(
            f"Config file '{file}' failed: {type(error).__name__}: {error}. It must "
            "define get_config() that returns a ConfigDict or a dict."
        ) from error
    if isinstance(user, ml_collections.ConfigDict):
        user = user.to_dict()
    return user


def merge(
    config: ml_collections.ConfigDict, values: Mapping[str, Any], *, prefix: str = ""
) -> None:
    """Sets the fields of `values` in `config`, section by section.

    Raises:
        ConfigError: an unknown field, or a value of another type than the default.
    """
    for key, value in values.items():
        name = today(f"{prefix}{key}")
        key = name.removeprefix(prefix)
        if key not in config:
            raise registry.unknown_name(
                "config field", name, known=[f"{prefix}{known}" for known in config]
            )
        if isinstance(config[key], ml_collections.ConfigDict):
            if not isinstance(value, Mapping):
                raise errors.ConfigError(
                    f"config.{name} is a section, got {_short(value)}. Set one of its "
                    f"fields: {', '.join(sorted(config[key]))}."
                )
            if name in settings.FIELDS:
                with config[key].unlocked():
                    config[key].update(_checked_free(name, value))
            else:
                merge(config[key], value, prefix=f"{name}.")
        else:
            config[key] = _value(name, value)


def override(config: ml_collections.ConfigDict, field: str, *, text: str) -> None:
    """Sets one field from the command line, `field` as in "training.epochs".

    Numbers, booleans, None and tuples are read as Python literals, the rest is text;
    a tuple may also be written as "a,b,c".

    Raises:
        ConfigError: an unknown field, or text that is not of the field's type.
    """
    value: Any = _literal(text)
    is_free = field.startswith(tuple(f"{name}." for name in _FREE))
    # Section, field and a layer's name, which may have dots of its own.
    for key in reversed(field.split(".", 2 if is_free else -1)):
        value = {key: value}
    merge(config, value)


def _value(name: str, value: Any) -> Any:
    """Returns what a field is set to; None where it is not to be set."""
    declared = settings.FIELDS[name]
    limits = settings.limits(declared)
    if declared.default is None:
        # What stood for "not set" once.
        is_old = value == "" or (type(value) in (int, float) and value == 0)
        if is_old and (value == "" or not limits.holds(value)):
            warnings.warn(
                f"config.{name} is not set by {value!r} any more but by None.",
                FutureWarning,
                stacklevel=2,
            )
            value = None
        if value is None:
            return None
    default = declared.default
    value = _typed(
        name, value, default=(limits.kind or str)() if default is None else default
    )
    limits.check(f"config.{name}", value)
    return value


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _typed(name: str, value: Any, *, default: Any) -> Any:
    """Returns `value` as the type of `default`, where nothing is lost by it."""
    if isinstance(default, tuple):
        return _several(name, value)
    if isinstance(default, bool) or isinstance(value, bool):
        if type(value) is type(default):
            return value
    elif isinstance(default, float) and isinstance(value, int | float):
        is_whole = isinstance(value, int)
        # JSON of Python's has NaN and Infinity, too.
        if abs(value) < _LARGEST if is_whole else math.isfinite(value):
            return float(value)
    elif isinstance(default, str) and isinstance(value, int | float):
        return str(value)
    elif isinstance(value, type(default)):
        if not isinstance(value, int) or abs(value) < _LARGEST:
            return value
    raise errors.ConfigError(
        f"config.{name} must be of type {type(default).__name__}, got {_short(value)}."
    )


def _several(name: str, value: Any) -> tuple[Any, ...]:
    """Reads a field of several values, "a,b,c" included."""
    is_numbers = settings.FIELDS[name].type == "tuple[int, ...]"
    values: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        values = [part.strip() for part in value.split(",") if part]
        values = [_literal(part) for part in values] if is_numbers else values
    for part in values:
        if is_numbers:
            is_right = type(part) is int and 0 < part < _LARGEST
        else:
            is_right = isinstance(part, str)
        if not is_right:
            kind = "whole numbers above 0" if is_numbers else "names"
            raise errors.ConfigError(
                f"config.{name} must be {kind}, several by comma or in a list; got "
                f"{_short(part)}."
            )
    return tuple(values)


# Sections of names and patterns of layers -> the type of their values, and what to
# call them.
_FREE: dict[str, tuple[Any, str]] = {
    "quantization.layers": (str, "texts"),
    "prune.ratios": (int | float, "numbers"),
}


def _checked_free(name: str, values: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the fields of such a section, of patterns those that it can hold."""
    found = {}
    for key, value in values.items():
        kind, wanted = _FREE.get(name, (object, "values"))
        is_right = kind is object or (
            isinstance(value, kind) and not isinstance(value, bool)
        )
        if not isinstance(key, str) or not is_right:
            raise errors.ConfigError(
                f"config.{name} must have {wanted} by name, got {_short({key: value})}."
            )
        if "." in key and name not in _FREE:
            raise errors.ConfigError(
                f"config.{name} has the name {_short(key)}: no option has a dot."
            )
        # A ConfigDict has no keys with dots; as a pattern, ? fits the dot, too.
        found[key.replace(".", "?")] = value
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Splits "name:option=value,option=value" into the name and its options.

    Values are Python literals where they can be, else text; a comma inside brackets
    does not separate.

    Raises:
        ConfigError: a part has no "=".

    Example:
        >>> parse_call("mobilenet_v2:alpha=0.35,classifier_activation=None")
        ('mobilenet_v2', {'alpha': 0.35, 'classifier_activation': None})
    """
    name, _, rest = text.partition(":")
    return name, parse_options(rest, name)


def parse_options(text: str, name: str, *, first: str | None = None) -> dict[str, Any]:
    """Reads "option=value,option=value" as `parse_call` does; `name` has them.

    Args:
        text: what stands behind the colon.
        name: what stands before it, for messages.
        first: the option that a leading value without "=" sets.

    Raises:
        ConfigError: a part has no "=".
    """
    options: dict[str, Any] = {}
    for part in filter(None, re.split(r",(?![^(\[]*[)\]])", text)):
        key, equals, value = part.partition("=")
        if not equals and first is not None and not options:
            key, equals, value = first, "=", part
        if not equals or not key.strip():
            raise errors.ConfigError(
                f"'{part}' in '{name}:{text}' is not an option. Write "
                f"{name}:option=value,..."
            )
        options[key.strip()] = _literal(value.strip())
    return options
