"""Why an object in a saved config is refused, whatever it is called."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from tfslim import escape
from tfslim.loading import allowed

_shown = escape.terminal

RUNS_CODE: Mapping[str, str] = allowed.LISTS["runs_code"]
DATA = allowed.names("data")
CONSTANTS = allowed.names("constants")
_TYPES = allowed.names("types")
_COUNTS: Mapping[str, int] = allowed.LISTS["counts"]
_MANY_OUTPUTS = allowed.names("many_outputs")
_PREFIXES = ("", "compat.v1.")
_MAX_OUTPUTS = 100_000


def find(entry: Mapping[str, Any]) -> str | None:
    """Returns what a serialized object would do that it must not, None if nothing."""
    kind, inner = entry["class_name"], config(entry)
    return (
        _acts(kind, entry, config=inner)
        or _names_file(inner)
        or _counts_too_far(kind, entry, config=inner)
    )


def config(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns an object's arguments, none if they are no mapping."""
    inner = entry.get("config")
    return inner if isinstance(inner, Mapping) else {}


def _acts(
    kind: str, entry: Mapping[str, Any], *, config: Mapping[str, Any]
) -> str | None:
    """Returns what would run, or reach outside of the model."""
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        function = str(config.get("function", ""))
        if _is_pure(function):
            return None
        function = function.removeprefix("compat.v1.")
        return f"calls tf.{_shown(function):.80}, which is not known to be harmless"
    if kind == "ClassMethod":
        symbol, method = config.get("cls_symbol"), config.get("method_name")
        is_pure = f"{symbol}.{method}" in allowed.CLASS_METHODS
        return (
            None
            if is_pure
            else f"calls {method!r:.80}, a method of tf.{_shown(symbol):.80}"
        )
    if kind in ("InstanceProperty", "InstanceMethod"):
        attribute = config.get("attr_name")
        return None if attribute in allowed.ATTRIBUTES else f"reads {attribute!r:.80}"
    if kind in CONSTANTS and config.get("dtype") not in allowed.DTYPES:
        return f"has {config.get('dtype')!r:.80} for a type of numbers"
    if kind == "TypeSpec" and entry.get("type_spec") not in _TYPES:
        return f"is of the type {entry.get('type_spec')!r:.80}"
    return RUNS_CODE.get(kind)


def _is_pure(symbol: str) -> bool:
    """Tells whether the function that tf_keras finds by that name is allowed."""
    export = importlib.import_module("tensorflow.python.util.tf_export")
    return export.get_symbol_from_name(symbol) in _pure_functions()


@functools.cache
def _pure_functions() -> frozenset[Any]:
    """Returns the allowed functions themselves: most have several names."""
    export = importlib.import_module("tensorflow.python.util.tf_export")
    importlib.import_module("tf_keras")  # Brings some of them.
    names = (f"{prefix}{name}" for name in allowed.SYMBOLS for prefix in _PREFIXES)
    return frozenset(map(export.get_symbol_from_name, names)) - {None}


def _names_file(config: Mapping[str, Any]) -> str | None:
    """Returns what a text for a vocabulary would do: it is the path of a file."""
    for key in ("vocabulary", "idf_weights"):
        value = config.get(key)
        is_list = isinstance(value, Mapping) and value.get("class_name") in (
            CONSTANTS | {"__tuple__"}
        )
        if value is not None and not isinstance(value, list) and not is_list:
            return f"reads its {key} from the file {value!r:.80}"
    return None


def _counts_too_far(
    kind: str, entry: Mapping[str, Any], *, config: Mapping[str, Any]
) -> str | None:
    """Returns what would take for ever, or all memory, while the model is built."""
    for key, most in _COUNTS.items():
        count = _largest(config.get(key))
        if count > most:
            return f"has {count:,} for {key}, of which {most:,} is the most"
    if kind.startswith("LocallyConnected") and config.get("implementation") == 3:
        return "is of implementation 3, which lists all its connections"
    if kind in _MANY_OUTPUTS or config.get("function") in _MANY_OUTPUTS:
        # In Keras 3 the number is the operation's own, in tf_keras it is an argument.
        own = kind in _MANY_OUTPUTS
        outputs = _largest(config if own else entry.get("inbound_nodes"))
        if outputs > _MAX_OUTPUTS:
            return f"makes {outputs:,} outputs"
    return None


def _largest(value: Any) -> float:
    """Returns the largest number in a config, 0 if there is none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int | float) else 0
