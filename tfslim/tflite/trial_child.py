"""The child process of `trial`: runs a file from stdin in each way that tfslim does.

    trial_child.py MEMORY_BYTES CPU_SECONDS PATH...

It needs nothing but numpy and ai-edge-litert, which lie in PATH, and does not import
tfslim: starting must not take long. It ends with 0 unless the runtime ends it.
"""

import sys
import time
from typing import Any

# Only a file that runs as fast is run in every way; a slow one is loaded in the others.
_FAST_SECONDS = 0.1


def main() -> int:
    """Runs the file on zeros."""
    _limit(*map(int, sys.argv[1:3]))
    sys.path[:] = [*sys.argv[3:], *sys.path[1:]]
    from ai_edge_litert import interpreter as litert

    content = sys.stdin.buffer.read()
    ways = litert.OpResolverType
    seconds = 0.0
    # As `Runner` loads a file: by default, with every tensor kept, without XNNPACK.
    for way, keep in (
        (ways.AUTO, False),
        (ways.AUTO, True),
        (ways.BUILTIN_WITHOUT_DEFAULT_DELEGATES, False),
    ):
        try:
            interpreter = litert.Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=way,
                experimental_preserve_all_tensors=keep,
            )
            interpreter.allocate_tensors()
            if seconds < _FAST_SECONDS:
                seconds = _run(interpreter)
        except (RuntimeError, ValueError):
            continue  # An orderly refusal: whoever loads the file gets it, too.
        except MemoryError as error:
            sys.stderr.write(f"{error}\n")
            return 3
    return 0


def _run(interpreter: Any) -> float:
    """Runs it once and returns the seconds that took."""
    # Details would hold names, which need not be text.
    for index in interpreter._interpreter.InputIndices():
        values = interpreter.tensor(index)()
        if values.dtype.kind in "biufc":
            values.fill(0)
        del values  # The runtime does not run while someone looks at its memory.
    start = time.perf_counter()
    interpreter.invoke()
    return time.perf_counter() - start


def _limit(memory: int, seconds: int) -> None:
    """Bounds what a file may take, where the system has a way to."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, bound in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds)):
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            bound = min(bound, most)
        if bound:
            resource.setrlimit(kind, (bound, most))


if __name__ == "__main__":
    sys.exit(main())
