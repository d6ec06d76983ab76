"""Where the time goes, op by op, on the host.

LiteRT's Python API has no op profiler. Instead every op is cut into a file of its own
and timed there: without the neighbours that would share its cache, and with input and
output copied, so the sum is not exactly the latency of the whole.
"""

from __future__ import annotations

import numpy as np

from tfslim import errors, tflite
from tfslim.benchmark import host
from tfslim.benchmark.result import OpTime, Options

SOURCE = "each op cut into a file of its own and timed alone on the host"

_PASSES = 5
_SECS_PER_PASS = 0.005


def profile_host(data: bytes, options: Options | None = None) -> tuple[OpTime, ...]:
    """Times every op of the main graph alone, in passes over all ops.

    Args:
        data: the file.
        options: threads and delegate; the rest does not matter here.

    Returns:
        One row an op, in order of execution. An op that cannot stand alone (it runs
        other graphs, or takes text) has no latency.
    """
    options = options or Options()
    graph = tflite.read(data).graphs[0]
    runners = [_load(data, op.index, options=options) for op in graph.ops]
    samples: list[list[float]] = [[] for _ in runners]
    for _ in range(_PASSES):
        for runner, spans in zip(runners, samples, strict=True):
            if runner is not None:
                host.time_us(runner, 1, least_secs=0)
                spans += host.time_us(runner, 3, least_secs=_SECS_PER_PASS)
    return tuple(
        OpTime(
            index=op.index,
            op=op.name,
            name=graph.tensors[op.outputs[0]].name if op.outputs else "",
            latency_us=float(np.median(spans)) if spans else None,
        )
        for op, spans in zip(graph.ops, samples, strict=True)
    )


def _load(data: bytes, index: int, *, options: Options) -> tflite.Runner | None:
    try:
        runner = host.load(tflite.single_op(data, index), options)
        runner.invoke()
    except (errors.ConfigError, errors.ConversionError):
        return None
    return runner
