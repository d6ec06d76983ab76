"""Weights from elsewhere into a model that was just built."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tf_keras

from tfslim import errors
from tfslim.models.registry import MODELS, ModelSpec

_LOGGER = logging.getLogger(__name__)

# What tf_keras.applications has ImageNet weights for: alphas, and the input sizes
# with weights of their own (the others take those of 224).
_PUBLISHED: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    "vgg16": ((1.0,), (224,)),
    "mobilenet_v1": ((0.25, 0.5, 0.75, 1.0), (128, 160, 192, 224)),
    "mobilenet_v2": ((0.35, 0.5, 0.75, 1.0, 1.3, 1.4), (96, 128, 160, 192, 224)),
    "mobilenet_v3_small": ((0.75, 1.0), (224,)),
    "mobilenet_v3_large": ((0.75, 1.0), (224,)),
}


def load(
    model: tf_keras.Model, weights: str, *, spec: ModelSpec, options: Mapping[str, Any]
) -> None:
    """Puts `weights` into `model`, see `build_model` for what they can be.

    Args:
        model: changed in place.
        weights: "imagenet" or a path.
        spec: the spec that the model was built from.
        options: the architecture's options that it was built with.

    Raises:
        ConfigError: there is no such file, or it does not fit the model.
        DataError: the weights cannot be downloaded or read.
    """
    if weights == "imagenet":
        arrays = _imagenet(spec, options)
        # Without its top, VGG16 comes with the weights of the convolutions only.
        arrays += model.get_weights()[len(arrays) :]
        _assign(model, arrays, source="The ImageNet weights")
        return
    path = Path(weights)
    if not path.is_file():
        raise errors.ConfigError(
            f"weights must be 'imagenet' or the path of a file, but '{path}' is none."
        )
    try:
        if path.name.endswith(".weights.h5"):
            model.load_weights(str(path))
            return
        arrays = _read(path)
    except errors.TfslimError:
        raise
    except Exception as error:  # Keras, h5py and numpy have no class in common.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.DataError(
            f"The weights in '{path}' cannot be read into {model.name}: {reason}"
        ) from error
    _assign(model, arrays, source=f"'{path}'")


def _read(path: Path) -> list[np.ndarray]:
    """Returns the arrays of a weights file in `get_weights()` order."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            names = [f"arr_{index}" for index in range(len(file.files))]
            if set(names) != set(file.files):
                raise errors.DataError(
                    f"'{path}' must hold arr_0, arr_1, ... as written by "
                    f"np.savez(path, *model.get_weights()), got {file.files[:3]}."
                )
            return [file[name] for name in names]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            group = file["model_weights"] if "model_weights" in file else file
            layers = (group[name] for name in _names(group, "layer_names"))
            return [
                np.asarray(layer[name])
                for layer in layers
                for name in _names(layer, "weight_names")
            ]
    if path.suffix == ".keras":
        return list(tf_keras.models.load_model(path, compile=False).get_weights())
    raise errors.ConfigError(
        f"Weights come from a file ending in .npz, .h5 or .keras, got '{path}'."
    )


def _names(group: h5py.Group, attribute: str) -> Iterator[str]:
    """Yields a list of names; Keras splits one that is too long for an attribute."""
    if attribute in group.attrs:
        parts = [attribute]
    else:
        numbered = (f"{attribute}{index}" for index in itertools.count())
        parts = list(itertools.takewhile(group.attrs.__contains__, numbered))
        if not parts:
            raise KeyError(f"no '{attribute}', so not a weights file of Keras")
    for part in parts:
        for name in group.attrs[part]:
            yield name.decode() if isinstance(name, bytes) else name


def _assign(model: tf_keras.Model, arrays: list[np.ndarray], *, source: str) -> None:
    if len(arrays) != len(model.weights):
        raise errors.ConfigError(
            f"{source}: {len(arrays)} arrays, but {model.name} has "
            f"{len(model.weights)}. Build it with the options of these weights."
        )
    classifier = [layer for layer in model.layers if layer.weights][-1]
    start = len(arrays) - len(classifier.weights)
    other_classes = all(
        array.shape[:-1] == tuple(weight.shape[:-1])
        for weight, array in zip(classifier.weights, arrays[start:], strict=True)
    )
    if other_classes and arrays[-1].shape != tuple(model.weights[-1].shape):
        _LOGGER.info(
            "%s: %d classes, %s has %d; its layer '%s' keeps its random start.",
            source,
            arrays[-1].shape[-1],
            model.name,
            model.weights[-1].shape[-1],
            classifier.name,
        )
        arrays = arrays[:start] + classifier.get_weights()
    # model.weights lists the trainable ones first; get_weights() goes by layer.
    by_layer = [weight for layer in model.layers for weight in layer.weights]
    for weight, array in zip(by_layer, arrays, strict=True):
        if tuple(weight.shape) != array.shape:
            raise errors.ConfigError(
                f"{source}: {list(array.shape)} where '{weight.name}' of {model.name} "
                f"is {list(weight.shape)}. Build it with the options of these weights."
            )
    model.set_weights(arrays)


def _imagenet(spec: ModelSpec, options: Mapping[str, Any]) -> list[np.ndarray]:
    if spec.applications is None or options.get("batch_norm"):
        known = ", ".join(name for name in MODELS.names() if name in _PUBLISHED)
        raise errors.ConfigError(
            f"There are no ImageNet weights for {spec.name} with these options; "
            f"there are for {known} (vgg16 without batch_norm). Use weights=None."
        )
    alphas, sizes = _PUBLISHED[spec.name]
    minimalistic = options.get("minimalistic", False)
    if minimalistic:
        alphas = (1.0,)
    alpha = options.get("alpha", 1.0)
    if alpha not in alphas:
        raise errors.ConfigError(
            f"ImageNet weights of {spec.name}{' minimalistic' * minimalistic} exist "
            f"for alpha {', '.join(map(str, alphas))}, got {alpha}."
        )
    height, width, channels = spec.input_shape
    if channels != 3:
        raise errors.ConfigError(
            f"ImageNet weights need an input of 3 channels, got {channels}."
        )
    arguments: dict[str, Any] = {}
    if spec.name == "vgg16":
        is_whole = options.get("classifier", "fc") == "fc" and height == width == 224
        arguments["include_top"] = is_whole
    else:
        size = height if height == width and height in sizes else 224
        arguments.update(alpha=alpha, input_shape=(size, size, 3))
    if spec.name.startswith("mobilenet_v3"):
        arguments["minimalistic"] = minimalistic
    application = getattr(tf_keras.applications, spec.applications)
    try:
        return list(application(weights="imagenet", **arguments).get_weights())
    except Exception as error:  # Keras raises a bare Exception without a network.
        reason = str(error).splitlines()[0]
        raise errors.DataError(
            f"The ImageNet weights of {spec.name} cannot be downloaded: {reason}. "
            "Check the network, or pass the path of a weights file."
        ) from error
