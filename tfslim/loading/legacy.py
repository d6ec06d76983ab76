"""Configs of Keras 1 in the words of Keras 2, by the table in `legacy.toml`.

Weights of Keras 1 are brought up by tf_keras itself; it no longer reads the configs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfslim import errors

_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def from_keras1(value: Any) -> Any:
    """Returns a Keras 1 config, as parsed JSON, as Keras 2 would have written it.

    Source: the renamings of the Keras 2 release notes,
    https://github.com/keras-team/keras/wiki/Keras-2.0-release-notes (2017).

    Raises:
        ConfigError: a layer that no later Keras has.
    """
    if isinstance(value, list):
        return [from_keras1(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    value = {key: from_keras1(part) for key, part in value.items()}
    kind, config = value.get("class_name"), value.get("config")
    if isinstance(kind, str) and isinstance(config, Mapping) and "layers" not in config:
        value["class_name"], value["config"] = _layer(kind, dict(config))
    return value


def _layer(kind: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if kind == "Merge":
        return _merge(config)
    if kind == "BatchNormalization" and config.pop("mode", 0) == 1:
        raise errors.ConfigError(
            f"Layer '{config.get('name')}' normalizes each sample (mode=1 of Keras 1); "
            "no later Keras has that. Replace it and train again."
        )
    if "nb_row" in config:
        config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
    names = _WORDS["arguments"] | _WORDS["layers"].get(kind, {})
    renamed = {names.get(key, key): value for key, value in config.items()}
    renamed.pop("", None)
    if "data_format" in renamed:
        given = renamed["data_format"]
        renamed["data_format"] = _WORDS["data_formats"].get(given, given) or None
    for key in renamed:
        if key.endswith("_regularizer"):
            renamed[key] = _regularizer(renamed[key])
    return _WORDS["classes"].get(kind, kind), renamed


def _merge(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    mode = config.get("mode")
    if mode not in _WORDS["merges"] or config.get("layers"):
        raise errors.ConfigError(
            f"Layer '{config.get('name')}' merges by {mode!r} in the way of Keras 1; "
            f"only {', '.join(_WORDS['merges'])} in a functional model can be carried "
            "over."
        )
    kept = {"name": config.get("name")}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    return _WORDS["merges"][mode], kept


def _regularizer(value: Any) -> Any:
    if not isinstance(value, Mapping) or "class_name" in value:
        return value
    factors = {key: value.get(key, 0.0) for key in ("l1", "l2")}
    return {"class_name": "L1L2", "config": factors}
