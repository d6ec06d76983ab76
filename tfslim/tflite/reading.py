"""The schema's vectors, names and op codes as plain values."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema


def names_of(enum: type) -> dict[int, str]:
    """Returns number -> name of an enumeration of the schema."""
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


_OPS = names_of(schema.BuiltinOperator)


def numbers(vector: Any) -> tuple[int, ...]:
    """Gives a vector of the schema as plain integers; an absent one is empty."""
    # An absent vector is None, an empty one the number 0 (the generated reader).
    if vector is None or isinstance(vector, int):
        return ()
    return tuple(int(number) for number in vector)


def text(value: Any) -> str:
    r"""Gives a name; bytes that are no UTF-8 stand there as \xNN."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value or ""


def make_text(flat: Any) -> bool:
    """Makes UTF-8 of all names in a `schema.ModelT`, as `text` shows them.

    LiteRT runs files with other names, but raises an error where it is asked for one.

    Returns:
        Whether any name changed.
    """
    owners = [(code, "customCode") for code in flat.operatorCodes or []]
    for graph in flat.subgraphs or []:
        owners += [(graph, "name"), *((t, "name") for t in graph.tensors or [])]
    for signature in flat.signatureDefs or []:
        owners.append((signature, "signatureKey"))
        ends = (*(signature.inputs or []), *(signature.outputs or []))
        owners += [(entry, "name") for entry in ends]
    changed = False
    for owner, field in owners:
        name = getattr(owner, field)
        if isinstance(name, bytes) and text(name).encode() != name:
            setattr(owner, field, text(name).encode())
            changed = True
    return changed


def op_name(code: Any) -> tuple[str, bool]:
    """Returns the name of a `schema.OperatorCodeT`, and whether it is a custom op."""
    # Files older than builtin code 127 have the number in the deprecated field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return text(code.customCode), True
    return _OPS.get(number, f"BUILTIN_{number}"), False
