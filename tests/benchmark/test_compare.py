"""The verdict on recorded samples, on made-up ones, and the gate."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tfslim import errors
from tfslim.benchmark import baseline, comparison, environment, result, validity

RECORDED = Path(__file__).parent / "recordings" / "equal_files.json"


def _result(name, by_round, **options):
    rounds = [result.LatencyStats.from_samples(samples) for samples in by_round]
    return result.BenchmarkResult(
        name=name,
        **result.describe(name.encode()),
        runner="host",
        environment={"device": "host", "cpu": "one"},
        options=result.Options(**options),
        latency=result.LatencyStats.from_rounds(rounds),
        by_round=rounds,
    )


def _noisy(random, scale, rounds=20, drift=0.0):
    """Rounds of samples with one-sided noise, and a common drift of the machine."""
    return [
        scale * (1 + drift * i / rounds) * (100 + random.exponential(2, 5))
        for i in range(rounds)
    ]


def test_ratio_by_hand():
    base = _result("a", [[100.0] * 3] * 8)
    new = _result("b", [[110.0] * 3] * 8)
    done = comparison.compare(base, new)
    assert (done.ratio, done.low, done.high) == pytest.approx((1.1, 1.1, 1.1))
    assert done.verdict == "slower"
    assert comparison.compare(new, base).verdict == "faster"


@pytest.mark.parametrize(("rounds", "sum_of_ranks"), [(8, 0), (10, 3), (20, 37)])
def test_interval_is_that_of_the_signed_ranks(rounds, sum_of_ranks):
    """The critical values are those of printed tables for 1%, two-sided."""
    assert comparison._outside(rounds, 0.005) == sum_of_ranks
    ratios = np.exp(np.random.default_rng(rounds).normal(0, 0.1, rounds))
    base = _result("a", [[100.0]] * rounds)
    done = comparison.compare(base, _result("b", [[100.0 * r] for r in ratios]))
    # Scipy's exact test does not reject what lies within, and rejects what does not.
    for end, inward in ((done.low, 1.0001), (done.high, 1 / 1.0001)):
        within, without = np.log(end * inward), np.log(end / inward)
        assert stats.wilcoxon(np.log(ratios) - within, method="exact").pvalue > 0.01
        assert stats.wilcoxon(np.log(ratios) - without, method="exact").pvalue <= 0.01


def test_a_round_counts_by_its_fastest_run():
    base = _result("a", [[100.0, 900.0, 900.0]] * 8)
    done = comparison.compare(base, _result("b", [[110.0, 110.0, 110.0]] * 8))
    assert (done.ratio, done.verdict) == (pytest.approx(1.1), "slower")


def test_a_difference_below_one_percent_gets_no_verdict():
    base = _result("a", [[100.0]] * 8)
    near = comparison.compare(base, _result("b", [[100.9]] * 8))
    assert near.low > 1 and near.verdict == "no difference found"
    assert comparison.compare(base, _result("b", [[101.1]] * 8)).verdict == "slower"


def test_false_alarms_are_as_rare_as_promised():
    """99%: of 200 comparisons of equal files about 2 differ; 8 are far too many."""
    random = np.random.default_rng(1)
    differ = sum(
        comparison.compare(
            _result("a", _noisy(random, 1)), _result("b", _noisy(random, 1))
        ).verdict
        != "no difference found"
        for _ in range(200)
    )
    assert differ < 8


def test_drift_that_both_share_is_no_difference():
    random = np.random.default_rng(2)
    base = _result("a", _noisy(random, 1, drift=0.5))
    new = _result("b", _noisy(random, 1.05, drift=0.5))
    done = comparison.compare(base, new)
    assert done.verdict == "slower" and done.low < 1.05 < done.high
    # Unpaired, the drift cannot be told from a difference of the files.
    assert comparison.compare(base, new, paired=False).high - comparison.compare(
        base, new, paired=False
    ).low > 3 * (done.high - done.low)


@pytest.mark.parametrize("record", json.loads(RECORDED.read_text()))
def test_recorded_runs_of_equal_files(record):
    base, new = _result("a", record["a"]), _result("b", record["b"])
    assert comparison.compare(base, new).verdict == "no difference found"
    slower = _result("b", [[1.05 * s for s in part] for part in record["b"]])
    assert comparison.compare(base, slower).verdict == "slower"
    assert comparison.compare(slower, base).verdict == "faster"


def test_verdict_needs_rounds():
    few = comparison.compare(_result("a", [[1.0]] * 7), _result("b", [[2.0]] * 7))
    assert (few.verdict, few.low, few.ratio) == ("too few rounds", None, 2.0)
    assert [comparison.min_rounds(c) for c in (0.5, 0.95, 0.99)] == [2, 6, 8]
    with pytest.raises(errors.ConfigError, match="not run together"):
        comparison.compare(_result("a", [[1.0]] * 7), _result("b", [[2.0]] * 8))


def test_regression_is_slower_and_by_more_than_allowed():
    base = _result("a", [[100.0]] * 8)
    done = comparison.compare(base, _result("b", [[106.0]] * 8))
    assert done.is_regression(0.05) and not done.is_regression(0.07)
    noisy = _result("b", [[80.0], [140.0]] * 4)
    assert not comparison.compare(base, noisy).is_regression(0.05)


def test_joined_rounds_by_hand():
    """Without single samples: mean and deviation of 1, 3 and of 5 are those of 1 3 5"""
    parts = [result.LatencyStats.from_samples(part) for part in ([1.0, 3.0], [5.0])]
    joined = result.LatencyStats.from_rounds(parts)
    whole = result.LatencyStats.from_samples([1.0, 3.0, 5.0])
    assert (joined.num_runs, joined.mean, joined.min) == (3, 3.0, 1.0)
    assert joined.std == pytest.approx(whole.std)
    assert joined.p50 == 3.5 and joined.p90 is None


def _rounds(*medians):
    return [
        result.LatencyStats(num_runs=10, mean=m, std=0.0, min=m, p50=m) for m in medians
    ]


def test_validity_flags():
    assert validity.check_rounds(_rounds(*[100.0, 101.0] * 5)) == {}
    assert set(validity.check_rounds(_rounds(*[100.0, 140.0, 140.0, 100.0] * 3))) == {
        "noisy"
    }
    assert set(validity.check_rounds(_rounds(*range(100, 110)))) == {"drift"}
    assert set(validity.check_rounds(_rounds(100.0))) == {"few_runs"}
    assert set(validity.check_host(1.5, 4)) == {"busy"}
    assert validity.check_host(1.0, 4) == validity.check_host(None, 4) == {}


def test_own_work_is_no_other_program(monkeypatch):
    """Of 3 s of the machine's CPU in 2 s, what this process used itself is its own."""
    ticks, clock = os.sysconf("SC_CLK_TCK"), iter([10.0, 12.0])
    stat = iter(["cpu 5 0 5 90 7 0 0 0\n", f"cpu 5 {3 * ticks} 5 99 8 0 0 0\n"])
    own = iter([(1.0, 0.0, 0.5, 0.0, 0.0), (1.5, 0.5, 1.5, 0.0, 0.0)])
    monkeypatch.setattr(environment, "_read", lambda path: next(stat))
    monkeypatch.setattr(environment.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(environment.os, "times", lambda: next(own))
    assert environment.Watch().cores() == pytest.approx((3.0 - 2.0) / 2.0)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux alone tells")
def test_another_program_is_seen():
    burn = "import time\nwhile time.process_time() < 30: pass"
    with subprocess.Popen([sys.executable, "-c", burn]) as other:
        watch = environment.Watch()
        time.sleep(1.5)
        cores = watch.cores()
        other.kill()
    assert cores is not None and cores > 0.2


def test_where_others_are_hidden_nothing_is_said(monkeypatch):
    monkeypatch.setattr(environment, "_read", lambda path: None)
    assert environment.Watch().cores() is None


def test_baseline_is_matched_and_guarded(tmp_path):
    old = _result("old", [[1.0]] * 8)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(baseline.to_json([(old, None)])))
    [read] = baseline.read(path)
    assert read.to_json() == old.to_json()
    new = _result("new", [[1.0]] * 8)
    assert baseline.match(new, [read]) is read
    with pytest.raises(errors.ConfigError, match="it has: none"):
        baseline.match(_result("new", [[1.0]] * 8, num_threads=2), [read])
    with pytest.raises(errors.ConfigError, match="it has: old, old"):
        baseline.match(new, [read, read])
    other = dataclasses.replace(new, environment={"device": "host", "cpu": "two"})
    with pytest.raises(errors.ConfigError, match="cpu 'one', this run with 'two'"):
        baseline.match(other, [read])
    # CPUs of one name may run other kernels; runs from before that was recorded pass.
    avx = {"device": "host", "cpu": "one", "cpu_features": ["avx2"]}
    other = dataclasses.replace(new, environment=avx)
    assert baseline.match(other, [read]) is read
    wider = {**avx, "cpu_features": ["avx2", "avx512f"]}
    with pytest.raises(errors.ConfigError, match="cpu_features"):
        baseline.match(dataclasses.replace(new, environment=wider), [other])
    path.write_text("{}")
    with pytest.raises(errors.ConfigError, match="no benchmark results"):
        baseline.read(path)
