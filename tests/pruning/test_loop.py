"""The loop of pruning, with a method that cuts and trains as it is told."""

import dataclasses

import pytest
import tf_keras

from tfslim import errors
from tfslim.pruning import loop


def _model(units):
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [layers.Input((2,)), layers.Dense(units), layers.Dense(1)]
    )


def _units(model):
    return model.layers[0].units


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Step(loop.Step):
    removed: int
    epochs: int = 0


class _Halving(loop.Method):
    """Takes half of the units, until one is left or a step was undone."""

    step_type = _Step

    def __init__(self, metrics):
        self.metrics = metrics

    def cut(self, model, steps):
        left = _units(model) // 2
        if left == 0 or not all(step.is_kept for step in steps):
            return None
        figures = {"removed": _units(model) - left, "skipped": {"out": "why"}}
        return loop.Cut(model=_model(left), figures=figures, trains=left != 2)

    def train(self, model):
        return model, {"epochs": 3}

    def measure(self, model):
        return {"metric": self.metrics[_units(model)]}


def test_steps_are_cut_trained_and_judged_until_the_method_stops():
    model, steps = loop.run(_Halving({4: 0.9, 2: 0.8, 1: 0.7}), _model(8))
    assert _units(model) == 1
    assert [step.number for step in steps] == [1, 2, 3]
    assert [step.removed for step in steps] == [4, 2, 1]
    # Two units were cut without a training.
    assert [step.epochs for step in steps] == [3, 0, 3]
    # Per unit two weights, a bias and one weight of the output, whose bias is one more.
    assert [step.params for step in steps] == [4 * 4 + 1, 4 * 2 + 1, 4 + 1]
    assert [step.macs for step in steps] == [4 * 3, 2 * 3, 3]


def test_a_step_that_loses_too_much_is_undone():
    method = _Halving({4: 0.9, 2: 0.5, 1: 0.7})
    model, steps = loop.run(method, _model(8), limit=loop.Limit(1.0, 0.2))
    assert _units(model) == 4
    assert [step.is_kept for step in steps] == [True, False]
    report = loop.LoopReport(
        steps=steps, before=_counts(_model(8)), after=_counts(model)
    )
    assert report.skipped == {"out": "why"}
    assert "step 2: params 9, MACs 6, metric 0.5 (not kept)" in str(report)
    with pytest.warns(DeprecationWarning, match=r"LoopReport\.rounds is now .*\.steps"):
        assert report.rounds is steps


@pytest.mark.parametrize("metric", [None, float("nan")])
def test_what_is_not_measured_is_not_kept(metric):
    limit = loop.Limit(1.0, 0.5)
    assert not limit.allows(loop.Step(number=1, params=1, macs=1, metric=metric))


def test_a_limit_needs_a_metric():
    with pytest.raises(errors.ConfigError, match="max_drop needs a metric"):
        loop.Limit(None, 0.1)


def _counts(model):
    from tfslim.graph import count
    from tfslim.graph import keras as graph_keras

    return count.count(graph_keras.read(model))
