"""Which of a file's outputs a dataset's targets are of."""

from __future__ import annotations

from collections.abc import Sequence

from tfslim import data, errors, tasks, tflite

_NO, _MAYBE, _SURE = range(3)


def scored(
    dataset: data.Dataset,
    task: tasks.Task,
    *,
    outputs: Sequence[tflite.Tensor],
    input_shape: tuple[int, ...],
    one_each: Sequence[bool],
) -> int | None:
    """Returns the number of the output that the targets are of; None if of none.

    Args:
        dataset: with targets or without.
        task: what the targets are taken for.
        outputs: of the file.
        input_shape: of the model, without the batch.
        one_each: whether each output has one row an example.

    Raises:
        ConfigError: it is a reconstruction without an output of the input's shape.
    """
    if task.name == "reconstruction":
        for number, output in enumerate(outputs):
            if output.shape[1:] == input_shape:
                return number
        raise errors.ConfigError(
            f"--task=reconstruction needs an output of the input's shape, "
            f"{list(input_shape)}; the model's is {list(outputs[0].shape[1:])}."
        )
    # Outputs that are not one row an example are of no example.
    fits = [
        _fit(dataset, task, output=output) if is_row_each else _NO
        for output, is_row_each in zip(outputs, one_each, strict=True)
    ]
    # Of two that only might be it neither is.
    is_clear = max(fits) == _SURE or fits.count(_MAYBE) == 1
    return fits.index(max(fits)) if is_clear else None


def _fit(dataset: data.Dataset, task: tasks.Task, *, output: tflite.Tensor) -> int:
    """Returns how well the targets fit an output: not at all, perhaps or surely."""
    targets, shape = dataset.test.targets, output.shape
    if not dataset.is_labelled:
        return _NO
    if task.name != "classification":
        fits = targets.dtype.kind == "f" and targets.shape[1:] == shape[1:]
        return _SURE if fits else _NO
    if targets.dtype.kind != "i":
        return _NO
    if are_classes(output):
        rows = output.shape[0] if output.shape else 1
        return _SURE if output.size == rows else _NO
    if len(shape) != 2 or (shape[-1] < 2 and not task.is_binary):
        return _NO
    names, classes = dataset.class_names, 2 if task.is_binary else shape[-1]
    if len(names) == classes:
        return _SURE
    # Folders are numbered by their names: other folders would be other classes.
    are_numbers = names == tuple(str(index) for index in range(len(names)))
    return _MAYBE if are_numbers and targets.max() < classes else _NO


def are_classes(tensor: tflite.Tensor) -> bool:
    """Whether an output holds numbers of classes, as ARG_MAX gives them."""
    return tensor.quantization is None and tensor.dtype in ("int32", "int64")


def is_row_each(output: tflite.Tensor, source: tflite.Tensor) -> bool:
    """Whether an output has one row for each example of a batch."""
    if not output.shape:
        return source.shape[0] == 1
    return output.shape_signature[0] == source.shape_signature[0]
