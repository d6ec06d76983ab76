"""The sizes that a `.tflite` with open dimensions is written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfslim.tflite import flatbuffer, model
from tfslim.tflite.interpreter import Inputs, Runner, check_shape, named_inputs


def sized_for(tflite: bytes, inputs: Inputs) -> bytes:
    """Writes the sizes that `inputs` give every tensor where a file leaves some open.

    They are what the file is loaded with, and what those who read its shapes see. The
    dimensions stay open. A file without open ones is returned as it is.

    Args:
        tflite: the file.
        inputs: as `Runner` takes them.

    Raises:
        ConfigError: `inputs` do not fit.
        ConversionError: the runtime refuses the file, or these sizes.
    """
    content = model.read(tflite)
    arrays = named_inputs(inputs, content.input_names)
    if not content.is_dynamic or all(
        content.tensors[index].shape == arrays[name].shape
        for name, index in content.input_names.items()
    ):
        return tflite
    flat = flatbuffer.unpack(tflite)
    main = flat.subgraphs[0]
    for name, index in content.input_names.items():
        signature, shape = content.tensors[index].shape_signature, arrays[name].shape
        check_shape(name, signature, shape=shape)
        _set_shape(main.tensors[index], shape)
    attached = flatbuffer.attached_files(tflite)
    # With the old sizes the runtime may refuse to load it: a kernel is larger than 1x1.
    # With the new ones it is unknown, see `trial`.
    flat.source = None
    runner = Runner(flatbuffer.pack(flat), xnnpack=False)
    flat.source = tflite
    runner.set_inputs(inputs)
    runner.invoke()
    for details in runner.interpreter.get_tensor_details():
        index = details["index"]
        # Behind the file's own tensors lie those that the kernels work with.
        if index < len(main.tensors) and not content.tensors[index].is_constant:
            _set_shape(main.tensors[index], details["shape"])
    return flatbuffer.pack(flat, attached=attached)


def _set_shape(tensor: Any, shape: Sequence[int]) -> None:
    new, old = tuple(map(int, shape)), flatbuffer.numbers(tensor.shape)
    if new == old or len(new) != len(old) or 0 in new:
        return
    if not flatbuffer.numbers(tensor.shapeSignature):
        pairs = zip(old, new, strict=True)
        tensor.shapeSignature = [a if a == b else -1 for a, b in pairs]
    tensor.shape = list(new)
