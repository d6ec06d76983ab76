"""Running TFLiteConverter, quietly, and saying in a line what it failed on."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging as absl_logging

from tfslim import errors, quiet
from tfslim.tflite import trial


def run(
    frozen: Any, allow_flex: bool, *, io: tf.DType | None, has_stand_ins: bool
) -> bytes:
    """Returns what TFLiteConverter makes of a function without variables.

    Args:
        frozen: the concrete function.
        allow_flex: whether ops may need the Flex delegate.
        io: type of inputs and outputs, where fake quantization becomes INT8.
        has_stand_ins: whether calls of `recurrent` are to be passed on.

    Raises:
        ConversionError: an op has no builtin; names its layer.
    """
    with _quiet() as said:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.allow_custom_ops = has_stand_ins
        # Else it packs the file twice more, in Python, to add what we write ourselves.
        # With integer inputs it packs once more in any case, and loses the offsets.
        converter._experimental_use_buffer_offset = io in (None, tf.float32)
        if io is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = io
            converter.inference_output_type = io
        if allow_flex:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        try:
            content = converter.convert()
            trial.vouch(content)
            return content
        except Exception as error:
            failure = error
    raise _explain(failure, said[0]) from failure


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Silences the converter, its logging in this thread too; yields what it said."""
    own = threading.get_ident()

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != own

    # The second complains of tables that any model of the process has.
    loggers = absl_logging.get_absl_logger(), tf.get_logger()
    for logger in loggers:
        logger.addFilter(is_shown)
    try:
        with quiet.captured_stderr() as said, warnings.catch_warnings():
            # They stand in the graph, as fake quantization.
            warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
            yield said
    finally:
        for logger in loggers:
            logger.removeFilter(is_shown)


def _explain(error: Exception, said: str) -> errors.ConversionError:
    """Turns the converter's pages into one line that names operation and layer."""
    failed = []
    for detail in getattr(error, "errors", None) or ():
        names = [call.name for call in detail.location.call if call.name]
        place = f" (layer '{_layer_of(names[0])}')" if names else ""
        failed.append(f"{detail.operator.name.removeprefix('tf.')}{place}")
    if failed:
        return errors.ConversionError(
            f"No TFLite builtin for: {', '.join(dict.fromkeys(failed))}. Rewrite it "
            "with supported operations, or pass allow_flex (--config.convert."
            "allow_flex=true): the app then needs the Flex delegate, several MB."
        )
    lines = [*str(error).splitlines(), *said.splitlines()]
    first = next((line for line in lines if "error" in line), lines[0] if lines else "")
    return errors.ConversionError(f"TensorFlow's converter failed: {first.strip()}")


def _layer_of(node: str) -> str:
    """Returns the layer's part of a graph node's name, "model/layer/Op"."""
    parts = node.split("/")
    return "/".join(parts[1:-1]) if len(parts) > 2 else node
