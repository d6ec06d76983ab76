"""How `--data` becomes what a file takes: sizes, types and batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import flags

from tfslim import data, errors, preprocessing, registry, tflite
from tfslim.tflite import metadata


def known(values: flags.FlagValues, content: tflite.TfliteModel) -> dict[str, Any]:
    """Returns the preprocessing that the file or `--preprocessing` names, as fields.

    Raises:
        ConfigError: neither does, or the file has several inputs.
    """
    if len(content.inputs) != 1:
        raise errors.ConfigError(
            f"The model has {len(content.inputs)} inputs; --data feeds one. Use "
            "tfslim.quantize_tflite(model, samples=...) with dicts of arrays."
        )
    dtype, shape = content.inputs[0].dtype, content.inputs[0].shape
    if len(shape) < 2:
        raise errors.ConfigError(
            f"The model's input has shape {list(shape)}, without a batch; --data gives "
            "[1, ...]. Use tfslim.quantize_tflite(model, samples=...)."
        )
    if dtype not in preprocessing.DTYPES:
        raise errors.ConfigError(
            f"The model's input is {dtype}, which --data cannot give. Use "
            "tfslim.quantize_tflite(model, samples=...)."
        )
    name = values.preprocessing
    if name is not None:
        if name not in preprocessing.PRESETS:
            known_names = preprocessing.PRESETS
            raise registry.unknown_name("preprocessing", name, known_names)
        return preprocessing.PRESETS[name] | {"dtype": dtype}
    fields = (metadata.get_json(content) or {}).get("preprocessing")
    if not isinstance(fields, Mapping):
        raise errors.ConfigError(
            f"'{values.model}' does not say how its inputs are preprocessed. Name it "
            f"with --preprocessing: {', '.join(preprocessing.PRESETS)}."
        )
    return {**fields, "dtype": dtype}


def preprocessing_for(
    values: flags.FlagValues,
    content: tflite.TfliteModel,
    fields: Mapping[str, Any],
    dataset: data.Dataset,
) -> preprocessing.Preprocessing:
    """Completes `fields` by the size of the input.

    Raises:
        ConfigError: the file leaves it open, and nothing says what it is.
    """
    signature = content.inputs[0].shape_signature[1:]
    if values.input_shape:
        shape = _parse(values.input_shape, signature)
    elif "input_shape" in fields:
        shape = tuple(fields["input_shape"])
    else:
        shape = _own_size(signature, dataset)
    return preprocessing.Preprocessing.from_json({**fields, "input_shape": shape})


def _own_size(signature: tuple[int, ...], dataset: data.Dataset) -> tuple[int, ...]:
    """Takes open sizes from the data, if all of it has one."""
    if min(signature, default=1) > 0:
        return signature
    example = dataset.train.inputs([0])
    found = example.shape[1:] if isinstance(example, np.ndarray) else ()
    if len(found) == len(signature) + 1 and found[-1] == 1:
        found = found[:-1]
    if len(found) != len(signature):
        raise errors.ConfigError(
            f"The model leaves its input's size open, {_text(signature)}, and the data "
            "has no size of its own that fits. Choose one: --input_shape=224,224,3."
        )
    return _filled(signature, found)


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


def grouped(samples: data.CalibrationSamples, batch: int) -> Any:
    """Puts samples together for a file whose batch is not 1."""
    return samples if batch == 1 else _Grouped(samples, batch)


@dataclasses.dataclass(frozen=True)
class _Grouped:
    """Samples by the batch; those that do not fill the last one are left out."""

    samples: data.CalibrationSamples
    batch: int

    def __len__(self) -> int:
        return len(self.samples) // self.batch

    def __iter__(self) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        for sample in self.samples:
            waiting.append(sample)
            if len(waiting) == self.batch:
                yield np.concatenate(waiting)
                waiting = []
