"""The host runner on a real file, and the statistics by hand."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tf_keras

from tfslim import benchmark, convert, errors
from tfslim.benchmark import host
from tfslim.tflite import trial


@pytest.fixture(scope="module")
def small():
    inputs = tf_keras.Input((16, 16, 3))
    outputs = tf_keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    return convert.convert_model(tf_keras.Model(inputs, outputs)).tflite


def test_stats_by_hand():
    stats = benchmark.LatencyStats.from_samples([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (stats.num_runs, stats.mean, stats.min, stats.p50) == (5, 3.0, 1.0, 3.0)
    assert stats.std == pytest.approx(np.sqrt(2.5))
    assert stats.p90 == pytest.approx(4.6)
    assert benchmark.LatencyStats.from_samples([7.0]).std is None
    with pytest.raises(errors.BenchmarkError):
        benchmark.LatencyStats.from_samples([])


def test_run_host_times_every_file_in_rounds(small):
    options = benchmark.Options(num_runs=23, rounds=4, warmup_runs=1)
    results = benchmark.run_host({"a": small, "b": small}, options)
    assert [result.name for result in results] == ["a", "b"]
    for result in results:
        assert [len(part) for part in result.samples_us] == [6, 6, 6, 5]
        assert result.latency.num_runs == 23
        assert 0 < result.latency.min <= result.latency.p50 <= result.latency.p90
        assert result.size_bytes == len(small)
        assert 0 < result.gzip_bytes < len(small)
        assert (result.partitions, result.other_ops) == (1, 0)
        assert result.peak_memory_bytes > 0
        assert result.environment["versions"]["ai-edge-litert"]


def test_json_round_trip(small):
    options = benchmark.Options(num_runs=2, rounds=1)
    [result] = benchmark.run_host({"a": small}, options)
    data = json.loads(json.dumps(result.to_json()))
    again = benchmark.BenchmarkResult.from_json(data)
    assert again.to_json() == result.to_json()
    with pytest.raises(errors.ConfigError, match="schema 99"):
        benchmark.BenchmarkResult.from_json({**data, "schema_version": 99})
    for name in ("name", "environment", "latency", "by_round", "options", "ops"):
        for value in (None, 3, [3]):
            with pytest.raises(errors.ConfigError):
                benchmark.BenchmarkResult.from_json({**data, name: value})
    for value in (None, "x", -1.0, 0, [1]):
        latency = {**data["latency"], "mean": value}
        with pytest.raises(errors.ConfigError):
            benchmark.BenchmarkResult.from_json({**data, "latency": latency})
    for content in (3, None, [], "x"):
        with pytest.raises(errors.ConfigError):
            benchmark.BenchmarkResult.from_json(content)


def test_what_does_not_run_is_named():
    with pytest.raises(errors.BenchmarkError, match="'broken'"):
        benchmark.run_host({"broken": b"TFL3 nonsense"})


@pytest.mark.parametrize("field", ["num_threads", "num_runs", "rounds"])
def test_wrong_options(field):
    with pytest.raises(errors.ConfigError, match=field):
        benchmark.Options(**{field: 0})


def test_least_time_is_kept(small):
    options = benchmark.Options(num_runs=4, rounds=4, min_secs=0.2, warmup_secs=0)
    [result] = benchmark.run_host({"a": small}, options)
    assert len(result.samples_us) == 4
    for part in result.samples_us:
        # A quarter of the time each, but for the last run's length.
        assert sum(part) > 0.05e6 * 0.9
    assert result.latency.num_runs > 4


def test_without_delegate_the_builtin_kernels_run(small):
    options = benchmark.Options(num_runs=2, rounds=1, delegate="none")
    [result] = benchmark.run_host({"a": small}, options)
    assert (result.partitions, result.delegated_ops, result.other_ops) == (0, 0, None)
    assert result.environment["delegate"] == "none"


def test_every_op_is_timed_and_their_sum_is_near_the_whole():
    inputs = outputs = tf_keras.Input((32, 32, 16))
    for _ in range(6):
        outputs = tf_keras.layers.Conv2D(32, 3, activation="relu")(outputs)
    outputs = tf_keras.layers.GlobalAveragePooling2D()(outputs)
    data = convert.convert_model(tf_keras.Model(inputs, outputs)).tflite
    ops = benchmark.profile_host(data)
    assert [op.op for op in ops] == ["CONV_2D"] * 6 + ["MEAN"]
    assert [op.index for op in ops] == list(range(7))
    [result] = benchmark.run_host({"a": data})
    total = sum(op.latency_us for op in ops)
    # On a quiet machine within 9%; a busy one must not fail the suite.
    assert 0.5 < total / result.latency.p25 < 2


def test_command_needs_no_tensorflow():
    code = (
        "import sys, tfslim.benchmark.__main__;"
        "sys.exit(any(n in sys.modules for n in ('tensorflow', 'keras', 'tf_keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_inputs_that_no_memory_holds_are_refused(small, monkeypatch):
    """With --profile, inner shapes too, which in a damaged file may be anything."""
    monkeypatch.setattr(host, "_MUCH", 0)
    monkeypatch.setattr(trial, "memory_bytes", lambda: 16 * 16 * 16 * 3 - 1)
    with pytest.raises(errors.BenchmarkError, match=r"'a'.*more memory than is left"):
        benchmark.run_host({"a": small})
    assert benchmark.profile_host(small)[0].latency_us is None
