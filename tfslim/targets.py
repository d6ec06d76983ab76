"""Targets: what a file must be to run where it will run, as data.

`quantization/rules/targets/NAME.json` is one each. A user's own is a .json of the same
fields: which schemes it takes, what its ends are, which ops stay float, whether any
may, which ops it runs at all, and what proves it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfslim import errors, files, ops, registry

_FOLDER = Path(__file__).parent / "quantization" / "rules" / "targets"
DEFAULT = "xnnpack"
_SCHEMES = (
    *("float32", "float16", "weight_only", "dynamic_int8", "dynamic_int4"),
    *("static_int8", "static_int16"),
)
_ENDS = ("float", "int8", "uint8")
_ALL = "*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where files of a kind run, and what they must be for it.

    Attributes:
        name: as asked for.
        what: the devices, in a few words.
        schemes: those of recipes that it takes (`Recipe.scheme`), besides float32;
            empty: all.
        recipes: of an export that names none; the last is that of a single file.
        ends: what inputs and outputs may be, the one that is taken unasked first.
        floats: "allowed", or "none" where a float op is a fault.
        weighs_borders: whether ops stay float that only ops in float surround.
        integer: ops that become INT8 though litert-quantizer has them in float alone;
            "*" are all that have an INT8 kernel.
        keep_float: scheme -> rows of "operation" and "reason": ops that stay float.
        runs: the ops that it has at all; empty: all.
        most_dimensions: of a tensor; 0: any number.
        proof: the consumer that shows whether a file is right for it.
    """

    name: str
    what: str
    schemes: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ("float32", "int8")
    ends: tuple[str, ...] = _ENDS
    floats: str = "allowed"
    weighs_borders: bool = True
    integer: tuple[str, ...] = ()
    keep_float: Mapping[str, tuple[Mapping[str, str], ...]] = dataclasses.field(
        default_factory=dict
    )
    runs: tuple[str, ...] = ()
    most_dimensions: int = 0
    proof: str = "interpreter"

    @property
    def allows_float(self) -> bool:
        """Whether a float op in a file is none of its faults."""
        return self.floats == "allowed"

    def rows(self, scheme: str) -> tuple[Mapping[str, str], ...]:
        """Returns the ops that stay float in files of a scheme, each with a reason."""
        return tuple(self.keep_float.get(scheme, ()))

    def makes_integer(self, op: str) -> bool:
        """Whether an op becomes INT8 that litert-quantizer leaves in float."""
        row = ops.TFLITE.get(op)
        has_kernel = row is not None and row.integer is not None
        return has_kernel and (_ALL in self.integer or op in self.integer)

    def lacks(self, op: str) -> bool:
        """Whether an op is to be said in others, if that can be."""
        row = ops.TFLITE.get(op)
        if not self.allows_float and (row is None or row.integer is None):
            return True
        return bool(self.runs) and op not in self.runs

    def quantizing_all(self) -> Target:
        """Returns the same, but no op stays float that could be INT8."""
        return dataclasses.replace(
            self, keep_float={}, weighs_borders=False, integer=(_ALL,)
        )

    def end(self, wanted: str | None) -> str:
        """Returns what inputs and outputs of static INT8 are: what is wanted, if given.

        Raises:
            ConfigError: the target has no such ends.
        """
        if wanted is None:
            return self.ends[0]
        if wanted in _ENDS and wanted not in self.ends:
            raise errors.ConfigError(
                f"io='{wanted}' is not for the target '{self.name}' ({self.what}). "
                f"Use {' or '.join(self.ends)}."
            )
        return wanted

    def require_scheme(self, scheme: str, recipe: str) -> None:
        """Raises ConfigError unless files of a scheme run there."""
        if scheme == "float32" or not self.schemes or scheme in self.schemes:
            return
        raise errors.ConfigError(
            f"The recipe '{recipe}' is not for the target '{self.name}' ({self.what}). "
            f"Use {self.recipes[-1]}."
        )


def names() -> list[str]:
    """Returns the names of the shipped targets, the default first."""
    found = sorted(path.stem for path in _FOLDER.glob("*.json"))
    return sorted(found, key=lambda name: name != DEFAULT)


def get(target: str | Path | Target | None = None) -> Target:
    """Returns the target of that name, or from a .json at that path.

    Raises:
        ConfigError: there is none, or the file is not that of a target.
    """
    if isinstance(target, Target):
        return target
    name = DEFAULT if target is None else str(target)
    if name.endswith(".json"):
        return _read(Path(name))
    if name not in names():
        raise registry.unknown_name("target", name, known=names())
    return _shipped(name)


@functools.cache
def _shipped(name: str) -> Target:
    return _read(_FOLDER / f"{name}.json")


def _read(path: Path) -> Target:
    try:
        fields = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.ConfigError(
            f"Cannot read the target '{path}': {error}."
        ) from error
    fault = _fault(fields)
    if fault:
        raise errors.ConfigError(f"The target '{path}' cannot be used: {fault}.")
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields.items()
    }
    return Target(name=path.stem, **known)


def _fault(fields: Any) -> str:
    """Says what is wrong with a target's fields, "" where nothing is."""
    if not isinstance(fields, dict):
        return "expected an object of fields"
    declared = {f.name: f for f in dataclasses.fields(Target) if f.name != "name"}
    unknown = sorted(set(fields) - set(declared))
    if unknown:
        return f"it has the unknown field '{unknown[0]}'; known: {', '.join(declared)}"
    if not isinstance(fields.get("what"), str):
        return "'what' must be a text that says which devices it is for"
    lists = {
        "schemes": _SCHEMES,
        "recipes": None,
        "ends": _ENDS,
        "integer": (_ALL, *ops.TFLITE),
        "runs": tuple(ops.TFLITE),
    }
    for name, known in lists.items():
        fault = _list_fault(name, fields.get(name, []), known=known)
        if fault:
            return fault
    for name in ("ends", "recipes"):
        if name in fields and not fields[name]:
            return f"'{name}' must not be empty"
    if fields.get("floats", "none") not in ("allowed", "none"):
        return f"'floats' must be allowed or none, got {fields['floats']!r}"
    if type(fields.get("weighs_borders", True)) is not bool:
        return f"'weighs_borders' must be true or false, got {fields['weighs_borders']}"
    most = fields.get("most_dimensions", 0)
    if type(most) is not int or most < 0:
        return f"'most_dimensions' must be a whole number from 0, got {most!r}"
    if not isinstance(fields.get("proof", ""), str):
        return "'proof' must be the name of a consumer"
    return _rows_fault(fields.get("keep_float", {}))


def _list_fault(name: str, values: Any, *, known: tuple[str, ...] | None) -> str:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return f"'{name}' must be a list of texts, got {values!r}"
    unknown = [v for v in values if known is not None and v not in known]
    return (
        str(registry.unknown_name(name, unknown[0], known=known or ()))
        if unknown
        else ""
    )


def _rows_fault(keep_float: Any) -> str:
    if not isinstance(keep_float, dict):
        return "'keep_float' must be an object: scheme -> list of rows"
    fault = _list_fault("keep_float", list(keep_float), known=_SCHEMES)
    for scheme, rows in keep_float.items():
        is_right = isinstance(rows, list) and all(
            isinstance(row, dict)
            and row.keys() == {"operation", "reason"}
            and row["operation"] in ops.TFLITE
            and isinstance(row["reason"], str)
            for row in rows
        )
        if not is_right and not fault:
            fault = (
                f"'keep_float' of {scheme} must be a list of rows with 'operation' (of "
                "a TFLite op) and 'reason'"
            )
    return fault
