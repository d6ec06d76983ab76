"""The names of the shipped recipes, ours and upstream's, for whoever lists them."""

from __future__ import annotations

# (upstream's name, our short one, what it makes), from the exact to the small.
RECIPES = (
    ("float32", "", "as converted; the reference"),
    ("float16", "", "half the size; computes in float32 on a CPU"),
    ("weight_only_wi8_afp32", "", "INT8 weights, computes in float32"),
    ("weight_only_wi4_afp32", "", "INT4 weights, computes in float32"),
    ("dynamic_wi8_afp32", "dynamic_int8", "INT8 weights, needs no samples"),
    ("dynamic_wi4_afp32", "", "INT4 weights, needs no samples"),
    ("static_wi8_ai8", "int8", "INT8 weights and activations, needs samples"),
    ("static_wi8_ai16", "", "INT8 weights, INT16 activations, needs samples"),
)
# Short name -> upstream's name.
ALIASES = {short: name for name, short, _ in RECIPES if short}


def names() -> list[str]:
    """Returns the names of all recipes, short names included, sorted."""
    return sorted([*ALIASES, *(name for name, _, _ in RECIPES)])


def table() -> str:
    """Returns the recipes as lines for `--help`: both names side by side."""
    return "\n".join(
        f"  {short or name:<22} {name if short else '':<18} {what}"
        for name, short, what in RECIPES
    )
