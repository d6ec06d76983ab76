"""The LiteRT Interpreter with XNNPACK: what the other consumers are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import tflite
from tfslim.consumers import process
from tfslim.consumers.base import Consumer, Outcome
from tfslim.consumers.samples import Samples
from tfslim.tflite import delegate


def _run(content: bytes, inputs: Samples) -> Outcome:
    ran = process.run_child("interpreter", content, inputs=inputs)
    return described(content, ran)


def described(content: bytes, ran: process.Ran, **conditions: Any) -> Outcome:
    """Returns the outcome of the Interpreter, wherever it ran.

    Args:
        content: the file.
        ran: what the child left.
        **conditions: more of them.
    """
    partitions: Sequence[Mapping[str, Any]] = ran.facts["partitions"]
    taken = delegate.divided(tflite.read(content).graphs[0], partitions)
    counts = delegate.count_names(taken.outside)
    outside = [f"{name} x{n} by builtin kernels" for name, n in counts.items()]
    return ran.outcome(
        is_fully_accelerated=taken.is_whole,
        fell_back=outside,
        delegate="XNNPACK",
        num_threads=1,
        **conditions,
    )


CONSUMER = Consumer(
    name="interpreter",
    what="LiteRT Interpreter with XNNPACK, this CPU",
    missing=lambda: "",
    run=_run,
)
