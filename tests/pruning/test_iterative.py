"""Iterative pruning: schedules by hand, limits of accuracy, and kills."""

import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tests.graph import models
from tfslim import benchmark, errors, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.training import FitOptions

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
# Both Keras, too slow for every day.
ONE = pytest.mark.parametrize(
    "k",
    [tf_keras, pytest.param(keras, marks=pytest.mark.slow)],
    ids=["tf_keras", "keras"],
)


def _mlp(k, widths=(64, 32), classes=4):
    x = y = k.Input((16,), name="x")
    for number, width in enumerate(widths):
        y = k.layers.Dense(width, activation="relu", name=f"hidden{number}")(y)
    y = k.layers.Dense(classes, activation="softmax", name="head")(y)
    return models.randomize(k.Model(x, y))


def _nothing(model):
    """A fine-tuning that leaves the model as it is."""


def _widths(model):
    return [layer.units for layer in model.layers if "hidden" in layer.name]


def _steps(model):
    """Runs rounds without training and returns the widths after each of them."""
    seen = []
    return seen, lambda cut: seen.append(_widths(cut))


# Hidden layers of 64 and 32; shares of the original, worked out by hand.
_SCHEDULES = {
    # Gone after each round: 30%, 60%; 64 * 0.7 = 44.8 and 32 * 0.7 = 22.4, rounded up.
    ("linear", 0.6, 2): [[45, 23], [26, 13]],
    # 1 - 0.25^(1/2) = 50%, then 75%.
    ("geometric", 0.75, 2): [[32, 16], [16, 8]],
    # 0.8 (1 - (1/2)^3) = 70%, then 80%; rounded up.
    ("cubic", 0.8, 2): [[20, 10], [13, 7]],
}


@pytest.mark.parametrize("case", _SCHEDULES, ids=str)
@BOTH
def test_ratios_are_those_of_the_schedule(k, case):
    curve, ratio, steps = case
    model = _mlp(k)
    seen, fine_tune = _steps(model)
    smaller, report = tfslim.prune_iteratively(
        model,
        fine_tune,
        budget=tfslim.Budget(pruning_ratio=ratio, divisor=1),
        steps=steps,
        curve=curve,
    )
    assert seen == _SCHEDULES[case]
    assert isinstance(smaller, k.Model) and _widths(smaller) == seen[-1]
    assert report.stopped == "the target is reached"
    assert [r.params for r in report.steps][-1] == smaller.count_params()
    assert report.steps[-1].pruning_ratio == pytest.approx(1 - sum(seen[-1]) / 96)
    assert report.before.params == model.count_params()


def test_the_divisor_does_not_swallow_small_steps():
    """64 by 16s in three steps of 25%: every round is rounded from the original."""
    model = _mlp(tf_keras)
    seen, fine_tune = _steps(model)
    tfslim.prune_iteratively(
        model, fine_tune, pruning_ratio=0.75, steps=3, curve="linear"
    )
    assert seen == [[48, 32], [32, 16], [16, 16]]


def test_a_round_that_cuts_nothing_is_not_trained():
    model = _mlp(tf_keras, widths=(32, 32))
    seen, fine_tune = _steps(model)
    _, report = tfslim.prune_iteratively(
        model, fine_tune, pruning_ratio=0.5, steps=4, curve="linear"
    )
    # By 16s: 28, 24, 20 are rounded up to 32.
    assert seen == [[16, 16]]
    assert [r.pruning_ratio for r in report.steps] == [0.0, 0.0, 0.0, 0.5]
    assert report.stopped == "the target is reached"


def test_a_target_that_the_divisor_forbids_is_not_called_reached():
    model = _mlp(tf_keras, widths=(64, 16))
    smaller, report = tfslim.prune_iteratively(
        model, _nothing, pruning_ratio=0.5, steps=2
    )
    assert _widths(smaller) == [32, 16]
    assert "with 40.0% of the channels removed, not 50.0%" in report.stopped
    assert "divisor=16" in report.stopped


def test_data_may_be_a_pair_of_arrays():
    x, y = np.ones((8, 16), np.float32), np.zeros(8, int)
    done = []
    for data in ((x, y), [(x, y)]):
        model = _mlp(tf_keras)
        smaller, _ = tfslim.prune_iteratively(
            model,
            _nothing,
            pruning_ratio=0.5,
            steps=1,
            criterion="taylor",
            data=data,
            loss="sparse_categorical_crossentropy",
        )
        done.append(_widths(smaller))
    assert done[0] == done[1] == [32, 16]


def test_the_result_is_that_of_one_cut_where_nothing_is_trained():
    model = _mlp(tf_keras)
    target = tfslim.Budget(pruning_ratio=0.5, divisor=1)
    smaller, _ = tfslim.prune_iteratively(model, _nothing, budget=target, steps=4)
    assert _widths(smaller) == _widths(tfslim.prune_channels(model, budget=target)[0])


def test_global_ratios_and_patterns():
    model = _mlp(tf_keras)
    target = tfslim.Budget(pruning_ratio=0.5, scope="global", divisor=1)
    smaller, report = tfslim.prune_iteratively(model, _nothing, budget=target, steps=3)
    assert sum(_widths(smaller)) == 48
    ratios = [round(r.pruning_ratio, 2) for r in report.steps]
    # 1 - 0.5^(1/3), 1 - 0.5^(2/3), 0.5.
    np.testing.assert_allclose(ratios, [0.2, 0.37, 0.5], atol=0.011)
    for scope in ("uniform", "global"):
        target = tfslim.Budget(ratios={"hidden1": 0.5}, scope=scope, divisor=1)
        smaller, _ = tfslim.prune_iteratively(model, _nothing, budget=target, steps=2)
        assert _widths(smaller) == [64, 16]
    with pytest.raises(errors.ConfigError, match="Did you mean 'hidden1'"):
        target = tfslim.Budget(ratios={"hiden1": 0.5})
        tfslim.prune_iteratively(model, _nothing, budget=target)


@pytest.mark.parametrize("limit", ["max_macs", "max_params"])
def test_limits_are_split_by_what_they_save(limit):
    model = _mlp(tf_keras)
    kind = limit.removeprefix("max_")
    whole = getattr(count.count(graph_keras.read(model)), kind)
    target = tfslim.Budget(**{limit: 0.4 * whole}, divisor=1)
    _, report = tfslim.prune_iteratively(
        model, _nothing, budget=target, steps=3, curve="linear"
    )
    left = [getattr(row, kind) / whole for row in report.steps]
    # 60% to save in three equal steps; a round may end a little below its limit.
    for found, wanted in zip(left, (0.8, 0.6, 0.4), strict=True):
        assert wanted - 0.05 < found <= wanted
    assert report.steps[-1].cost == getattr(report.steps[-1], kind)


def test_a_measured_cost_is_a_target():
    """A stand-in for latency: 10 us, and 1 us a unit of the first layer."""

    def microseconds(graph):
        model = graph_keras.write(graph, "tf_keras")
        return 10.0 + model.get_layer("hidden0").units

    target = tfslim.Budget(max_cost=42.0, cost=microseconds, divisor=1)
    smaller, report = tfslim.prune_iteratively(
        _mlp(tf_keras), _nothing, budget=target, steps=2, curve="linear"
    )
    # From 74 by 58 to 42 microseconds.
    assert [r.cost for r in report.steps] == [58.0, 42.0]
    assert _widths(smaller)[0] == 32


def test_a_target_out_of_reach_is_known_before_any_training():
    calls = []
    with pytest.raises(errors.ConfigError, match="cannot be met"):
        tfslim.prune_iteratively(
            _mlp(tf_keras), calls.append, budget=tfslim.Budget(max_params=10)
        )
    assert not calls


def test_max_drop_keeps_the_last_good_model():
    metrics = {96: 0.9, 72: 0.89, 48: 0.86, 24: 0.5}
    kept = []

    def fine_tune(model):
        kept.append(model)

    model, report = tfslim.prune_iteratively(
        _mlp(tf_keras),
        fine_tune,
        budget=tfslim.Budget(pruning_ratio=0.75, divisor=1),
        steps=3,
        curve="linear",
        evaluate=lambda m: metrics[sum(_widths(m))],
        max_drop=0.05,
    )
    assert sum(_widths(model)) == 48
    for one, other in zip(model.get_weights(), kept[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [r.is_kept for r in report.steps] == [True, True, False]
    assert [r.metric for r in report.steps] == [0.89, 0.86, 0.5]
    assert "step 3 made the metric 0.4 worse" in report.stopped
    assert "(not kept)" in str(report) and "0.86" in str(report)


def test_max_drop_of_a_loss_and_of_nan():
    for metric in (3.0, float("nan")):
        _, report = tfslim.prune_iteratively(
            _mlp(tf_keras),
            _nothing,
            budget=tfslim.Budget(pruning_ratio=0.5, divisor=1),
            evaluate=lambda m, worse=metric: 1.0 if sum(_widths(m)) == 96 else worse,
            higher_is_better=False,
            max_drop=1.5,
        )
        assert len(report.steps) == 1 and not report.steps[0].is_kept


def test_the_evaluation_needs_something_to_measure():
    with pytest.raises(errors.ConfigError, match="max_drop needs a metric"):
        tfslim.prune_iteratively(
            _mlp(tf_keras), _nothing, pruning_ratio=0.5, max_drop=0.1
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pruning_ratio"),
        ({"pruning_ratio": 0.5, "steps": 0}, "steps"),
        ({"pruning_ratio": 0.5, "steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"pruning_ratio": 0.5, "curve": "square"}, "curve"),
        ({"pruning_ratio": 0.5, "criteria": "l1"}, "Did you mean 'criterion'"),
        ({"pruning_ratio": 0.5, "fold": "some"}, "fold"),
        ({"pruning_ratio": 1.0}, "pruning_ratio"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.prune_iteratively(_mlp(tf_keras), _nothing, **options)
    with pytest.raises(errors.ConfigError, match="fine_tune is None"):
        tfslim.prune_iteratively(_mlp(tf_keras), None, pruning_ratio=0.5)


def _digits():
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int64")


def _digits_model(k):
    k.utils.set_random_seed(0)
    x = k.Input((64,))
    y = k.layers.Dense(64, activation="relu", name="hidden0")(x)
    y = k.layers.Dense(64, activation="relu", name="hidden1")(y)
    return k.Model(x, k.layers.Dense(10, activation="softmax")(y))


def _training(**options):
    x, y = _digits()
    options = FitOptions(learning_rate=0.005, **options)
    return tfslim.Training(
        train=(x[:1300], y[:1300]), validation=(x[1300:], y[1300:]), options=options
    )


@pytest.mark.slow
@ONE
def test_a_real_training_keeps_the_accuracy(k):
    training = _training(epochs=6)
    model = training(_digits_model(k))
    before = training.metric(model)
    assert before > 0.9
    smaller, report = tfslim.prune_iteratively(
        model,
        training,
        budget=tfslim.Budget(max_macs=3000, divisor=1),
        steps=2,
        max_drop=0.03,
    )
    assert isinstance(smaller, k.Model)
    assert count.count(graph_keras.read(smaller)).macs <= 3000 < 8832
    x, y = training.validation
    accuracy = tasks.accuracy(np.asarray(smaller(x)), y)
    assert report.metric_before == pytest.approx(before)
    assert report.steps[-1].metric == pytest.approx(accuracy)
    assert accuracy >= before - 0.03
    # One cut to the same size without training in between is much worse.
    cut, _ = tfslim.prune_channels(
        model, budget=tfslim.Budget(max_macs=3000, divisor=1)
    )
    assert tasks.accuracy(np.asarray(cut(x)), y) < accuracy


@ONE
def test_a_killed_job_goes_on_with_the_round_that_was_not_finished(k, tmp_path):
    model, folder = _mlp(k), tmp_path / "rounds"
    options = {
        "budget": tfslim.Budget(pruning_ratio=0.75, divisor=1),
        "steps": 3,
        "curve": "linear",
        "evaluate": lambda m: float(sum(_widths(m))),
        "max_drop": 1000.0,
    }
    rounds = []

    def shrink(cut):
        """A training that changes weights and can be told from none."""
        rounds.append(sum(_widths(cut)))
        cut.set_weights([0.9 * weight for weight in cut.get_weights()])

    def killed(cut):
        if len(rounds) == 2:
            raise KeyboardInterrupt
        shrink(cut)

    with pytest.raises(KeyboardInterrupt):
        tfslim.prune_iteratively(model, killed, backup_dir=folder, **options)
    assert rounds == [72, 48]
    resumed, report = tfslim.prune_iteratively(
        model, shrink, backup_dir=folder, **options
    )
    assert rounds == [72, 48, 24] and not folder.exists()
    assert [r.metric for r in report.steps] == [72.0, 48.0, 24.0]
    assert report.metric_before == 96.0
    whole, plain = tfslim.prune_iteratively(model, shrink, **options)
    assert plain == report
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


_KILLED_JOB = """
import os, signal, sys
import numpy as np
import tf_keras
import tfslim
from tfslim.training import FitOptions

tf_keras.utils.set_random_seed(0)
x = tf_keras.Input((8,))
y = tf_keras.layers.Dense(32, activation="relu")(x)
model = tf_keras.Model(x, tf_keras.layers.Dense(2, activation="softmax")(y))
random = np.random.default_rng(0)
data = random.normal(size=(64, 8)).astype("float32"), random.integers(0, 2, 64)
training = tfslim.Training(train=data, options=FitOptions(epochs=2))
rounds = 0

def fine_tune(model):
    global rounds
    rounds += 1
    training(model)
    if rounds == 2 and sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

smaller, report = tfslim.prune_iteratively(
    model, fine_tune, steps=3, backup_dir=sys.argv[1],
    budget=tfslim.Budget(pruning_ratio=0.75, divisor=1),
)
np.savez(sys.argv[3], *smaller.get_weights(), rounds=rounds)
"""


@pytest.mark.slow
def test_a_job_that_is_killed_ends_as_one_that_is_not(tmp_path):
    def job(folder, how, result):
        command = [sys.executable, "-c", _KILLED_JOB, folder, how, result]
        return subprocess.run(command, capture_output=True, check=False).returncode

    whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
    assert job(tmp_path / "a", "live", whole) == 0
    assert job(tmp_path / "b", "kill", resumed) == -signal.SIGKILL
    assert not resumed.exists()
    assert job(tmp_path / "b", "live", resumed) == 0
    with np.load(whole) as one, np.load(resumed) as other:
        assert int(one["rounds"]) == 3 and int(other["rounds"]) == 2
        for name in set(one.files) - {"rounds"}:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_a_latency_measured_on_the_host_is_a_target():
    model = _mlp(tf_keras, widths=(2048, 2048))

    def microseconds(graph):
        file = tfslim.convert_model(graph_keras.write(graph, "tf_keras")).tflite
        options = benchmark.Options(num_runs=20)
        return benchmark.run_host({"cut": file}, options)[0].latency.p50

    before = microseconds(graph_keras.read(model))
    target = tfslim.Budget(max_cost=before / 2, cost=microseconds)
    smaller, report = tfslim.prune_iteratively(model, _nothing, budget=target, steps=1)
    assert smaller.count_params() < 0.8 * model.count_params()
    # Measured again, on a machine that does other things too.
    assert report.steps[0].cost < 0.8 * before


@pytest.mark.slow
def test_a_training_goes_on_inside_a_killed_round(tmp_path):
    x, y = _digits()
    batches = tf.data.Dataset.from_tensor_slices((x[:128], y[:128])).batch(32)
    read, dies_at = [], [12 + 6]

    def look(inputs):
        read.append(1)
        if len(read) == dies_at[0]:
            raise RuntimeError("power cut")
        return inputs

    def epoch(number):
        return batches.map(
            lambda a, b: (
                tf.ensure_shape(tf.numpy_function(look, [a], tf.float32), [None, 64]),
                b,
            )
        )

    training = tfslim.Training(train=epoch, options=FitOptions(epochs=3))
    model = _digits_model(tf_keras)
    options = {
        "budget": tfslim.Budget(pruning_ratio=0.5, divisor=1),
        "steps": 3,
        "backup_dir": tmp_path / "job",
    }
    with pytest.raises(tf.errors.OpError, match="power cut"):
        tfslim.prune_iteratively(model, training, **options)
    read.clear()
    dies_at[0] = -1
    resumed, _ = tfslim.prune_iteratively(model, training, **options)
    # Of round 2 the last two epochs, and round 3: 4 batches an epoch.
    assert len(read) == 8 + 12
    options["backup_dir"] = None
    whole, _ = tfslim.prune_iteratively(model, training, **options)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def _interrupted(folder, model, **options):
    def killed(cut):
        if sum(_widths(cut)) < 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tfslim.prune_iteratively(model, killed, steps=2, backup_dir=folder, **options)


def test_the_rounds_of_another_job_are_refused(tmp_path):
    model = _mlp(tf_keras)
    target = tfslim.Budget(pruning_ratio=0.5, divisor=1)
    _interrupted(tmp_path, model, budget=target)
    other = _mlp(tf_keras)
    other.set_weights([2 * w for w in other.get_weights()])
    with pytest.raises(errors.ConfigError, match="different model"):
        tfslim.prune_iteratively(
            other, _nothing, steps=2, backup_dir=tmp_path, budget=target
        )
    with pytest.raises(errors.ConfigError, match="different steps"):
        tfslim.prune_iteratively(
            model, _nothing, steps=3, backup_dir=tmp_path, budget=target
        )
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        tfslim.prune_iteratively(
            model, _nothing, steps=2, backup_dir=tmp_path, budget=target
        )


def test_other_files_in_the_backup_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model = _mlp(tf_keras)
    tfslim.prune_iteratively(model, _nothing, pruning_ratio=0.5, backup_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_was_measured_before_a_kill_is_not_measured_again(tmp_path):
    """Noise that changes from run to run does not undo finished rounds."""
    model, noise = _mlp(tf_keras), [1.0]

    def microseconds(graph):
        return count.count(graph).macs * noise[0]

    target = tfslim.Budget(
        max_cost=microseconds(graph_keras.read(model)) / 4, cost=microseconds, divisor=1
    )
    _interrupted(tmp_path, model, budget=target, evaluate=lambda m: noise[0])
    noise[0] = 0.7
    seen = []
    smaller, report = tfslim.prune_iteratively(
        model,
        lambda cut: seen.append(sum(_widths(cut))),
        steps=2,
        backup_dir=tmp_path,
        budget=target,
        evaluate=lambda m: noise[0],
    )
    assert seen == [sum(_widths(smaller))] and len(report.steps) == 2
    assert (report.metric_before, report.steps[0].metric) == (1.0, 1.0)
    assert report.steps[0].cost == report.steps[0].macs
    assert report.steps[1].cost == report.steps[1].macs * 0.7


@pytest.mark.parametrize(
    "target",
    [tfslim.Budget(pruning_ratio=0.5), tfslim.Budget(ratios={"hidden*": 0.5})],
)
def test_rounds_end_where_one_cut_would(target):
    """64 units, half of them in two steps of 16s: 64, 48, 32 and not 64, 48, 48."""
    current = _mlp(tf_keras, widths=(64, 64))
    now = channels_lib.analyze(graph_keras.read(current))
    rounds = StepBudgets(now, target, steps=2, curve="geometric")
    for step in range(2):
        part = rounds.budget(step, now, {"hidden0", "hidden1"})
        current, _ = tfslim.prune_channels(current, budget=part)
        now = channels_lib.analyze(graph_keras.read(current))
    assert sum(len(group) for group in now.groups) == 64


def test_rounds_after_an_uneven_cut_catch_up():
    """What one round left too wide, the next one makes good."""
    graph = graph_keras.read(_mlp(tf_keras))
    channels = channels_lib.analyze(graph)
    target = tfslim.Budget(pruning_ratio=0.5, divisor=1)
    rounds = StepBudgets(channels, target, steps=2, curve="linear")
    first = rounds.budget(0, channels, {"hidden0", "hidden1"})
    assert first.ratios == {"hidden0": 0.25, "hidden1": 0.25}
    # Nothing was cut: the second round alone has to do all.
    second = rounds.budget(1, channels, {"hidden0"})
    assert second.ratios == {"hidden0": 0.5}
