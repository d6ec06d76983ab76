"""How a data set becomes what a `.tflite` takes: sizes, types and names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfslim import data, errors, preprocessing, registry, tflite
from tfslim.data import made_up
from tfslim.tflite import metadata


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeedOptions:
    """What a file is fed with.

    Attributes:
        data: as `data.load` takes it, or "synthetic".
        preprocessing: a preset's name; None: what the file says of itself.
        input_shape: "224,224,3" for a file that leaves sizes open; "": the data's own.
        seed: of the splits, and of inputs that are made up.
        model: what to call the file in a message.
    """

    data: str
    preprocessing: str | None = None
    input_shape: str = ""
    seed: int = 0
    model: str = "The file"


def is_passed_on(wanted: FeedOptions, content: tflite.TfliteModel) -> bool:
    """Whether a file is quantized already and nothing says how to feed it.

    No sample is read for such a file, but to test it.
    """
    if not content.is_quantized or wanted.preprocessing is not None:
        return False
    return not isinstance(_own_fields(content), Mapping)


def prepared(
    wanted: FeedOptions, content: tflite.TfliteModel
) -> tuple[data.Dataset, data.Prepare]:
    """Loads the data and finds how its examples become what the file takes.

    Images, vectors and sequences are preprocessed; several inputs are taken as they
    are, and so is what is made up for a model that takes no images.

    Raises:
        ConfigError: nothing says how, or it is not what the file takes.
    """
    if len(content.inputs) > 1:
        return _several(wanted, content)
    if wanted.data == "synthetic" and not _takes_images(content):
        _check_input(content)
        (name,) = content.input_names
        sizes = {name: _shape(wanted, content)}
        return made_up.examples(content, sizes, seed=wanted.seed), AsTheyAre(content)
    fields = _fields(wanted, content)
    dataset = data.load(wanted.data, seed=wanted.seed)
    example: Any = dataset.train.inputs([0])
    if isinstance(example, Mapping):
        part = _matching(next(iter(content.input_names)), example)
        dataset, example = _only(dataset, part), example[part]
    if wanted.input_shape or "input_shape" not in fields:
        fields = {**fields, "input_shape": _shape(wanted, content, example=example)}
    return dataset, preprocessing.Preprocessing.from_json(fields)


def _several(
    wanted: FeedOptions, content: tflite.TfliteModel
) -> tuple[data.Dataset, data.Prepare]:
    if wanted.preprocessing not in (None, "raw"):
        raise errors.ConfigError(
            f"The model has {len(content.inputs)} inputs, which are taken as they are: "
            f"leave out --preprocessing={wanted.preprocessing}."
        )
    if wanted.data == "synthetic":
        sizes = {name: content.tensors[i].shape[1:] for name, i in _named(content)}
        made = made_up.examples(content, sizes, seed=wanted.seed)
        return made, AsTheyAre(content)
    dataset = data.load(wanted.data, seed=wanted.seed)
    if not isinstance(dataset.train.inputs([0]), Mapping):
        names = ", ".join(content.input_names)
        raise errors.ConfigError(
            f"The model has {len(content.inputs)} inputs ({names}), {dataset.name} has "
            "one. Give an .npz with an array for each, called like the inputs, or use "
            "tfslim.quantize_tflite(model, samples=...) with dicts of arrays."
        )
    return dataset, AsTheyAre(content)


class AsTheyAre:
    """Examples of named parts, cast to what a file takes.

    Attributes:
        input_shape: of the one input; () where there are several.
    """

    def __init__(self, content: tflite.TfliteModel):
        """Takes the file."""
        self._inputs = {name: content.tensors[i] for name, i in _named(content)}
        first = next(iter(self._inputs.values()))
        self.input_shape = first.shape[1:] if len(self._inputs) == 1 else ()

    def apply(self, examples: Any) -> Any:
        """Returns an array [n, ...] for a file with one input, else name -> array.

        Raises:
            ConfigError: a name or a shape is not what the file takes.
        """
        given = dict(examples)
        found = {}
        for name, tensor in self._inputs.items():
            array = given.pop(_matching(name, given))
            found[name] = _cast(name, array, tensor=tensor)
        return found if len(found) > 1 else next(iter(found.values()))


def _named(content: tflite.TfliteModel) -> Iterable[tuple[str, int]]:
    return content.input_names.items()


def _matching(name: str, given: Mapping[str, Any]) -> str:
    """Returns what an input is called in the data."""
    plain = name.removeprefix("serving_default_").partition(":")[0]
    for known_name in (name, plain):
        if known_name in given:
            return known_name
    raise errors.ConfigError(
        f"The model's input '{plain}' has no array in the data, which has "
        f"{', '.join(given) or 'none'}. Call the array like the input."
    )


def _cast(name: str, array: np.ndarray, *, tensor: tflite.Tensor) -> np.ndarray:
    shape = tensor.shape_signature[1:]
    if not tensor.shape:
        raise errors.ConfigError(
            f"The model's input '{name}' is one value, without a batch. Use "
            "tfslim.quantize_tflite(model, samples=...)."
        )
    if array.ndim == len(shape) and array.ndim and shape[-1] in (1, -1):
        array = array[..., None]
    fits = array.ndim == len(shape) + 1 and all(
        size in (-1, own) for size, own in zip(shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise errors.ConfigError(
            f"The examples of '{name}' have shape {list(array.shape[1:])}; the model "
            f"takes {_text(shape)}."
        )
    cast = array.astype(tensor.dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise errors.ConfigError(
            f"The examples of '{name}' are not whole numbers of {tensor.dtype}, which "
            "the model takes."
        )
    return cast


def _only(dataset: data.Dataset, name: str) -> data.Dataset:
    """Leaves one of the parts of a dataset."""
    return dataclasses.replace(
        dataset,
        train=_One(dataset.train, name),
        validation=_One(dataset.validation, name),
        test=_One(dataset.test, name),
    )


@dataclasses.dataclass(frozen=True)
class _One:
    """One part of examples."""

    examples: data.Examples
    name: str

    @property
    def targets(self) -> np.ndarray:
        return self.examples.targets

    def __len__(self) -> int:
        return len(self.examples)

    def inputs(self, indices: Any) -> Any:
        found: Any = self.examples.inputs(indices)  # A dict, as the first one was.
        return found[self.name]


def _takes_images(content: tflite.TfliteModel) -> bool:
    shape = content.inputs[0].shape
    return len(shape) == 4 and shape[-1] in (1, 3)


def _own_fields(content: tflite.TfliteModel) -> Any:
    return (metadata.get_json(content) or {}).get("preprocessing")


def _check_input(content: tflite.TfliteModel) -> None:
    shape = content.inputs[0].shape
    if len(shape) < 2:
        raise errors.ConfigError(
            f"The model's input has shape {list(shape)}, without a batch; --data gives "
            "[1, ...]. Use tfslim.quantize_tflite(model, samples=...)."
        )


def _fields(wanted: FeedOptions, content: tflite.TfliteModel) -> dict[str, Any]:
    """Returns the preprocessing that the file or `--preprocessing` names, as fields.

    Raises:
        ConfigError: neither does, or the file takes what `--data` cannot give.
    """
    _check_input(content)
    dtype = content.inputs[0].dtype
    if dtype not in preprocessing.DTYPES:
        raise errors.ConfigError(
            f"The model's input is {dtype}, which --data cannot give. Use "
            "tfslim.quantize_tflite(model, samples=...)."
        )
    name = wanted.preprocessing
    if name is not None:
        if name not in preprocessing.PRESETS:
            known = preprocessing.PRESETS
            raise registry.unknown_name("preprocessing", name, known=known)
        return preprocessing.PRESETS[name] | {"dtype": dtype}
    fields = _own_fields(content)
    if not isinstance(fields, Mapping):
        raise errors.ConfigError(
            f"{wanted.model} does not say how its inputs are preprocessed. Name it "
            f"with --preprocessing: {', '.join(preprocessing.PRESETS)}."
        )
    return {**fields, "dtype": dtype}


def _shape(
    wanted: FeedOptions, content: tflite.TfliteModel, *, example: Any = None
) -> tuple[int, ...]:
    """Returns the shape of the one input, without the batch.

    What the file leaves open comes from the options, or else from an example.

    Raises:
        ConfigError: nothing says what it is.
    """
    signature = content.inputs[0].shape_signature[1:]
    if wanted.input_shape:
        return _parse(wanted.input_shape, signature)
    if min(signature, default=1) > 0:
        return signature
    found: tuple[int, ...] = ()
    if isinstance(example, np.ndarray):
        found = example.shape[1:]
    if len(found) == len(signature) + 1 and found[-1] == 1:
        found = found[:-1]
    if len(found) == len(signature):
        return _filled(signature, found)
    why = "" if example is None else ", and the data has no size of its own that fits"
    hint = "224,224,3" if len(signature) == 3 else ",".join(["16"] * len(signature))
    raise errors.ConfigError(
        f"The model leaves its input's size open, {_text(signature)}{why}. Choose one: "
        f"--input_shape={hint}."
    )


def _parse(text: str, signature: tuple[int, ...]) -> tuple[int, ...]:
    sizes = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    shape = _filled(signature, sizes) if len(sizes) == len(signature) else ()
    if len(sizes) != text.count(",") + 1 or 0 in sizes or shape != tuple(sizes):
        raise errors.ConfigError(
            f"--input_shape is '{text}'; the model takes {_text(signature)}. Write one "
            "number above 0 for each, without the batch: --input_shape=224,224,3."
        )
    return shape


def _filled(signature: tuple[int, ...], sizes: Any) -> tuple[int, ...]:
    pairs = zip(signature, sizes, strict=True)
    return tuple(int(size) if fixed < 0 else fixed for fixed, size in pairs)


def _text(signature: tuple[int, ...]) -> str:
    return f"[{', '.join('?' if size < 0 else str(size) for size in signature)}]"
