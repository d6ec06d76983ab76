"""Which ops stay float by a table of costs that was written by hand."""

import json

import numpy as np
import pytest
import tf_keras

from tfslim import convert, errors, quantization, tflite
from tfslim.benchmark import costs
from tfslim.pipeline import cost_split
from tfslim.quantization.rules import split

LAYERS = tf_keras.layers


@pytest.fixture(scope="module")
def model():
    x = inputs = tf_keras.Input((8, 8, 4))
    for index in range(2):
        x = LAYERS.Conv2D(8, 1, name=f"point{index}")(x)
        x = LAYERS.DepthwiseConv2D(3, padding="same", name=f"depth{index}")(x)
    x = LAYERS.Dense(3, name="head")(LAYERS.Flatten()(x))
    return convert.convert_model(tf_keras.Model(inputs, x)).tflite


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    return [random.uniform(-1, 1, (1, 8, 8, 4)).astype(np.float32) for _ in range(4)]


def _table(folder, model, samples, us):
    """Writes a table with `us(piece)` for each op of both files."""
    full = quantization.quantize_tflite(model, "int8", samples=samples).tflite
    pair = cost_split._Pair(model, full)
    table = costs.CostTable(costs.this_device(), folder)
    table.put({piece.key: costs.OpCost(us=us(piece)) for piece in pair.pieces()})
    table.save()
    return str(table.path)


def _choose(model, samples, mode, **options):
    return cost_split.choose(
        model,
        quantization.get_recipe("int8"),
        options=quantization.Options(**options),
        samples=samples,
        mode=mode,
    )


def _is_integer(piece):
    return any(t.dtype == "int8" for t in (*piece.inputs, *piece.outputs))


def test_what_is_slow_in_integers_stays_float(tmp_path, model, samples):
    def us(piece):
        if piece.op in ("QUANTIZE", "DEQUANTIZE"):
            return 1.0
        slow = piece.op == "DEPTHWISE_CONV_2D"
        return 100.0 if _is_integer(piece) == slow else 10.0

    found = _choose(model, samples, _table(tmp_path, model, samples, us))
    done = quantization.quantize_tflite(
        model, "int8", samples=samples, layers=found.layers
    ).tflite
    made = tflite.read(done)
    types = {
        op.name: made.tensors[op.outputs[0]].dtype
        for op in made.ops
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")
    }
    assert types == {"CONV_2D": "int8", "DEPTHWISE_CONV_2D": "float32"}
    reasons = set(found.reasons.values())
    assert reasons == {"Measured here: 10.0 us in float, 100.0 us in INT8."}
    predicted = found.report["predicted_us"]
    assert predicted["chosen"] < min(predicted["float"], predicted["all_int8"])
    # A prediction of the file that was made has the same ops, conversions included.
    table = costs.read_file(tmp_path / costs.this_device().file_name)
    whole = costs.predict(table, made, specs=costs.specs_of(done))
    assert not whole.unknown
    assert whole.latency_us == pytest.approx(predicted["chosen"])


def test_conversions_that_cost_more_keep_all_in_integers(tmp_path, model, samples):
    def us(piece):
        if piece.op in ("QUANTIZE", "DEQUANTIZE"):
            return 60.0
        slow = piece.op == "DEPTHWISE_CONV_2D"
        return {(True, True): 40.0, (True, False): 10.0}.get(
            (slow, _is_integer(piece)), 100.0 if not _is_integer(piece) else 10.0
        )

    found = _choose(model, samples, _table(tmp_path, model, samples, us))
    assert not found.layers
    assert found.report["float_ops_by_cost"] == 0


@pytest.mark.parametrize(
    ("integer_us", "chosen", "integers"), [(20.0, 10.0, 0), (2.0, 1 + 2 + 1, 2)]
)
def test_a_padding_is_free_only_where_its_convolution_is_of_its_kind(
    tmp_path, samples, integer_us, chosen, integers
):
    """Apart the padding takes 50 in float and 5 in integers, the convolution 10."""
    inputs = tf_keras.Input((8, 8, 4))
    x = LAYERS.ZeroPadding2D(((1, 0), (0, 2)))(inputs)  # Not as "same" would.
    x = LAYERS.Conv2D(8, 3)(x)
    model = convert.convert_model(tf_keras.Model(inputs, x)).tflite

    def us(piece):
        if piece.op == "PAD":
            return 5.0 if _is_integer(piece) else 50.0
        if piece.op == "CONV_2D":
            return integer_us if _is_integer(piece) else 10.0
        return 1.0

    path = _table(tmp_path, model, samples, us)
    found = _choose(model, samples, path)
    assert found.report["predicted_us"]["chosen"] == pytest.approx(chosen)
    assert found.report["int8_ops"] == integers
    full = quantization.quantize_tflite(model, "int8", samples=samples).tflite
    pair = cost_split._Pair(model, full)
    parts = cost_split._split_costs(pair, costs.read_file(path), io="float")
    pad, convolution = pair.graph.ops
    for kept, expected in ((pad, 50 + 1), (convolution, 1 + 5 + 1 + 10)):
        integer = {*parts.integer_us} - {kept.index}
        us = split.time_of(pair.graph, parts, integer=integer)
        rest = integer_us + 1 if kept is pad else 0  # And back to float.
        assert us == pytest.approx(expected + rest)


def test_where_integers_cannot_win_that_is_said(tmp_path, model, samples):
    path = _table(
        tmp_path, model, samples, lambda piece: 9.0 if _is_integer(piece) else 5.0
    )
    found = _choose(model, samples, path)
    assert found.report["int8_ops"] == 0
    assert "INT8 cannot win on this device" in found.notes[0]
    assert "float32 file is the faster one" in found.notes[0]


def test_a_table_that_lacks_an_op_changes_nothing(
    tmp_path, monkeypatch, model, samples
):
    monkeypatch.setenv("TFSLIM_COSTS", str(tmp_path))
    assert _choose(model, samples, "auto") == cost_split.Choice()
    table = costs.CostTable(costs.this_device())
    table.put({costs.border("QUANTIZE", (1,)).key: costs.OpCost(us=1.0)})
    table.save()
    found = _choose(model, samples, "auto")
    assert not found.layers
    assert "were never timed on this device" in found.notes[0]
    assert _choose(model, samples, "shipped") == cost_split.Choice()


def test_measured_here(tmp_path, monkeypatch, model, samples):
    monkeypatch.setenv("TFSLIM_COSTS", str(tmp_path))
    found = _choose(model, samples, "measure")
    predicted = found.report["predicted_us"]
    assert predicted["chosen"] <= 1.03 * min(predicted["float"], predicted["all_int8"])
    assert _choose(model, samples, "auto") == found
    json.dumps(found.report)


def test_layers_that_are_named_are_the_choice(tmp_path, model, samples):
    assert _choose(model, samples, "measure", layers={"head": "float32"}).layers == {}


@pytest.mark.parametrize("mode", ["sometimes", "none.json", ""])
def test_what_is_no_mode(mode):
    with pytest.raises(errors.ConfigError):
        cost_split.check(mode)
