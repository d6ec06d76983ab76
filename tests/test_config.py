"""Configs merge onto the defaults, and every slip is one clear line."""

import fnmatch
import json
import math

import ml_collections
import pytest

from tfslim import config as config_lib
from tfslim import errors, settings


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
    config_lib.override(config, field, text=text)
    for part in field.split("."):
        config = config[part]
    assert config == value
    assert type(config) is type(value)


def test_options_of_a_model_are_free():
    config = config_lib.default_config()
    config_lib.override(config, "model.options.alpha", text="0.5")
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
        config_lib.override(config_lib.default_config(), field, text=text)
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


def _fields(config, before=()):
    """Yields names and defaults; of what is not set the empty value of its type."""
    for key, value in config.items():
        yield (*before, key), config.get_type(key)() if value is None else value
        if isinstance(value, ml_collections.ConfigDict):
            yield from _fields(value, (*before, key))


def _are_right(value, default):
    """Whether a field takes a value: of its type, or to be read as it."""
    if isinstance(default, ml_collections.ConfigDict):
        return isinstance(value, dict)
    if isinstance(default, str):
        return isinstance(value, str) or (
            isinstance(value, int | float) and not isinstance(value, bool)
        )
    if isinstance(default, tuple):
        return False
    if isinstance(default, float):
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is type(default)


@pytest.mark.parametrize(
    "value",
    [None, 3, [3], [None], [[1]], {"a": {"b": [1]}}, True, math.nan, math.inf, 10**40],
    ids=repr,
)
def test_no_field_of_a_json_takes_what_it_is_not(tmp_path, value):
    """As `"steps": [3]`, which ended in a traceback at the step's name."""
    path = tmp_path / "config.json"
    for place, default in _fields(config_lib.default_config()):
        name = ".".join(place)
        if name in ("model.options", "model.input_shape") or (
            value == 10**40 and not isinstance(default, int | float | tuple)
        ):
            continue
        nested = value
        for key in reversed(place):
            nested = {key: nested}
        path.write_text(json.dumps(nested))
        declared = settings.FIELDS.get(name)
        is_right = _are_right(value, default) or (
            value is None and declared is not None and declared.default is None
        )
        if is_right and declared is not None and isinstance(value, int | float):
            # 3 is of the type of a share, but none.
            is_right = not settings.limits(declared).choices
            is_right &= settings.limits(declared).holds(value)
        if is_right and value not in (10**40, {"a": {"b": [1]}}):
            config_lib.load(str(path))
            continue
        with pytest.raises(errors.ConfigError, match=place[-1] + r"|'.*\.a'|section"):
            config_lib.load(str(path))


@pytest.mark.parametrize(
    "shape", [["a"], [8, None], [8.5, 8], [-1, 8], [[8]], {"a": 1}]
)
def test_an_input_shape_has_whole_numbers(shape):
    with pytest.raises(errors.ConfigError, match="whole numbers above 0"):
        config_lib.merge(config_lib.default_config(), {"model": {"input_shape": shape}})


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"', "{", "[" * 100_000])
def test_a_json_that_is_no_config(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=r"config\.json"):
        config_lib.load(str(path))


def test_names_that_look_like_numbers_stay_names():
    config = config_lib.default_config()
    config_lib.override(config, "prune.ignore", text="conv,7")
    assert config.prune.ignore == ("conv", "7")


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("training.batch_size", "-1", "training.batch_size must be at least 1, got -1"),
        ("training.learning_rate", "-0.5", "must be above 0, got -0.5"),
        ("width.alpha", "1.5", "config.width.alpha must be in (0, 1], got 1.5"),
        ("sparsify.sparsity", "1", "config.sparsify.sparsity must be in (0, 1)"),
        ("distill.teacher_weight", "2", "teacher_weight must be in [0, 1]"),
        ("prune.scope", "golbal", "Unknown config.prune.scope 'golbal'. Did you mean"),
    ],
)
def test_a_value_out_of_range(field, text, message):
    config = config_lib.default_config()
    with pytest.raises(errors.ConfigError) as caught:
        config_lib.override(config, field, text=text)
    assert message in str(caught.value)


def test_what_is_assigned_is_checked_too():
    config = config_lib.default_config()
    config.training.batch_size = 0
    with pytest.raises(errors.ConfigError, match=r"training\.batch_size"):
        config_lib.check(config)


@pytest.mark.parametrize(
    ("field", "old"),
    [("training.learning_rate", 0.0), ("prune.method", ""), ("slim.max_macs", 0)],
)
def test_what_stood_for_unset_once_still_does(field, old):
    section, name = field.split(".")
    config = config_lib.default_config()
    with pytest.warns(FutureWarning, match=field):
        config_lib.merge(config, {section: {name: old}})
    assert config[section][name] is None


def test_a_field_can_be_unset_again():
    config = config_lib.default_config()
    config_lib.override(config, "training.epochs", text="3")
    config_lib.override(config, "training.epochs", text="None")
    assert config.training.epochs is None


def test_every_field_has_a_help():
    for name, declared in settings.FIELDS.items():
        assert settings.limits(declared).help, name


def test_a_copy_takes_what_is_not_set_yet():
    """As that of a config with the options of one step."""
    config = config_lib.default_config().copy_and_resolve_references()
    config_lib.merge(config, {"width": {"alpha": 0.5}, "distill": {"teacher": "a.h5"}})
    assert config.width.alpha == 0.5 and config.distill.teacher == "a.h5"


@pytest.mark.parametrize("section", ["prune.ratios", "quantization.layers"])
def test_layers_with_dots_are_named_by_a_pattern(section):
    value = 0.5 if section == "prune.ratios" else "float32"
    part, field = section.split(".")
    config = config_lib.default_config()
    config_lib.merge(config, {part: {field: {"layer1.0.conv1": value}}})
    config_lib.override(config, f"{section}.stage.2", text=str(value))
    found = config[part][field].to_dict()
    assert found == {"layer1?0?conv1": value, "stage?2": value}
    for name, pattern in zip(("layer1.0.conv1", "stage.2"), found, strict=True):
        assert fnmatch.fnmatchcase(name, pattern)


def test_options_have_no_dots():
    with pytest.raises(errors.ConfigError, match=r"model.options has the name 'a.b'"):
        config_lib.merge(
            config_lib.default_config(), {"model": {"options": {"a.b": 1}}}
        )
