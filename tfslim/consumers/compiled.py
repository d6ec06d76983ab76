"""LiteRT 2's CompiledModel, which replaces the Interpreter: on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfslim import tflite
from tfslim.consumers import process
from tfslim.consumers.base import Consumer, Outcome
from tfslim.consumers.samples import Samples


def _run(content: bytes, inputs: Samples) -> Outcome:
    ran = run_on("CPU", content, inputs=inputs)
    whole = ran.facts["is_fully_accelerated"]
    return ran.outcome(is_fully_accelerated=whole, accelerator="CPU")


def run_on(
    accelerator: str,
    content: bytes,
    *,
    inputs: Samples,
    environment: Mapping[str, str] | None = None,
) -> process.Ran:
    """Runs a CompiledModel in a child.

    Args:
        accelerator: a name of LiteRT's `HardwareAccelerator`.
        content: the file.
        inputs: as `Consumer.run` takes them.
        environment: variables for the child.
    """
    model = tflite.read(content)
    options: dict[str, Any] = {
        "accelerator": accelerator,
        "inputs": [tensor.index for tensor in model.inputs],
        "outputs": [tensor.index for tensor in model.outputs],
    }
    return process.run_child(
        "compiled", content, inputs=inputs, environment=environment, options=options
    )


CONSUMER = Consumer(
    name="compiled",
    what="LiteRT 2 CompiledModel, this CPU",
    missing=lambda: "",
    run=_run,
)
