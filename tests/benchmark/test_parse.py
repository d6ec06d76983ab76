"""The parser on real recordings, and on the lines of older and newer tools."""

from pathlib import Path

import pytest

from tfslim import errors
from tfslim.benchmark import parse

RECORDINGS = Path(__file__).parent / "recordings"


def _read(name):
    return (RECORDINGS / f"{name}.txt").read_text()


def test_xnnpack_recording():
    done = parse.parse(_read("xnnpack"))
    assert (done.latency.num_runs, done.latency.mean) == (108, 9248.79)
    assert (done.latency.min, done.latency.std) == (8479, 918)
    assert (done.latency.p50, done.latency.p90) == (None, None)
    assert (done.warmup.num_runs, done.warmup.mean) == (53, 9392.72)
    assert (done.init_us, done.first_us) == (14873, 12744)
    assert done.peak_memory_bytes == round(37.6484 * 1024 * 1024)
    use = done.delegate("xnnpack")
    assert (use.is_whole, use.partitions) == (True, 1)
    assert done.delegate("gpu") is None
    assert done.unknown_flags == () and done.ops == ()


def test_op_profile_recording():
    done = parse.parse(_read("op_profile"))
    assert (done.latency.num_runs, done.latency.mean) == (3, 609209)
    # A single warm-up run: no spread.
    assert (done.warmup.num_runs, done.warmup.mean, done.warmup.std) == (
        1,
        624141,
        None,
    )
    assert done.delegates == ()
    assert [op.index for op in done.ops] == list(range(65))
    assert done.ops[0].op == "CONV_2D" and done.ops[0].latency_us == pytest.approx(
        24455
    )
    assert done.ops[0].name.endswith("mobilenetv2_1.00_224/Conv1/Conv2D")
    assert done.ops[62].op == "MEAN"
    assert done.ops[62].name == "mobilenetv2_1.00_224/global_average_pooling2d/Mean"
    # The tool's own sum: "Timings (microseconds): ... avg=609154".
    assert sum(op.latency_us for op in done.ops) == pytest.approx(609154, rel=1e-3)
    kinds = [op.op for op in done.ops]
    assert kinds.count("CONV_2D") == 35 and kinds.count("DEPTHWISE_CONV_2D") == 17


def test_unknown_flag_recording():
    done = parse.parse(_read("unknown_flag"))
    assert done.unknown_flags == ("--nonsense=1",)
    assert (done.latency.num_runs, done.latency.mean) == (2, 635512)


def test_missing_graph_recording():
    with pytest.raises(errors.BenchmarkError, match=r"Could not open '/data/local/tmp"):
        parse.parse(_read("missing_graph"), exit_code=1)


def test_truncated_graph_recording():
    with pytest.raises(errors.BenchmarkError, match=r"signal 11 \(segmentation fault"):
        parse.parse(_read("truncated_graph"), exit_code=139)
    with pytest.raises(errors.BenchmarkError, match="last line is 'Loaded model"):
        parse.parse(_read("truncated_graph"))


def test_exit_code_wins_over_figures():
    with pytest.raises(errors.BenchmarkError, match="exit code 1"):
        parse.parse(_read("xnnpack"), exit_code=1)


_NEW = """\
INFO: STARTING!
INFO: Use gpu: [1]
INFO: Loaded model m.tflite
INFO: Created TensorFlow Lite delegate for GPU.
VERBOSE: Replacing 60 out of 65 node(s) with delegate (TfLiteGpuDelegateV2) node, \
yielding 3 partitions for subgraph 0.
INFO: Explicitly applied GPU delegate, and the model graph will be partially executed \
by the delegate w/ 2 delegate kernels.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but \
terminate if exceeding 150 seconds.
INFO: count=1 curr=9054 p5=9054 median=9054 p95=9054
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but \
terminate if exceeding 150 seconds.
INFO: count=50 first=9004 curr=8983 min=8980 max=9061 avg=8996.41 std=15 p5=8983 \
median=8992 p95=9043
INFO: Inference timings in us: Init: 6143, First inference: 9054, Warmup (avg): 9054, \
Inference (avg): 8996.41
INFO: Memory footprint delta from the start of the tool (MB): init=1.5 overall=2
"""

_OLD = """\
STARTING!
Num threads: [1]
Loaded model m.tflite
resolved reporter
INFO: Initialized TensorFlow Lite runtime.
Initialized session in 1.892ms
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=6 first=91810 curr=85097 min=84834 max=91810 avg=86184.3 std=2519

Running benchmark for at least 50 iterations and at least 1 seconds
count=50 first=118810 curr=114219 min=88216 max=129193 avg=115062 std=7678

Average inference timings in us: Warmup: 86184.3, Init: 1892, no stats: 115062
"""


def test_newer_tools_print_prefixes_and_medians():
    done = parse.parse(_NEW)
    assert (done.latency.p50, done.latency.mean) == (8992, 8996.41)
    assert done.latency.num_runs == 50 and done.peak_memory_bytes == 2 * 2**20
    use = done.delegate("gpu")
    assert (use.is_whole, use.partitions) == (False, 2)
    assert (use.delegated_ops, use.other_ops) == (60, 5)
    assert done.delegate("xnnpack").is_whole is None


def test_older_tools_print_other_words():
    done = parse.parse(_OLD)
    assert (done.latency.num_runs, done.latency.mean) == (50, 115062)
    assert (done.init_us, done.first_us) == (1892, None)


def test_logcat_prefixes_do_not_matter():
    prefix = "05-31 10:38:42.582 22206 22206 I tflite  : "
    lines = [prefix + line for line in _read("xnnpack").splitlines()]
    assert parse.parse("\n".join(lines)) == parse.parse(_read("xnnpack"))


def test_equal_runs_are_printed_shortly():
    line = "count=108 first=9574 curr=9216 min=8479 max=16423 avg=9248.79 std=918"
    done = parse.parse(_read("xnnpack").replace(line, "count=108 curr=9216(all same)"))
    assert (done.latency.num_runs, done.latency.mean) == (108, 9216)
    assert (done.latency.std, done.latency.min) == (0, 9216)


def test_a_delegate_that_takes_nothing_is_seen():
    text = _read("xnnpack").replace(
        "Explicitly applied XNNPACK delegate, and the model graph will be completely "
        "executed by the delegate.",
        "Though GPU delegate is explicitly applied, the model graph will not be "
        "executed by the delegate.",
    )
    use = parse.parse(text).delegate("gpu")
    assert (use.is_whole, use.partitions) == (False, 0)
