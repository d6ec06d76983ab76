"""Batches of real numbers through a `.tflite`, quantized or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.tflite import interpreter


class Predictor:
    """Calls a `.tflite` as its Keras model is called: float batch in, floats out.

    Integer inputs are quantized and integer outputs are dequantized by the file's own
    scale and zero point. What a file with a batch of its own lacks to fill the last
    one is made up by repetition and left out of the result.
    """

    def __init__(self, tflite: bytes, *, num_threads: int = 1):
        """Loads the file.

        Raises:
            ConversionError: the runtime refuses the file.
        """
        self._runner = interpreter.Runner(tflite, num_threads=num_threads)
        model = self._runner.model
        self._inputs = {
            name: model.tensors[index] for name, index in model.input_names.items()
        }
        self._outputs = {
            name: model.tensors[index] for name, index in model.output_names.items()
        }
        self._batch = max([t.shape[0] for t in self._inputs.values() if t.shape] or [1])

    def __call__(self, x: Any) -> list[np.ndarray]:
        """Returns one array [n, ...] an output, in the file's order.

        Args:
            x: array [n, ...] for a file with one input, else a list in the order of
                the inputs, or a dict by their names.
        """
        named = self._named(x)
        number = len(next(iter(named.values())))
        rows = []
        for start in range(0, number, self._batch):
            taken = np.arange(start, start + self._batch).clip(max=number - 1)
            sample = {
                name: _quantize(array[taken], self._inputs[name])
                for name, array in named.items()
            }
            rows.append(self._runner(sample))
        outputs = []
        for name, tensor in self._outputs.items():
            joined = np.concatenate([np.atleast_1d(row[name]) for row in rows])
            kept = len(joined) * number // (len(rows) * self._batch)
            outputs.append(_dequantize(joined[:kept], tensor))
        return outputs

    def _named(self, x: Any) -> dict[str, np.ndarray]:
        if isinstance(x, Mapping):
            return {name: np.asarray(x[name]) for name in self._inputs}
        arrays = x if isinstance(x, list | tuple) else [x]
        if len(arrays) != len(self._inputs):
            raise errors.ConfigError(
                f"The file takes {len(self._inputs)} inputs "
                f"({', '.join(self._inputs)}), got {len(arrays)}."
            )
        return dict(zip(self._inputs, map(np.asarray, arrays), strict=True))


def _quantize(values: np.ndarray, tensor: Any) -> np.ndarray:
    dtype = np.dtype(tensor.dtype)
    if tensor.quantization is None or dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    scaled = np.round(values / tensor.quantization.scale[0])
    shifted = scaled + tensor.quantization.zero_point[0]
    return np.clip(shifted, limits.min, limits.max).astype(dtype)


def _dequantize(values: np.ndarray, tensor: Any) -> np.ndarray:
    if tensor.quantization is None or values.dtype.kind == "f":
        return values
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
    return (scale * (values.astype(np.int32) - zero_point)).astype(np.float32)
