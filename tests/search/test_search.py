"""The space, the path and the study, against cuts, all choices, and a kill."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from tfslim import errors, optimize
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import candidates, trial_rows
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import prune, surgery
from tfslim.search import choose, sensitivity, space

LAYERS = tf_keras.layers


def _model():
    x = inputs = tf_keras.Input((12, 12, 3))
    x = LAYERS.ReLU(name="r0")(LAYERS.Conv2D(32, 3, padding="same", name="stem")(x))
    y = LAYERS.DepthwiseConv2D(3, padding="same", name="dw")(x)
    y = LAYERS.ReLU(name="r1")(LAYERS.Conv2D(32, 1, name="point")(y))
    x = LAYERS.Add(name="add")([x, y])
    x = LAYERS.Conv2D(48, 3, strides=2, name="last")(x)
    x = LAYERS.GlobalAveragePooling2D(name="pool")(LAYERS.ReLU(name="r2")(x))
    return tf_keras.Model(inputs, LAYERS.Dense(5, name="out")(x))


@pytest.fixture(scope="module")
def parts():
    model = _model()
    channels = channels_lib.analyze(graph_keras.read(model))
    scores = prune.score_by(
        channels, "tf_keras", criterion="l1_norm", batches=None, loss=None
    )
    times = {layer.name: float(n + 1) for n, layer in enumerate(model.layers)}
    timed = {
        "float32": space.Timed(times, 3.0, 40_000),
        "int8": space.Timed({k: v / 2 for k, v in times.items()}, 1.5, 10_000),
    }
    built = space.build_space(channels, scores, timed=timed)
    return model, channels, scores, built


def _cut(channels, scores, choice):
    budget = budget_lib.Budget(
        pruning_ratio=0.0, ratios=dict(choice.ratios), divisor=space.DIVISOR
    )
    keep = budget_lib.plan(channels, scores, budget=budget)
    smaller, _ = surgery.cut_channels(channels.graph, keep, channels=channels)
    return count.count(smaller)


def test_the_whole_model_costs_what_was_measured(parts):
    model, channels, _, built = parts
    cost = built.cost(space.Choice.of({}, "float32"))
    counts = count.count(channels.graph)
    assert cost.macs == counts.macs
    assert cost.params == counts.params
    assert cost.latency_us == pytest.approx(3 + sum(range(1, len(model.layers) + 1)))
    assert cost.size_bytes == pytest.approx(40_000)


def test_products_of_factors_are_the_cut_graphs(parts):
    _, channels, scores, built = parts
    for levels in itertools.product((0.0, *built.ratios), repeat=len(built.groups)):
        choice = space.Choice.of(dict(zip(built.groups, levels, strict=True)))
        cost, counts = built.cost(choice), _cut(channels, scores, choice)
        assert cost.macs == pytest.approx(counts.macs, rel=1e-6)
        # Biases have one factor where kernels have two.
        assert cost.params == pytest.approx(counts.params, rel=0.06)


def test_the_path_is_as_good_as_any_choice_at_its_points(parts):
    _, _, _, built = parts
    random = np.random.default_rng(0)
    # So steep that no step of it is made steeper.
    damage = random.uniform(0.01, 0.1, (len(built.groups), 1)) * [1.0, 4.0, 16.0]
    steps = choose.path(built, damage, recipe="int8")
    assert 4 <= len(steps) <= 1 + len(built.groups) * len(built.ratios)
    assert steps[-1].choice == built.uniform(built.ratios[-1])
    latencies = [step.cost.latency_us for step in steps]
    assert latencies == sorted(latencies, reverse=True)
    every = []
    for levels in itertools.product(
        range(len(built.ratios) + 1), repeat=len(built.groups)
    ):
        ratios = {
            g: built.ratios[p - 1]
            for g, p in zip(built.groups, levels, strict=True)
            if p
        }
        lost = sum(damage[g, p - 1] for g, p in enumerate(levels) if p)
        every.append((built.cost(space.Choice.of(ratios)).latency_us, lost))
    for step in steps[:: len(steps) // 4]:
        least = min(lost for us, lost in every if us <= step.cost.latency_us + 1e-9)
        assert step.damage <= 1.5 * least + 0.05


def test_a_ratio_that_saves_nothing_does_not_hold_up_its_group(parts):
    _, _, _, built = parts
    work = built.work_left.copy()
    work[0, 0] = 1.0  # Rounded up to the whole width.
    flat = dataclasses.replace(built, work_left=work)
    damage = np.array([[0.0, 0.001, 0.002], [0.5, 2.0, 8.0]])
    first = choose.path(flat, damage, recipe="int8")[1]
    assert [name for name, _ in first.choice.ratios] == [built.groups[0]]


def test_noise_is_not_the_end_of_damage(parts):
    _, _, _, built = parts
    damage = np.array([[0.0, 1.0, 1.0], [0.01, 0.04, 0.16]])
    last = choose.path(built, damage, recipe="int8")[-1]
    # From half to a quarter of the width: log(2) times the error that is reached.
    assert last.damage == pytest.approx(1.0 + np.log(2.0) + 0.16)


def test_the_best_under_a_budget(parts):
    _, _, _, built = parts
    damage = np.tile([0.1, 0.2, 0.4], (len(built.groups), 1))
    steps = choose.path(built, damage, recipe="int8")
    whole = steps[0].cost
    goal = choose.Goal(max_latency_us=0.6 * whole.latency_us)
    best = choose.best_under(steps, goal)
    assert best.cost.latency_us <= 0.95 * goal.max_latency_us
    better = [s for s in steps if s.damage < best.damage]
    assert all(goal.excess(s.cost) > 0.95 for s in better)
    assert choose.best_under(steps, choose.Goal(max_latency_us=1e9)) is steps[0]
    for goal in (choose.Goal(max_macs=10), choose.Goal(max_size_bytes=5)):
        with pytest.raises(errors.BenchmarkError, match=r"cannot be met.*asked for"):
            choose.best_under(steps, goal)


def test_a_family_lies_between_the_ends(parts):
    _, _, _, built = parts
    damage = np.tile([0.1, 0.2, 0.4], (len(built.groups), 1))
    steps = choose.path(built, damage, recipe="int8")
    found = choose.family(steps, 4, fastest_us=steps[-1].cost.latency_us)
    times = [step.cost.latency_us for step in found]
    assert times == sorted(times, reverse=True)
    assert 2 <= len(found) <= 4
    assert times[-1] == pytest.approx(steps[-1].cost.latency_us)


def test_a_measured_family_goes_from_end_to_end_of_the_front():
    rows = [
        {"latency_us": us, "quality": quality}
        for us, quality in [
            (9, 0.99),
            (7, 0.98),
            (8, 0.9),
            (5, 0.97),
            (3, 0.9),
            (1, 0.8),
        ]
    ]
    wanted = trial_rows.Wanted(source="mlp", goal=choose.Goal(), family=3)
    found = trial_rows.winners_of(rows, wanted)  # 8 us is slower than 7, and worse.
    assert [row["latency_us"] for row in found] == [9, 5, 1]


_QUALITY = {"float32": {"quality": 0.9}, "int8": {"quality": 0.89}}


def _chosen(built, wanted, factors, base=_QUALITY):
    """Candidates where a recipe's cuts take `factor` times what is predicted."""
    damage = np.tile([0.1, 0.2, 0.4], (len(built.groups), 1))

    def timed(way):
        factor = factors[way[0].choice.recipe]
        return lambda cost: dataclasses.replace(
            cost, latency_us=factor * cost.latency_us
        )

    return candidates.choose_candidates(
        wanted, built, damage=damage, base=base, timed=timed
    )


def test_a_recipe_that_is_slower_at_every_width_is_not_tried(parts):
    *_, built = parts
    wanted = trial_rows.Wanted(source="m", goal=choose.Goal(), family=3)
    # As predicted INT8 takes half of the time.
    found, skipped = _chosen(built, wanted, {"float32": 1.0, "int8": 1.0})
    assert {row["recipe"] for row in found} == {"float32", "int8"}
    assert skipped == {}
    found, skipped = _chosen(built, wanted, {"float32": 1.0, "int8": 2.5})
    assert {row["recipe"] for row in found} == {"float32"}
    assert skipped == {"int8": "float32 is as good and faster at every width"}
    # Where sizes count INT8 has its uses.
    small = dataclasses.replace(wanted, goal=choose.Goal(max_size_bytes=9_000))
    found, skipped = _chosen(built, small, {"float32": 1.0, "int8": 2.5})
    assert "int8" in {row["recipe"] for row in found} and skipped == {}
    # INT8 is faster here, but useless.
    base = {**_QUALITY, "int8": {"quality": 0.5}}
    found, skipped = _chosen(built, wanted, {"float32": 1.0, "int8": 1.0}, base)
    assert {row["recipe"] for row in found} == {"float32"}
    assert skipped == {"int8": "the whole model loses too much by it"}


def test_damage_is_the_error_of_the_masked_model(parts):
    model, channels, scores, built = parts
    inputs = np.random.default_rng(0).random((8, 12, 12, 3), np.float32)
    found = sensitivity.measure_damage(
        channels,
        scores,
        space=built,
        inputs=[inputs],
        kind="tf_keras",
        divisor=space.DIVISOR,
    )
    truth = model.predict(inputs, verbose=0)
    for row, name in enumerate(built.groups):
        keep = space.keep_one(channels, scores, group=name, ratio=built.ratios[0])
        masked = surgery.mask_channels(channels.graph, keep, channels=channels)
        output = graph_keras.write(masked, "tf_keras").predict(inputs, verbose=0)
        expected = np.square(truth - output).sum() / np.square(truth).sum()
        assert found[row, 0] == pytest.approx(min(expected, 2.0), rel=1e-3, abs=1e-6)
    assert (np.diff(found, axis=1) >= 0).all()
    assert np.allclose(model.predict(inputs, verbose=0), truth)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_latency", "5ms", 5000.0),
        ("max_latency", "800 us", 800.0),
        ("max_latency", "0.1s", 1e5),
        ("max_size", "500kB", 5e5),
        ("max_size", "12345", 12345.0),
        ("max_macs", "20M", 2e7),
        ("max_memory", "1.5MB", 1.5e6),
        ("max_macs", None, None),
    ],
)
def test_amounts(name, text, value):
    assert optimize.amount(name, text) == value


@pytest.mark.parametrize("text", ["5", "ms", "-5ms", "5 parsecs", "0ms", "1.2.3ms", ""])
def test_amounts_that_are_none(text):
    with pytest.raises(errors.ConfigError, match="--max_latency must be an amount"):
        optimize.amount("max_latency", text)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "No budget is given"),
        (["--max_latency=fast"], "must be an amount such as 5ms"),
        (["--workers=0", "--family=2"], "--workers must be at least 1"),
    ],
)
def test_what_was_typed_wrong(capsys, tmp_path, flags, text):
    pytest.importorskip("optuna")
    assert optimize.main(["x", "mlp", f"--out={tmp_path}", *flags]) == 2
    assert text in capsys.readouterr().err


def test_without_optuna_there_is_one_line(tmp_path):
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from tfslim import optimize\n"
        "sys.exit(optimize.main(['x', 'mlp', '--max_latency=1ms']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'tfslim[search]'" in line


_WORKER = """
import sys, time
from pathlib import Path
from tfslim.search import study
log = Path(sys.argv[2])
def evaluate(candidate):
    with log.open("a") as file:
        file.write(f"{candidate['name']} {sys.argv[3]}\\n")
    time.sleep(candidate["secs"])
    return candidate["quality"], candidate["us"], {"by": sys.argv[3]}
study.Study(sys.argv[1]).run(evaluate)
"""


def _workers(names, url, log):
    code = [sys.executable, "-c", _WORKER, url, str(log)]
    environment = {**os.environ, "PYTHONPATH": str(Path(optimize.__file__).parents[1])}
    environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    return [subprocess.Popen([*code, name], env=environment) for name in names]


def _candidates(count, secs):
    return [
        {"name": f"c{n}", "secs": secs, "quality": n / 10, "us": 100.0 - n}
        for n in range(count)
    ]


def test_trials_of_a_study_are_those_that_were_added(tmp_path):
    pytest.importorskip("optuna")
    from tfslim.search import study

    url = study.sqlite_url(tmp_path / "s.db")
    one = study.Study(url)
    one.add(_candidates(3, 0))
    one.add(_candidates(4, 0))  # Those that are known are not tried twice.

    def evaluate(candidate):
        if candidate["name"] == "c1":
            raise errors.TrainingError("it diverged")
        return candidate["quality"], candidate["us"], {"size_bytes": 5}

    one.run(evaluate)
    rows = study.Study(url).results()
    assert [row["candidate"]["name"] for row in rows] == ["c0", "c2", "c3"]
    assert [row["quality"] for row in rows] == [0.0, 0.2, 0.3]
    assert {row["size_bytes"] for row in rows} == {5}
    assert study.Study(url).failures() == {"c1": "it diverged"}


@pytest.mark.slow
def test_no_trial_is_taken_twice(tmp_path):
    pytest.importorskip("optuna")
    from tfslim.search import study

    url, log = study.sqlite_url(tmp_path / "s.db"), tmp_path / "log"
    study.Study(url).add(_candidates(40, 0.0))
    workers = _workers("ABC", url, log)
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    started = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(started) == sorted(f"c{n}" for n in range(40))
    assert len(study.Study(url).results()) == 40


def test_a_database_that_is_not_there():
    pytest.importorskip("optuna")
    from tfslim.search import study

    with pytest.raises(errors.ConfigError, match="cannot be opened"):
        study.Study("sqlite:////no/such/folder/s.db")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path):
    pytest.importorskip("optuna")
    from tfslim.search import study

    url, log = study.sqlite_url(tmp_path / "s.db"), tmp_path / "log"
    study.Study(url).add(_candidates(6, 1.5))
    workers = _workers("AB", url, log)
    end = time.monotonic() + 120
    # Until A has finished one trial and is in the middle of its second.
    while time.monotonic() < end:
        lines = log.read_text().splitlines() if log.exists() else []
        own = [line.split()[0] for line in lines if line.endswith(" A")]
        if len(own) >= 2:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    finished = {row["candidate"]["name"] for row in study.Study(url).results()}
    assert own[0] in finished and own[1] not in finished
    assert workers[1].wait(timeout=120) == 0
    rows = study.Study(url).results()
    assert {row["candidate"]["name"] for row in rows} == {f"c{n}" for n in range(6)}
    by = {row["candidate"]["name"]: row["by"] for row in rows}
    assert by[own[0]] == "A"  # Finished before the kill, and not done again.
    assert by[own[1]] == "B"
    started = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(started) == sorted([*(f"c{n}" for n in range(6)), own[1]])
