"""One set of defaults: of the command, of the config and of the functions."""

import inspect

import pytest
from absl import flags

from tfslim import default_config, errors, quantize, quantize_tflite
from tfslim.quantization import Options

SHARED = ("calibration", "equalize", "rounding", "bias_correction", "io")


def test_the_command_has_the_defaults_of_the_options():
    values = flags.FlagValues()
    quantize.define_flags(values)
    for name in SHARED:
        assert values[name].default == getattr(Options(), name), name


def test_the_config_has_the_defaults_of_the_options():
    config = default_config().quantization
    for name in SHARED:
        assert config[name] == getattr(Options(), name), name


def test_the_function_has_the_defaults_of_the_options():
    parameters = inspect.signature(quantize_tflite).parameters
    for name in ("calibration", "io", "keep_float"):
        assert parameters[name].default == getattr(Options(), name), name


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("calibration", "minmix", "minmax"),
        ("rounding", "gtpq", "gptq"),
        ("bias_correction", "fats", "fast"),
        ("io", "int9", "int8"),
        ("keep_float", "xnpack", "xnnpack"),
    ],
)
def test_a_wrong_name_says_what_is_near(name, value, near):
    with pytest.raises(errors.ConfigError, match=f"Did you mean '{near}'"):
        Options(**{name: value})
