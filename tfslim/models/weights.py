"""Weights from elsewhere into a model that was just built."""

from __future__ import annotations

import collections
import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tf_keras

from tfslim import containers, errors
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
    with (
        errors.raised_as(
            errors.DataError,
            lambda cause: (
                f"The weights in '{path}' cannot be read into {model.name}: {cause}"
            ),
        ),
        _read(path, model) as arrays,
    ):
        _assign(model, arrays, source=f"'{path}'")


@contextlib.contextmanager
def _read(path: Path, model: tf_keras.Model) -> Iterator[list[Any]]:
    """Yields the arrays of a weights file in `get_weights()` order, none read yet."""
    with contextlib.ExitStack() as stack:
        if path.suffix == ".npz":
            with containers.open_zip(path):
                file = stack.enter_context(np.load(path, allow_pickle=False))
            names = [f"arr_{index}" for index in range(len(file.files))]
            if set(names) != set(file.files):
                raise errors.DataError(
                    f"'{path}' must hold arr_0, arr_1, ... as written by "
                    f"np.savez(path, *model.get_weights()), got {file.files[:3]}."
                )
            yield [file[name] for name in names]
        elif path.suffix == ".h5":
            file = stack.enter_context(containers.open_hdf5(path))
            group = file.get("model_weights", file)
            if path.name.endswith(".weights.h5") and "layer_names" not in group.attrs:
                yield _stored(file, model)
            else:
                layers = containers.layer_arrays(group)
                yield [array for _, part in layers for array in part]
        elif path.suffix == ".keras":
            folder = stack.enter_context(containers.private_folder())
            archive = stack.enter_context(containers.open_zip(path))
            inner = Path(archive.extract("model.weights.h5", folder))
            yield _stored(stack.enter_context(containers.open_hdf5(inner, path)), model)
        else:
            raise errors.ConfigError(
                f"Weights come from a file ending in .npz, .h5 or .keras, got '{path}'."
            )


def _stored(file: h5py.File, model: tf_keras.Model) -> list[h5py.Dataset]:
    """Returns the arrays of a `.weights.h5` of either Keras, by the model's layers.

    Keras numbers them by class, in the order of the layers.
    """
    group = file["layers" if "layers" in file else "_layer_checkpoint_dependencies"]
    counts: collections.Counter[str] = collections.Counter()
    found = []
    for layer in model.layers:
        kind = re.sub("(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if layer.weights and name in group:
            part = group[name]["vars"]
            found += [part[str(index)] for index in range(len(part))]
    return found


def _assign(model: tf_keras.Model, arrays: list[Any], *, source: str) -> None:
    """Puts arrays into the model; a classifier of other classes keeps its start."""
    classifier = [layer for layer in model.layers if layer.weights][-1]
    start = len(model.weights) - len(classifier.weights)
    if len(arrays) not in (len(model.weights), start):
        raise errors.ConfigError(
            f"{source}: {len(arrays)} arrays, but {model.name} has "
            f"{len(model.weights)}. Build it with the options of these weights."
        )
    # model.weights lists the trainable ones first; get_weights() goes by layer.
    by_layer = [weight for layer in model.layers for weight in layer.weights]
    head = arrays[start:]
    other = "no classifier" if not head else _other_classes(classifier, head)
    if other:
        _LOGGER.warning(
            "%s: %s, and %s has %d: its layer '%s' starts at random, the others as "
            "given.",
            source,
            other,
            model.name,
            classifier.weights[-1].shape[-1],
            classifier.name,
        )
        arrays = arrays[:start]
    for weight, array in zip(by_layer, arrays, strict=False):
        if tuple(weight.shape) != tuple(array.shape):
            raise errors.ConfigError(
                f"{source}: {list(array.shape)} where '{weight.name}' of {model.name} "
                f"is {list(weight.shape)}. Build it with the options of these weights."
            )
    read = [np.asarray(array) for array in arrays]
    model.set_weights(read + classifier.get_weights() if other else read)


def _other_classes(classifier: Any, head: list[Any]) -> str:
    """Returns how many classes a head is for, if it differs in nothing else."""
    pairs = list(zip(classifier.weights, head, strict=True))
    is_head = all(tuple(w.shape[:-1]) == tuple(a.shape[:-1]) for w, a in pairs)
    if is_head and all(w.shape[-1] != a.shape[-1] for w, a in pairs):
        return f"{head[-1].shape[-1]} classes"
    return ""


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
    with errors.raised_as(  # Keras raises a bare Exception without a network.
        errors.DataError,
        lambda cause: (
            f"The ImageNet weights of {spec.name} cannot be downloaded: {cause} "
            "Check the network, or pass the path of a weights file."
        ),
    ):
        return list(application(weights="imagenet", **arguments).get_weights())
