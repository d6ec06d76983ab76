"""What can be built: a table of models, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from tfslim import errors
from tfslim.registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Facts about a model that hold before it is built.

    Attributes:
        name: what `build_model` calls it.
        builder: "module:function"; the function takes the input tensor and the
            model's options and returns the output tensor.
        task: name of the task the model is for, a key of `tfslim.tasks.TASKS`.
        input_shape: (height, width, channels), or any shape if `min_size` is None.
        preprocessing: name of a preset of `tfslim.preprocessing`.
        min_size: least height and width in pixels; None: the input is no image.
        size_multiple: height and width must be multiples of this.
        applications: name in `tf_keras.applications`, where ImageNet weights are.
        adapt: returns the spec as it is under the given options.
    """

    name: str
    builder: str
    task: str = "classification"
    input_shape: tuple[int, ...] = (224, 224, 3)
    preprocessing: str = "symmetric"
    min_size: int | None = 32
    size_multiple: int = 1
    applications: str | None = None
    adapt: Callable[[ModelSpec, Mapping[str, Any]], ModelSpec] | None = None


def _adapt_vgg16(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    # The published weights want BGR of 0..255 around zero. A network that starts
    # from random weights does not train on numbers that large.
    caffe = options.get("weights") is not None and not options.get("batch_norm")
    return dataclasses.replace(spec, preprocessing="caffe" if caffe else "torch")


def _adapt_resnet18(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    return dataclasses.replace(
        spec, min_size=8 if options.get("stem") == "cifar" else 32
    )


def _adapt_mobilenet_v3(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    inside = options.get("include_preprocessing", True)
    return dataclasses.replace(spec, preprocessing="raw" if inside else "symmetric")


def _adapt_mlp(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    is_classifier = options.get("num_classes") is not None
    return dataclasses.replace(
        spec,
        task="classification" if is_classifier else "regression",
        preprocessing="unit" if len(spec.input_shape) == 3 else "raw",
    )


MODELS: Registry[ModelSpec] = Registry("model")


def _add(name: str, module: str = "", **facts: Any) -> None:
    """Adds the model that the function `name` builds, in a module of that name."""
    builder = f"tfslim.models.{module or name}:{name}"
    MODELS.register(name)(ModelSpec(name=name, builder=builder, **facts))


_add("alexnet", preprocessing="torch", min_size=63)
_add("vgg16", preprocessing="torch", applications="VGG16", adapt=_adapt_vgg16)
_add("resnet18", preprocessing="torch", adapt=_adapt_resnet18)
_add("mobilenet_v1", applications="MobileNet")
_add("mobilenet_v2", applications="MobileNetV2")
for _size in ("Small", "Large"):
    _add(
        f"mobilenet_v3_{_size.lower()}",
        "mobilenet_v3",
        preprocessing="raw",
        applications=f"MobileNetV3{_size}",
        adapt=_adapt_mobilenet_v3,
    )
_add(
    "autoencoder",
    task="reconstruction",
    input_shape=(28, 28, 1),
    preprocessing="unit",
    min_size=4,
    size_multiple=4,
)
_add(
    "mlp",
    task="regression",
    input_shape=(2,),
    preprocessing="raw",
    min_size=None,
    adapt=_adapt_mlp,
)
for _name in ("yolov3", "yolov3_tiny"):
    _add(
        _name,
        "yolov3",
        task="detection",
        input_shape=(416, 416, 3),
        preprocessing="unit",
        size_multiple=32,
    )


def model_spec(name: str, **options: Any) -> ModelSpec:
    """Returns the facts about model `name` as they are under `options`.

    Args:
        name: a key of `MODELS`.
        **options: what `build_model` takes; only those that change the facts count
            (`input_shape`, `weights`, `stem`, `num_classes`, ...).

    Raises:
        ConfigError: no such model, or it cannot have that input shape.

    Example:
        >>> model_spec("mlp", input_shape=(8, 8, 1), num_classes=10).task
        'classification'
    """
    spec = MODELS.get(name)
    shape = options.get("input_shape")
    if shape is not None:
        spec = dataclasses.replace(spec, input_shape=_as_shape(name, shape))
    if spec.adapt is not None:
        spec = spec.adapt(spec, options)
    _check_size(spec)
    return spec


def _as_shape(name: str, shape: Any) -> tuple[int, ...]:
    sides = tuple(shape) if isinstance(shape, tuple | list) else ()
    whole = all(isinstance(s, Integral) and not isinstance(s, bool) for s in sides)
    if not sides or not whole or min(sides) < 1:
        raise errors.ConfigError(
            f"input_shape of {name} must be a tuple of positive whole numbers "
            f"without the batch, e.g. (224, 224, 3), got {shape!r}."
        )
    return tuple(int(side) for side in sides)


def _check_size(spec: ModelSpec) -> None:
    if spec.min_size is None:
        return
    shape, multiple = spec.input_shape, spec.size_multiple
    if len(shape) != 3:
        raise errors.ConfigError(
            f"input_shape of {spec.name} must be (height, width, channels), "
            f"got {shape}."
        )
    if min(shape[:2]) < spec.min_size:
        raise errors.ConfigError(
            f"{spec.name} needs an input of at least {spec.min_size}x{spec.min_size} "
            f"pixels, got {shape[0]}x{shape[1]}. Choose a larger input_shape."
        )
    if any(side % multiple for side in shape[:2]):
        near = "x".join(str(-(-side // multiple) * multiple) for side in shape[:2])
        raise errors.ConfigError(
            f"{spec.name} needs a height and width divisible by {multiple}, "
            f"got {shape[0]}x{shape[1]}. The next larger size is {near}."
        )
