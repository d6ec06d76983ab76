"""Stands in for benchmark_model on the loopback device.

Runs the graph for real with ai-edge-litert and prints what the official tool prints.
Environment: STAND_IN_LOG gets one JSON line with the arguments of each call;
STAND_IN_MODE: "gpu_refused" (the delegate takes nothing), "hang", "old" (does not know
all flags), of LiteRT 2's "silent" (prints no table) and "stops" (after its warm-up).
"""

import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path


def _flags(arguments):
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def _series(runner, runs, secs):
    print(
        f"Running benchmark for at least {runs} iterations and at least {secs:g} "
        "seconds but terminate if exceeding 150 seconds."
    )
    spans, start = [], time.monotonic()
    while len(spans) < max(1, runs) or time.monotonic() - start < secs:
        before = time.perf_counter_ns()
        runner.invoke()
        spans.append((time.perf_counter_ns() - before) // 1000)
    if len(spans) == 1:
        print(f"count=1 curr={spans[0]}\n")
    else:
        print(
            f"count={len(spans)} first={spans[0]} curr={spans[-1]} min={min(spans)} "
            f"max={max(spans)} avg={statistics.mean(spans):g} "
            f"std={statistics.pstdev(spans):.0f}\n"
        )
    return spans


def _profile(content):
    from tfslim.benchmark import profile

    print("Operator-wise Profiling Info for Regular Benchmark Runs:")
    print("============================== Run Order ==============================")
    names = "[node type] [start] [first] [avg ms] [%] [cdf%] [mem KB] [times called]"
    columns = [name if name.endswith("]") else f"{name}]" for name in names.split("] ")]
    print("\t" + "\t".join(f"{c:>24}" for c in columns) + "\t[Name]")
    ops = profile.profile_host(content)
    for op in ops:
        latency = f"{op.latency_us / 1e3:.3f}"
        cells = [op.op, "0.000", latency, latency, "1.0%", "1.0%", "0.000", "1"]
        row = "\t".join(f"{c:>24}" for c in cells)
        print(f"\t{row}\t[{op.name}]:{op.index}")
    print(f"\nNumber of nodes executed: {len(ops)}")


def _litert2(runner, flags, mode, init):
    """Prints what LiteRT 2's tool prints, in the format of its README and source."""
    if flags["use_gpu"] == "true" and mode != "silent":
        print(
            "VERBOSE: Replacing 1 out of 2 node(s) with delegate (LITERT_CL) node, "
            "yielding 2 partitions for subgraph 0 (main)."
        )
    warmup = _series(runner, int(flags["warmup_runs"]), float(flags["warmup_min_secs"]))
    if mode == "stops":
        return 0
    spans = _series(runner, int(flags["num_runs"]), float(flags["min_secs"]))
    if mode == "silent":  # As where it goes to Android's log alone.
        return 0
    print(
        f"INFO: [benchmark_litert_model.h:90] \n"
        "========== BENCHMARK RESULTS ==========\n"
        f"INFO: [benchmark_litert_model.h:95] Model initialization: "
        f"{init / 1e3:.2f} ms\n"
        f"INFO: Warmup (first):       {warmup[0] / 1e3:.2f} ms\n"
        f"INFO: Warmup (avg):         {statistics.mean(warmup) / 1e3:.2f} ms "
        f"({len(warmup)} runs)\n"
        f"INFO: Inference (avg):      {statistics.mean(spans) / 1e3:.2f} ms "
        f"({len(spans)} runs)\n"
        "INFO: Init footprint:       1.50 MB\n"
        "INFO: Overall footprint:    2.50 MB\n"
        "INFO: Peak memory:          3.50 MB\n"
        "INFO: ======================================"
    )
    return 0


def main(arguments):
    mode = os.environ.get("STAND_IN_MODE", "")
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    flags = _flags(arguments)
    print("STARTING!")
    if mode == "old":
        print("Unconsumed cmdline flags: --warmup_min_secs=" + flags["warmup_min_secs"])
    print(f"Graph: [{flags['graph']}]")
    sys.stdout.flush()
    if not Path(flags["graph"]).is_file():
        print(f"ERROR: Could not open '{flags['graph']}'.\nBenchmarking failed.")
        return 1
    print(f"Loaded model {flags['graph']}", flush=True)
    if mode == "hang":
        time.sleep(600)

    from ai_edge_litert import interpreter

    begin = time.perf_counter_ns()
    content = Path(flags["graph"]).read_bytes()
    try:
        runner = interpreter.Interpreter(model_content=content)
        runner.allocate_tensors()
    except (RuntimeError, ValueError):
        # As the real tool does with a truncated file.
        os.kill(os.getpid(), signal.SIGSEGV)
    init = (time.perf_counter_ns() - begin) // 1000
    if "use_npu" in flags:
        return _litert2(runner, flags, mode, init)
    if flags["use_xnnpack"] == "true":
        print("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.")
        print(
            "Explicitly applied XNNPACK delegate, and the model graph will be "
            "completely executed by the delegate."
        )
    elif flags["use_gpu"] == "true" and mode == "gpu_refused":
        print(
            "Though GPU delegate is explicitly applied, the model graph will not be "
            "executed by the delegate."
        )
    warmup = _series(runner, int(flags["warmup_runs"]), float(flags["warmup_min_secs"]))
    spans = _series(runner, int(flags["num_runs"]), float(flags["min_secs"]))
    print(
        f"Inference timings in us: Init: {init}, First inference: {warmup[0]}, "
        f"Warmup (avg): {statistics.mean(warmup):g}, "
        f"Inference (avg): {statistics.mean(spans):g}"
    )
    print("Peak memory footprint (MB): init=1.5 overall=2.5")
    if flags.get("enable_op_profiling") == "true":
        _profile(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
