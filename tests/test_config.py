"""Configs merge onto the defaults, and every slip is one clear line."""

import pytest

from tfslim import config as config_lib
from tfslim import errors


def _write(tmp_path, text):
    path = tmp_path / "my_config.py"
    path.write_text(text)
    return str(path)


def test_shipped_configs_load():
    assert config_lib.load("quickstart").model.name == "resnet18"


def test_file_sets_only_what_it_names(tmp_path):
    path = _write(tmp_path, "def get_config():\n  return {'training': {'epochs': 3}}")
    config = config_lib.load(path)
    assert config.training.epochs == 3
    assert config.training.batch_size == 32


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("seed", "3", 3),
        ("training.learning_rate", "1", 1.0),
        ("training.mixed_precision", "true", True),
        ("model.input_shape", "(96, 96, 3)", (96, 96, 3)),
        ("quantization.recipes", "int8", ("int8",)),
        ("quantization.recipes", "int8,float16", ("int8", "float16")),
        ("data.spec", "folder:/a b", "folder:/a b"),
    ],
)
def test_override(field, text, value):
    config = config_lib.default_config()
    config_lib.override(config, field, text)
    for part in field.split("."):
        config = config[part]
    assert config == value
    assert type(config) is type(value)


def test_options_of_a_model_are_free():
    config = config_lib.default_config()
    config_lib.override(config, "model.options.alpha", "0.5")
    assert config.model.options.alpha == 0.5


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("sede", "3", "Unknown config field 'sede'. Did you mean 'seed'?"),
        ("training.epoch", "3", "Did you mean 'training.epochs'?"),
        ("training", "3", "config.training is a section"),
        ("seed", "many", "config.seed must be of type int"),
        ("seed", "1.5", "config.seed must be of type int"),
        ("training.mixed_precision", "3", "must be of type bool"),
        ("training.epochs", "true", "must be of type int"),
    ],
)
def test_wrong_override(field, text, message):
    with pytest.raises(errors.ConfigError, match=message.split("'")[0]) as caught:
        config_lib.override(config_lib.default_config(), field, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define get_config"),
        ("def get_config():\n  return 1 / 0", "ZeroDivisionError"),
        ("def get_config(:", "SyntaxError"),
        ("def get_config():\n  return {'sed': 1}", "Did you mean 'seed'"),
    ],
)
def test_wrong_file(tmp_path, text, message):
    with pytest.raises(errors.ConfigError, match=message):
        config_lib.load(_write(tmp_path, text))


def test_missing_file_names_the_shipped_ones():
    with pytest.raises(errors.ConfigError, match=r"no config file.*quickstart"):
        config_lib.load("nowhere/nothing.py")


def test_parse_call():
    assert config_lib.parse_call("m") == ("m", {})
    assert config_lib.parse_call("m:a=0.5,b=(1, 2),c=text,d=None") == (
        "m",
        {"a": 0.5, "b": (1, 2), "c": "text", "d": None},
    )
    with pytest.raises(errors.ConfigError, match="'alpha' in 'm:alpha'"):
        config_lib.parse_call("m:alpha")
