"""A recipe of one's own: each slip is one line that names the field."""

import copy
import json
import math

import pytest

from tfslim import errors
from tfslim.quantization import get_recipe, quantize_tflite
from tfslim.quantization.rules import recipe

RULE = {
    "regex": ".*",
    "operation": "*",
    "algorithm_key": "min_max_uniform_quantize",
    "op_config": {
        "activation_tensor_config": {
            "num_bits": 8,
            "symmetric": False,
            "granularity": "TENSORWISE",
            "dtype": "INT",
        },
        "weight_tensor_config": {
            "num_bits": 8,
            "symmetric": True,
            "granularity": "CHANNELWISE",
            "dtype": "INT",
        },
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
        "skip_checks": False,
        "min_weight_elements": 0,
    },
}
MISSING = "(missing)"
# Fields without which upstream takes a default of its own.
OPTIONAL = {
    "symmetric",
    "granularity",
    "dtype",
    "explicit_dequantize",
    "skip_checks",
    "min_weight_elements",
    "activation_tensor_config",
}


def _fields(values, before=()):
    for key, value in values.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from _fields(value, (*before, key))


def _with(place, value):
    rule = copy.deepcopy(RULE)
    inner = rule
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return rule


@pytest.mark.parametrize("place", list(_fields(RULE)), ids=".".join)
@pytest.mark.parametrize(
    "value", [None, [8], math.nan, math.inf, -1, 8.5, 10**30, MISSING], ids=repr
)
def test_a_wrong_value_is_named(tmp_path, place, value):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([_with(place, value)]))
    if value is MISSING and place[-1] in OPTIONAL:
        get_recipe(path)
        return
    with pytest.raises(errors.ConfigError, match="recipe") as caught:
        get_recipe(path)
    assert "\n" not in str(caught.value)
    # Without a precision upstream takes FLOAT, and says what does not go with it.
    if (place[-1], value) != ("compute_precision", MISSING):
        assert place[-1] in str(caught.value).rpartition("}: ")[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operation": "NOSUCH"}, "Unsupported operation NOSUCH"),
        ({"algorithm_key": "nosuch"}, "Unsupported algorithm key: nosuch"),
        ({"regex": "("}, "regex cannot be read"),
        ({"op_config": RULE["op_config"] | {"bits": 8}}, "unknown field 'bits'"),
    ],
)
def test_a_name_that_nobody_knows(changes, message):
    with pytest.raises(errors.ConfigError, match=message):
        recipe.Recipe("mine", ({**RULE, **changes},))


@pytest.mark.parametrize("text", ["", "{}", "3", "[3]", "[null]", "[" * 100_000])
def test_a_file_that_is_no_recipe(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(errors.ConfigError):
        get_recipe(path)


@pytest.mark.parametrize("bits", [2, 4, 16, 32])
def test_bits_that_no_kernel_has_are_one_line(residual, bits):
    rule = _with(("op_config", "activation_tensor_config", "num_bits"), bits)
    try:
        quantize_tflite(residual, recipe.Recipe("mine", (rule,)), samples=[])
    except errors.TfslimError as error:
        assert "\n" not in str(error)
