"""The one place that runs `.tflite` files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from tfslim import errors, ops, quiet
from tfslim.tflite import flatbuffer, model, trial

# One array for a model with one input, else input name -> array.
Inputs = np.ndarray | Mapping[str, np.ndarray]

_LARGEST_FACTOR = 256.0


class Runner:
    """A `.tflite` file, loaded by the LiteRT runtime and ready to run.

    Attributes:
        model: what the file holds.
        interpreter: LiteRT's own interpreter, its tensors allocated.
        batch: how many samples a run takes, see `set_batch`.
    """

    def __init__(
        self,
        tflite: bytes,
        *,
        num_threads: int = 1,
        xnnpack: bool = True,
        preserve_all_tensors: bool = False,
        read: model.TfliteModel | None = None,
    ):
        """Loads `tflite`, which is kept alive, not copied.

        A file of unknown origin runs in a child process first, see `trial`.

        Args:
            tflite: the file.
            num_threads: threads of the CPU kernels, >= 1.
            xnnpack: whether the XNNPACK delegate may take ops over; without it the
                builtin kernels run everything.
            preserve_all_tensors: keeps every intermediate tensor for reading. XNNPACK
                then runs one op at a time, and memory is that of all tensors.
            read: what `tflite.read` gave for the file, if it was read before.

        Raises:
            ConversionError: it is no `.tflite`, or the runtime refuses it or would
                end the process.
        """
        self.model = read or model.read(tflite)
        if self.model.has_odd_names:
            tflite = flatbuffer.with_text_names(tflite)
        tflite = bytes(tflite)  # No copy, unless it is a file mapped into memory.
        if xnnpack:
            _check_scales(self.model)
        trial.require(tflite)
        resolver = litert.OpResolverType
        # The runtime announces XNNPACK on stderr, once; what matters it raises.
        with warnings.catch_warnings(), quiet.captured_stderr():
            # Preserving is what was asked for: no warning that it needs memory.
            warnings.filterwarnings("ignore", message=".*preserve_all_tensors")
            try:
                self.interpreter = litert.Interpreter(
                    model_content=tflite,
                    num_threads=num_threads,
                    experimental_op_resolver_type=(
                        resolver.AUTO
                        if xnnpack
                        else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                    ),
                    experimental_preserve_all_tensors=preserve_all_tensors,
                )
                self.interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise _refusal("load", error) from error
        self._inputs = {t["index"]: t for t in self.interpreter.get_input_details()}
        self._has_state = any(tensor.is_variable for tensor in self.model.tensors)
        self.batch = 1

    def set_batch(self, count: int) -> None:
        """Makes a run take `count` samples, where the file's inputs are [1, ...].

        Raises:
            ConversionError: an op does not follow. The runner is of no use then.
        """
        try:
            for index, details in self._inputs.items():
                shape = (count, *details["shape"][1:])
                self.interpreter.resize_tensor_input(index, shape)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise _refusal("resize", error) from error
        self.batch = count

    def set_inputs(self, inputs: Inputs, row: int = 0) -> None:
        """Copies `inputs` into the input tensors.

        Args:
            inputs: an array for a model with one input, else input name -> array, in
                the input's own dtype; quantized inputs take integers. Where the file
                leaves a dimension open, the array's size is taken.
            row: which of the `batch` samples of a run it is.

        Raises:
            ConfigError: a name, shape or dtype is not what the file takes.
        """
        names = self.model.input_names
        for name, array in named_inputs(inputs, names).items():
            details = self._inputs[names[name]]
            shape, dtype = details["shape"], details["dtype"]
            if array.dtype != dtype:
                raise errors.ConfigError(
                    f"Input '{name}' is {array.dtype}; the model takes "
                    f"{np.dtype(dtype)}. Cast or quantize it first."
                )
            if tuple(shape) != array.shape:
                self._resize(name, details, array.shape)
            if self.batch == 1:
                self.interpreter.set_tensor(details["index"], array)
            else:
                self.interpreter.tensor(details["index"])()[row] = array[0]

    def _resize(
        self, name: str, details: dict[str, Any], shape: tuple[int, ...]
    ) -> None:
        open_shape = details["shape_signature" if self.batch == 1 else "shape"]
        check_shape(name, open_shape, shape=shape)
        self.interpreter.resize_tensor_input(details["index"], shape, strict=True)
        self.interpreter.allocate_tensors()
        self._inputs = {t["index"]: t for t in self.interpreter.get_input_details()}

    def invoke(self) -> None:
        """Runs the graph on what lies in its inputs.

        Each run begins anew: the state of a recurrent layer is set back before.

        Raises:
            ConversionError: a kernel failed; names its reason.
        """
        try:
            if self._has_state:
                self.interpreter.reset_all_variables()
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise _refusal("run", error) from error

    def __call__(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Runs one inference: output name -> a new array, in the file's order."""
        self.set_inputs(inputs)
        self.invoke()
        try:
            return {
                name: self.interpreter.get_tensor(index)
                for name, index in self.model.output_names.items()
            }
        except (RuntimeError, ValueError) as error:
            raise _refusal("give the outputs of", error) from error


def open_file(path: Path | str) -> bytes:
    """Reads a `.tflite` that a user named, and tries it as `Runner` does.

    Raises:
        ConversionError: it cannot be read, is damaged or ends the runtime; names it.
    """
    data = flatbuffer.read_file(path)
    try:
        model.read(data)
        trial.require(data)
    except errors.ConversionError as error:
        raise errors.ConversionError(f"'{path}': {error}") from error
    return data


def run(tflite: bytes, inputs: Inputs | Sequence[np.ndarray], **options: Any) -> Any:
    """Loads `tflite` and runs one inference; `options` as `Runner` takes them.

    Returns:
        Output name -> array. A name is the signature's where the file has one, the
        tensor's otherwise. Of a list of arrays, one for each input in the file's
        order: the list of outputs.

    Raises:
        ConfigError: the inputs are not what the file takes.
    """
    runner = Runner(tflite, **options)
    if isinstance(inputs, np.ndarray | Mapping):
        return runner(inputs)
    names = list(runner.model.input_names)
    if len(names) != len(inputs):
        raise errors.ConfigError(
            f"A list of {len(inputs)} arrays was passed; the model has {len(names)} "
            f"inputs: {', '.join(names)}. Pass one array for each."
        )
    return list(runner(dict(zip(names, inputs, strict=True))).values())


def named_inputs(inputs: Inputs, names: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Gives `inputs` as input name -> array, in the order of `names`.

    Raises:
        ConfigError: they are not exactly the inputs called `names`.
    """
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise errors.ConfigError(
                f"The model has {len(names)} inputs ({', '.join(names)}), and one "
                "array was passed. Pass a dict of input name -> array."
            )
        return {next(iter(names)): np.asarray(inputs)}
    if set(inputs) != set(names):
        raise errors.ConfigError(
            f"The inputs passed are named {', '.join(map(str, inputs)) or '(none)'}; "
            f"the model's are {', '.join(names)}."
        )
    return {name: np.asarray(inputs[name]) for name in names}


def check_shape(name: str, signature: Sequence[int], *, shape: Sequence[int]) -> None:
    """Raises ConfigError unless `shape` fits a signature with -1 for open sizes."""
    fits = len(signature) == len(shape) and all(
        size in (-1, wanted) for size, wanted in zip(signature, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("?" if n < 0 else str(n) for n in signature)
        raise errors.ConfigError(
            f"Input '{name}' has shape {list(shape)}; the model takes [{expected}]."
        )


def _check_scales(file: model.TfliteModel) -> None:
    """Refuses scales that XNNPACK has no kernel for.

    It does so itself, but in a large graph ends the process (double free, litert 2.3).
    """
    for graph in file.graphs:
        for op in graph.ops:
            if op.name not in ops.tflite("window"):
                continue
            found = [
                graph.tensors[i].quantization for i in (*op.inputs[:2], op.outputs[0])
            ]
            if None in found or op.inputs[0] < 0:
                continue
            source, weights, output = (f.scale.astype(float) for f in found if f)
            factor = float((source[0] * weights / output[0]).max())
            if not factor < _LARGEST_FACTOR:
                raise errors.ConversionError(
                    f"The scales at tensor '{graph.tensors[op.outputs[0]].name}' need "
                    f"a factor of {factor:.3g}, XNNPACK takes less than "
                    f"{_LARGEST_FACTOR:g}: the values before it are far larger than "
                    "those behind it. Keep that layer in float."
                )


def _refusal(verb: str, error: Exception) -> errors.ConversionError:
    reason = " ".join(str(error).split())
    reason = reason or "no reason is given; it may need more memory than there is."
    return errors.ConversionError(f"The runtime cannot {verb} the .tflite: {reason}")
