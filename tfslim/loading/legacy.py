"""Configs of Keras 1 in the words of Keras 2.

Weights of Keras 1 are brought up by tf_keras itself; it no longer reads the configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfslim import errors

# Old argument -> new one, whatever the layer; None: it has no meaning any more.
_ARGUMENTS: dict[str, str | None] = {
    "W_constraint": "kernel_constraint",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_constraint": "bias_constraint",
    "b_regularizer": "bias_regularizer",
    "atrous_rate": "dilation_rate",
    "beta_init": "beta_initializer",
    "bias": "use_bias",
    "border_mode": "padding",
    "consume_less": None,
    "depthwise_init": "depthwise_initializer",
    "dim_ordering": "data_format",
    "dropout_U": "recurrent_dropout",
    "dropout_W": "dropout",
    "gamma_init": "gamma_initializer",
    "init": "kernel_initializer",
    "inner_activation": "recurrent_activation",
    "inner_init": "recurrent_initializer",
    "input_dtype": "dtype",
    "nb_filter": "filters",
    "output_dim": "units",
    "pointwise_init": "pointwise_initializer",
    "subsample": "strides",
}
# The same for arguments that mean it in these layers only.
_OF_LAYER: dict[str, dict[str, str | None]] = {
    "AveragePooling1D": {"pool_length": "pool_size", "stride": "strides"},
    "Convolution1D": {"filter_length": "kernel_size", "subsample_length": "strides"},
    "Deconvolution2D": {"output_shape": None},
    "Dropout": {"p": "rate"},
    "Embedding": {
        "init": "embeddings_initializer",
        "output_dim": "output_dim",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
        "dropout": None,
    },
    "GaussianDropout": {"p": "rate"},
    "GaussianNoise": {"sigma": "stddev"},
    "MaxPooling1D": {"pool_length": "pool_size", "stride": "strides"},
    "PReLU": {"init": "alpha_initializer"},
    "SpatialDropout1D": {"p": "rate"},
    "SpatialDropout2D": {"p": "rate"},
    "UpSampling1D": {"length": "size"},
}
_CLASSES = {"AtrousConvolution2D": "Conv2D", "Deconvolution2D": "Conv2DTranspose"}
_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first", "default": None}
_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "max": "Maximum",
    "mul": "Multiply",
    "sum": "Add",
}


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
    names = _ARGUMENTS | _OF_LAYER.get(kind, {})
    renamed = {}
    for key, value in config.items():
        name = names.get(key, key)
        if name is not None:
            renamed[name] = value
    if "data_format" in renamed:
        given = renamed["data_format"]
        renamed["data_format"] = _DATA_FORMATS.get(given, given)
    for key in renamed:
        if key.endswith("_regularizer"):
            renamed[key] = _regularizer(renamed[key])
    return _CLASSES.get(kind, kind), renamed


def _merge(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    mode = config.get("mode")
    if mode not in _MERGES or config.get("layers"):
        raise errors.ConfigError(
            f"Layer '{config.get('name')}' merges by {mode!r} in the way of Keras 1; "
            f"only {', '.join(_MERGES)} in a functional model can be carried over."
        )
    kept = {"name": config.get("name")}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    return _MERGES[mode], kept


def _regularizer(value: Any) -> Any:
    if not isinstance(value, Mapping) or "class_name" in value:
        return value
    factors = {key: value.get(key, 0.0) for key in ("l1", "l2")}
    return {"class_name": "L1L2", "config": factors}
