"""Single layers: overrides, which one hurts, and the way back to float."""

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tasks, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import (
    AccurateResult,
    Improver,
    Options,
    calibrate,
    fall_back,
    rank_layers,
)
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.repair import bias

SHAPE = (1, 12, 12, 3)


def images(count=30, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


@pytest.fixture(scope="module")
def wounded(residual_keras):
    """The residual network with one layer that INT8 per tensor cannot hold."""
    import tf_keras

    model = tf_keras.models.clone_model(residual_keras)
    model.set_weights(residual_keras.get_weights())
    depthwise, project = model.get_layer("depthwise"), model.get_layer("project")
    # ReLU lets a channel be scaled up before and down after it: the same function.
    kernel, bias = depthwise.get_weights()
    scale = np.ones(8, np.float32)
    scale[0] = 3000
    depthwise.set_weights([kernel * scale[:, None], bias * scale])
    kernel, bias = project.get_weights()
    project.set_weights([kernel / scale[:, None], bias])
    return small_models.convert(model)


def started(model, ranges):
    """The file with all layers quantized, nothing repaired."""
    return AccurateResult(quantize_tflite(model, "int8", ranges=ranges), model)


def dtypes(model):
    content = tflite.read(model)
    names = LayerNames(content)
    return {
        names.first(op): content.tensors[op.outputs[0]].dtype
        for op in content.ops
        if op.name not in ("QUANTIZE", "DEQUANTIZE")
    }


def test_named_layers_stay_float_and_the_report_says_so(residual):
    done = quantize_tflite(
        residual, "int8", samples=images(), layers={"dep*": "float32"}
    )
    found = dtypes(done.tflite)
    assert found["depthwise"] == "float32"
    assert found["stem"] == found["project"] == "int8"
    (row,) = [r for r in done.kept_float if r.op == "DEPTHWISE_CONV_2D"]
    assert row.reason == "It was asked to be."
    xs = images(seed=1)
    truth, out = (compare_files.outputs(m, xs)[0] for m in (residual, done.tflite))
    assert tasks.sqnr_db(truth, out) > 25


def test_a_layer_may_take_another_recipe(residual):
    plain = quantize_tflite(residual, "dynamic_int8")
    mixed = quantize_tflite(residual, "dynamic_int8", layers={"stem": "float16"})
    weights = {tflite.read(m.tflite).ops[0].name: m for m in (plain, mixed)}
    assert len(weights) == 2  # The float16 stem begins with a DEQUANTIZE.


def test_a_wrong_layer_or_recipe_says_so(residual):
    xs = images()
    with pytest.raises(errors.ConfigError, match="Did you mean 'depthwise'"):
        quantize_tflite(residual, "int8", samples=xs, layers={"depthwse": "float32"})
    with pytest.raises(errors.ConfigError, match="Did you mean 'float32'"):
        quantize_tflite(residual, "int8", samples=xs, layers={"stem": "float31"})


def test_the_wounded_layer_ranks_worst(wounded):
    rows = rank_layers(wounded, calibrate(wounded, images()), samples=images(seed=1))
    assert rows[0].layer in ("depthwise", "project")
    assert rows[0].sqnr_db < rows[-1].sqnr_db - 6
    assert [r.sqnr_db for r in rows] == sorted(r.sqnr_db for r in rows)
    assert {"stem", "depthwise", "project", "add", "logits"} <= {r.layer for r in rows}


def test_a_row_is_what_quantizing_that_layer_alone_measures(residual):
    ranges = calibrate(residual, images())
    xs = images(seed=1)
    (row,) = [
        r for r in rank_layers(residual, ranges, samples=xs) if r.layer == "project"
    ]
    others = ["stem", "depthwise", "add", "mean", "logits"]
    alone = quantize_tflite(
        residual, "int8", ranges=ranges, layers=dict.fromkeys(others, "float32")
    )
    measured = small_models.worst_column_db(
        *(compare_files.outputs(m, xs)[0] for m in (residual, alone.tflite))
    )
    assert row.sqnr_db == pytest.approx(measured, abs=1e-3)


def test_falling_back_reaches_the_metric_with_the_fewest_layers(wounded):
    ranges = calibrate(wounded, images())
    xs = images(seed=1)
    truth = compare_files.outputs(wounded, xs)[0]

    def evaluate(model):
        return tasks.sqnr_db(truth, compare_files.outputs(model, xs)[0])

    ranking = rank_layers(wounded, ranges, samples=xs)
    before = evaluate(quantize_tflite(wounded, "int8", ranges=ranges).tflite)
    wanted = before + 6
    found = fall_back(
        started(wounded, ranges), ranking, evaluate=evaluate, least=wanted
    )
    assert found.is_met
    assert 1 < len(found.steps) <= 4
    assert found.steps[0].metric == before
    assert found.steps[-1].metric == evaluate(found.accurate.quantized.tflite) >= wanted
    assert found.steps[-1].size_bytes == len(found.accurate.quantized.tflite)
    assert all(step.metric < wanted for step in found.steps[:-1])


def test_falling_back_keeps_a_correction_only_where_it_helps(wounded, monkeypatch):
    ranges = calibrate(wounded, images())
    xs = images(seed=1)
    truth = compare_files.outputs(wounded, xs)[0]

    def evaluate(model):
        return tasks.sqnr_db(truth, compare_files.outputs(model, xs)[0])

    ranking = rank_layers(wounded, ranges, samples=xs)[:1]
    options = {"evaluate": evaluate, "least": 200.0}
    start = started(wounded, ranges)
    plain = fall_back(start, ranking, **options)
    improver = Improver(
        wounded, images(), options=Options(rounding="nearest", bias_correction="full")
    )
    helped = fall_back(start, ranking, improver=improver, **options)
    assert helped.steps[0].metric > plain.steps[0].metric + 1

    def ruin(quantized, model, **unused):
        layers = {"logits": "float32"}
        half = {
            name: (low / 4, high / 4) for name, (low, high) in ranges.ranges.items()
        }
        return quantize_tflite(model, ranges=half, layers=layers).tflite, [None]

    monkeypatch.setattr(bias, "correct_biases", ruin)
    spared = fall_back(start, ranking, improver=improver, **options)
    assert [s.metric for s in spared.steps] == [s.metric for s in plain.steps]


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_falling_back_to_integers_at_the_ends(wounded, io):
    ranges = calibrate(wounded, images())
    ranking = rank_layers(wounded, ranges, samples=images(8))
    done = [
        fall_back(
            started(wounded, ranges),
            ranking,
            evaluate=lambda model: 0.0 if tflite.read(model).ops else 1.0,
            least=-1.0,
            improver=Improver(wounded, images()),
            options=Options(io=kind),
        ).accurate.quantized.tflite
        for kind in ("float", io)
    ]
    assert {t.dtype for t in tflite.read(done[1]).inputs} == {io}
    weights = [
        {t.raw.tobytes() for t in tflite.read(file).tensors if t.is_constant}
        for file in done
    ]
    assert weights[0] == weights[1]


def test_what_cannot_be_met_ends_with_all_in_float(residual):
    ranges = calibrate(residual, images())
    ranking = rank_layers(residual, ranges, samples=images(4))
    found = fall_back(
        started(residual, ranges), ranking, evaluate=lambda model: 0.0, least=1.0
    )
    assert not found.is_met
    assert len(found.steps) == len(ranking) + 1
    assert set(dtypes(found.accurate.quantized.tflite).values()) == {"float32"}
