"""Methods end to end: ranges chosen, compared, kept and used again."""

import json

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tasks, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import calibrate, method_names, read_ranges, write_ranges
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.ranges import auto
from tfslim.quantization.ranges.calibration import logits
from tfslim.quantization.ranges.collect import activations

SHAPE = (1, 12, 12, 3)


def images(count=40, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


def outputs(model, xs):
    return compare_files.outputs(model, xs)[0]


@pytest.mark.parametrize("method", method_names())
def test_every_method_calibrates(residual, method):
    result = quantize_tflite(residual, "int8", samples=images(), calibration=method)
    assert result.calibration.method == method
    names = {t.name for t in activations(tflite.read(residual).graphs[0])}
    assert result.calibration.tensors.keys() == names
    true = calibrate(residual, images()).ranges
    for name, (low, high) in result.calibration.ranges.items():
        assert true[name][0] <= low <= high <= true[name][1]


def test_hot_pixels_hurt_min_max_and_not_the_others():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input((64, 64, 3), batch_size=1)
    x = layers.Conv2D(8, 3, 2, activation="relu", bias_initializer="normal")(x)
    x = layers.Conv2D(8, 3, 2, activation="relu", bias_initializer="normal")(x)
    model = small_models.convert(tf_keras.Model(inputs, layers.Conv2D(4, 3)(x)))
    xs = small_models.samples((1, 64, 64, 3), count=120)
    held_out = small_models.samples((1, 64, 64, 3), count=20, seed=1)
    for x in xs[::10]:  # A tenth of the photos have a hot corner.
        x[0, :6, :6] *= 60
    truth = outputs(model, held_out)
    noise = {}
    for method in ("minmax", "kl", "auto"):
        done = quantize_tflite(model, "int8", samples=xs, calibration=method)
        noise[method] = tasks.sqnr_db(truth, outputs(done.tflite, held_out))
    assert noise["kl"] > noise["minmax"] + 6
    assert noise["auto"] > noise["minmax"] + 10


def test_outputs_and_logits_are_spared(residual, mobile):
    graph = tflite.read(mobile).graphs[0]
    softmax = graph.ops[-1]
    assert softmax.name == "SOFTMAX"
    expected = {graph.tensors[softmax.inputs[0]].name, graph.outputs[0].name}
    assert logits(graph) == expected
    xs = images()
    true = calibrate(residual, xs).ranges
    clipped = calibrate(residual, xs, method="mse").ranges
    name = tflite.read(residual).outputs[0].name
    assert clipped[name] == true[name]
    assert clipped != true


def test_auto_compares_on_samples_it_held_out(residual):
    seen = []

    def stream():
        for x in images(163):
            seen.append(x)
            yield x

    done = calibrate(residual, stream(), method="auto")
    assert len(seen) == 163
    assert done.num_samples == 163
    methods = [trial.method for trial in done.trials]
    assert set(auto.METHODS) <= set(methods)
    rows = [trial.sqnr_db for trial in done.trials]
    assert rows == sorted(rows, reverse=True)
    # The row of a method is what the file made with it measures.
    by_kl = calibrate(
        residual, [x for i, x in enumerate(seen) if i % 5 != 4], method="mse"
    )
    kept = [x for i, x in enumerate(seen) if i % 5 == 4]
    file = quantize_tflite(residual, "int8", ranges=by_kl).tflite
    measured = small_models.worst_column_db(
        outputs(residual, kept), outputs(file, kept)
    )
    (row,) = [t for t in done.trials if t.method == "mse"]
    assert row.sqnr_db == pytest.approx(measured, abs=1e-6)
    with pytest.raises(errors.ConfigError, match="fewer than 5"):
        calibrate(residual, images(4), method="auto")


def test_auto_is_never_worse_than_min_max_where_it_looked(mobile):
    xs = small_models.samples((1, 16, 16, 3), count=60)
    done = calibrate(mobile, xs, method="auto")
    rows = {trial.method: trial.sqnr_db for trial in done.trials}
    used = {t.method for t in done.tensors.values()}
    chosen = "per tensor" if len(used) > 1 else used.pop()
    assert rows[chosen] >= rows["minmax"]


def test_a_softmax_is_left_out_of_the_comparison(mobile):
    before, after = (
        tflite.read(mobile),
        tflite.read(compare_files.without_softmax(mobile)),
    )
    assert [op.name for op in after.ops] == [op.name for op in before.ops][:-1]
    x = small_models.samples((1, 16, 16, 3), count=1)[0]
    (p,), (z,) = (
        tflite.run(m, x).values()
        for m in (mobile, compare_files.without_softmax(mobile))
    )
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(), rtol=1e-5)


def test_ranges_are_kept_and_used_again(residual, tmp_path):
    first = quantize_tflite(residual, "int8", samples=images(), calibration="kl")
    path = tmp_path / "ranges.json"
    write_ranges(path, first.calibration, model=residual)
    again = quantize_tflite(residual, "int8", ranges=read_ranges(path))
    assert again.tflite == first.tflite
    rows = {row["layer"]: row for row in json.loads(path.read_text())["ranges"]}
    assert {"stem", "depthwise", "project", "add"} <= rows.keys()
    assert len(rows["stem"]["digest"]) == 16
    assert rows["stem"]["method"] == "kl"


def test_ranges_by_hand_may_name_some_tensors(residual, tmp_path):
    path = tmp_path / "mine.json"
    name = tflite.read(residual).inputs[0].name
    path.write_text(json.dumps({name: [-1, 3]}))
    done = quantize_tflite(
        residual, "int8", samples=images(), ranges=read_ranges(path), io="int8"
    )
    source = tflite.read(done.tflite).inputs[0].quantization
    assert source.scale[0] == pytest.approx(4 / 255)
    assert done.calibration.tensors[name].method == "user"
    assert {t.method for t in done.calibration.tensors.values()} == {"user", "minmax"}
    with pytest.raises(errors.ConfigError, match="is missing"):
        quantize_tflite(residual, "int8", ranges=read_ranges(path))
    with pytest.raises(errors.ConfigError, match="Unknown tensor in ranges 'nosuch'"):
        quantize_tflite(residual, "int8", samples=images(), ranges={"nosuch": (0, 1)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Cannot read ranges"),
        ("[1]", "holds no ranges"),
        ('{"t": [1]}', "holds no ranges"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "holds no ranges"),
    ],
)
def test_a_wrong_ranges_file_says_so(tmp_path, content, message):
    path = tmp_path / "ranges.json"
    path.write_text(content)
    with pytest.raises(errors.ConfigError, match=message):
        read_ranges(path)


def test_16_bits_take_the_true_range(residual):
    done = quantize_tflite(
        residual, "static_wi8_ai16", samples=images(), calibration="percentile"
    )
    assert done.calibration.method == "minmax"


def test_layer_names_are_keras(residual, residual_keras):
    content = tflite.read(residual)
    names = [LayerNames(content).first(op) for op in content.ops]
    assert names == ["stem", "depthwise", "project", "add", "mean", "logits"]


def test_auto_chooses_its_ranges_from_all_samples(residual):
    """The one sample that reaches 3 is the fifth: held out to choose the methods."""
    xs = images(40, seed=3)
    xs[4] = xs[4].copy()
    xs[4][0, 0, 0, 0] = 3.0
    auto = calibrate(residual, xs, method="auto")
    name = tflite.read(residual).inputs[0].name
    assert auto.num_samples == 40
    for tensor, found in auto.tensors.items():
        truth = calibrate(residual, xs, method=found.method).tensors[tensor]
        if found.method != "moving_average":  # Depends on the order.
            assert (found.min, found.max) == (truth.min, truth.max)
            assert (
                found.digest
                == calibrate(residual, xs, method="kl").tensors[tensor].digest
            )
    assert calibrate(residual, xs).ranges[name][1] == 3.0
