"""Which ops of a `.tflite` the XNNPACK delegate runs, and which it leaves."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfslim.tflite import interpreter, model


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """How XNNPACK divides the main graph.

    Attributes:
        num_ops: ops in the file.
        num_partitions: pieces that XNNPACK runs each in one go; 1 is best, since
            every border costs a copy and a wait.
        outside: the ops that the builtin kernels run, in order of execution.
    """

    num_ops: int
    num_partitions: int
    outside: tuple[model.Op, ...]

    @property
    def num_delegated(self) -> int:
        """Ops that XNNPACK runs."""
        return self.num_ops - len(self.outside)

    @property
    def is_whole(self) -> bool:
        """Whether one partition runs everything."""
        return self.num_partitions == 1 and not self.outside


def coverage(tflite: bytes | interpreter.Runner) -> Coverage:
    """Loads `tflite` with XNNPACK and asks the runtime what the delegate took.

    Args:
        tflite: the file, or a runner of it that has XNNPACK and does not preserve all
            tensors (which makes every op a partition of its own).

    Raises:
        ConversionError: the runtime refuses the file.
    """
    runner = tflite
    if not isinstance(runner, interpreter.Runner):
        runner = interpreter.Runner(runner)
    # The runtime lists the file's own nodes, then one DELEGATE node a partition; no
    # public call gives as much.
    nodes = runner.interpreter._get_ops_details()
    partitions = [node for node in nodes if node["op_name"] == "DELEGATE"]
    return divided(runner.model.graphs[0], partitions)


def divided(graph: model.Graph, partitions: Sequence[Mapping[str, Any]]) -> Coverage:
    """Returns what a delegate took of `graph`.

    Args:
        graph: the main graph.
        partitions: each with the numbers of its border's tensors, as the runtime lists
            them: {"inputs": [...], "outputs": [...]}.
    """
    taken: set[int] = set()
    for node in partitions:
        taken |= _inside(graph, node)
    return Coverage(
        num_ops=len(graph.ops),
        num_partitions=len(partitions),
        outside=tuple(op for op in graph.ops if op.index not in taken),
    )


def _inside(graph: model.Graph, node: Mapping[str, Any]) -> set[int]:
    """Walks from a partition's outputs back to its inputs: all ops on the way."""
    border = {int(tensor) for tensor in node["inputs"]}
    found: set[int] = set()
    waiting: list[int] = [int(tensor) for tensor in node["outputs"]]
    while waiting:
        op = graph.producers.get(waiting.pop())
        if op is not None and op.index not in found:
            found.add(op.index)
            waiting += [tensor for tensor in op.inputs if tensor not in border]
    return found


def count_names(ops: Iterable[model.Op]) -> dict[str, int]:
    """Counts ops by name, the most frequent first."""
    counts = collections.Counter(op.name for op in ops)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
