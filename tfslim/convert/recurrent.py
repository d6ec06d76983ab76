"""Recurrent layers while a model is traced: stand-ins for LiteRT's fused ops.

The converter makes a loop of a recurrent layer, with a graph for its body, which costs
several times the fused op. So each layer that LiteRT has an op for is traced as a call
that the converter passes on, and `fused` puts the op there. All other layers are traced
as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors

# What the traced calls are named by, and so the functions of a graph.
NAME = "tfslim_recurrent"
# Activations that the kernels have, besides which LSTM's gates take the sigmoid.
_ACTIVATIONS = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6", "tanh": "TANH"}
_CELLS = ("LSTMCell", "SimpleRNNCell")
STEPS, CELL = 0, 1
_MARK = NAME + ":%d:%d;"
_LOCK = threading.RLock()


@dataclasses.dataclass(frozen=True, eq=False)
class Recurrent:
    """What a fused op computes.

    Attributes:
        layer: the layer's name.
        op: the name of LiteRT's op.
        kernel: [inputs, gates * units], gates in the order of Keras: i, f, c, o.
        recurrent_kernel: [units, gates * units].
        bias: [gates * units].
        activation: its name in LiteRT's schema.
        keeps_state: whether its state outlives a run.
    """

    layer: str
    op: str
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    activation: str
    keeps_state: bool

    @property
    def units(self) -> int:
        """The length of the state."""
        return len(self.recurrent_kernel)


@dataclasses.dataclass
class Found:
    """What was met while tracing.

    Attributes:
        fused: what the stand-ins stand for, by number.
        refused: why the model cannot be converted at all.
        loops: layer -> why it has no fused op.
    """

    fused: list[Recurrent] = dataclasses.field(default_factory=list)
    refused: errors.ConversionError | None = None
    loops: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each layer that stays a loop."""
        return tuple(
            f"layer '{name}' is computed step by step: {why}"
            for name, why in self.loops.items()
        )


@contextlib.contextmanager
def standing_in(model: Any) -> Iterator[Found]:
    """Has recurrent layers traced as stand-ins, as long as the context lasts.

    Args:
        model: of either Keras; its layers are as before afterwards.
    """
    found = Found()
    with _LOCK:
        layers = [each for each in model._flatten_layers() if _is_recurrent(each)]
        for layer in layers:
            layer.call = functools.partial(_call, layer, layer.call, found)
        try:
            yield found
        except Exception as error:
            # Keras wraps what a layer raises.
            if found.refused is not None:
                raise found.refused from error
            raise
        finally:
            for layer in layers:
                del layer.call


def key_of(options: bytes) -> tuple[int, int] | None:
    """Returns kind and number of a stand-in by a custom op's options; else None."""
    found = re.search(_MARK.replace("%d", r"(\d+)").encode(), options)
    return None if found is None else (int(found[1]), int(found[2]))


def _is_recurrent(layer: Any) -> bool:
    # A layer of the user's own may do anything with its cell.
    return _is_of_keras(layer) and all(
        hasattr(layer, name) for name in ("cell", "go_backwards", "return_state")
    )


def _is_of_keras(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] in ("keras", "tf_keras")


def _call(
    layer: Any,
    original: Callable[..., Any],
    found: Found,
    *args: Any,
    **kwargs: Any,
) -> Any:
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    sequences, *_ = given.values()
    states = given.get("initial_state")
    if isinstance(sequences, list | tuple):
        sequences, *inner = sequences
        states = states if states is not None else inner or None
    fused, why = _fused(layer, sequences, given=given)
    if fused is None:
        if layer.stateful:
            found.refused = errors.ConversionError(
                f"Layer '{layer.name}' ({type(layer).__name__}) is stateful, and "
                f"{why}, so a .tflite cannot keep its state. Build it with "
                "stateful=False, return_state=True and initial_state=..., and make "
                "the states inputs and outputs of the model."
            )
            raise found.refused
        found.loops[layer.name] = why
        return original(*args, **kwargs)
    found.fused.append(fused)
    return _traced(
        layer, fused, number=len(found.fused) - 1, sequences=sequences, states=states
    )


def _fused(
    layer: Any, sequences: Any, *, given: Mapping[str, Any]
) -> tuple[Recurrent | None, str]:
    """Returns what the layer is as a fused op, or why there is none."""
    cell, kind = layer.cell, type(layer.cell).__name__
    if not _is_of_keras(cell) or kind not in _CELLS:
        return None, f"LiteRT has no fused op for {kind.removesuffix('Cell')}"
    if given.get("mask") is not None:
        return None, "LiteRT's fused op takes no mask"
    activation = getattr(cell.activation, "__name__", "")
    inner = getattr(getattr(cell, "recurrent_activation", None), "__name__", "sigmoid")
    if activation not in _ACTIVATIONS or inner != "sigmoid":
        return None, (
            f"LiteRT's fused op has no activation={activation!r} with "
            f"recurrent_activation={inner!r}"
        )
    if not sequences.shape.is_fully_defined() or sequences.dtype != tf.float32:
        return None, "LiteRT's fused op takes float32 of a fixed shape"
    if given.get("constants") is not None or getattr(layer, "_num_constants", None):
        return None, "its cell takes constants"
    if given.get("training") and (cell.dropout or cell.recurrent_dropout):
        return None, "it drops values in inference, too"
    with tf.init_scope():  # The weights have values outside of the trace only.
        kernel = np.asarray(cell.kernel)
        recurrent_kernel = np.asarray(cell.recurrent_kernel)
        zeros = np.zeros(kernel.shape[1], np.float32)
        bias = np.asarray(cell.bias) if cell.use_bias else zeros
    return Recurrent(
        layer.name,
        f"UNIDIRECTIONAL_SEQUENCE_{'LSTM' if kind == 'LSTMCell' else 'RNN'}",
        kernel,
        recurrent_kernel,
        bias,
        _ACTIVATIONS[activation],
        bool(layer.stateful),
    ), ""


def _traced(
    layer: Any, fused: Recurrent, *, number: int, sequences: Any, states: Any
) -> Any:
    """Returns what the layer gives, computed by a stand-in."""
    if getattr(layer, "time_major", False):
        sequences = tf.transpose(sequences, [1, 0, 2])
    if layer.go_backwards:
        sequences = tf.reverse(sequences, [1])
    batch, steps, _ = sequences.shape
    states = [] if states is None else tf.nest.flatten(states)
    outputs = _stand_in(
        (STEPS, number), (batch, steps, fused.units), tensors=[sequences, *states]
    )
    last = outputs[:, -1]
    given = last
    if layer.return_sequences:
        given = outputs
        if getattr(layer, "time_major", False):
            given = tf.transpose(given, [1, 0, 2])
    if not layer.return_state:
        return given
    if fused.op.endswith("RNN"):
        return [given, last]
    # The cell's state, behind which stands `last`, so that the op has to come first.
    both = _stand_in((CELL, number), (batch, 2 * fused.units), tensors=[last])
    return [given, last, both[:, : fused.units]]


def _stand_in(
    key: tuple[int, int], shape: Sequence[int], *, tensors: Sequence[Any]
) -> Any:
    """Calls a function that the converter passes on as a custom op."""

    def compute(*inputs: Any) -> Any:
        # It only has to depend on what it gets: it is never run.
        return tf.zeros(shape) + tf.add_n([tf.reduce_sum(each) for each in inputs])

    compute.__name__ = NAME
    function = tf.function(
        compute, autograph=False, experimental_attributes={"_noinline": True}
    ).get_concrete_function(*tensors)
    function.add_to_graph()
    # Of a call's attributes the one that comes through and has no effect.
    (result,) = tf.raw_ops.PartitionedCall(
        args=list(tensors), Tout=[tf.float32], f=function, config=_MARK % key
    )
    result.set_shape(shape)
    return result
