"""Specs against the files they come from; tables that outlive the process."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from tfslim import benchmark, convert, errors, quantization, tflite
from tfslim.benchmark import android, costs
from tfslim.benchmark.costs import measure, spec


@pytest.fixture(scope="module")
def files():
    """One file for each kind of number; the third is of half-precision weights."""
    inputs = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu6")(
        inputs
    )
    x = tf_keras.layers.DepthwiseConv2D(3, padding="same")(x)
    y = tf_keras.layers.Activation("sigmoid")(x)
    x = tf_keras.layers.Concatenate()([x, y])
    x = tf_keras.layers.Flatten()(tf_keras.layers.MaxPooling2D()(x))
    outputs = tf_keras.layers.Dense(5, activation="softmax")(x)
    plain = convert.convert_model(tf_keras.Model(inputs, outputs)).tflite
    random = np.random.default_rng(0)
    samples = [random.random((1, 8, 8, 3), np.float32) for _ in range(4)]
    made = {
        name: quantization.quantize_tflite(plain, name, samples=samples).tflite
        for name in ("int8", "float16", "dynamic_int8", "static_wi8_ai16")
    }
    return {"float32": plain, **made}


@pytest.fixture
def table(tmp_path):
    return costs.CostTable(costs.this_device(), tmp_path)


@pytest.mark.parametrize("name", ["float32", "int8", "dynamic_int8", "static_wi8_ai16"])
def test_a_built_op_is_the_op_of_the_file(files, name):
    graph = tflite.read(files[name]).graphs[0]
    for op in graph.ops:
        found = spec.of_op(op, graph)
        alone = tflite.read(costs.build(found))
        assert [o.name for o in alone.ops] == [op.name]
        again = spec.of_op(alone.ops[0], alone.graphs[0])
        assert again == found
        assert again.key == found.key
        cut = tflite.read(tflite.single_op(files[name], op.index))
        for ours, theirs in ((alone.inputs, cut.inputs), (alone.outputs, cut.outputs)):
            shapes = [[(t.shape, t.dtype) for t in ts] for ts in (ours, theirs)]
            assert shapes[0] == shapes[1]


def test_weights_that_are_unpacked_count_as_constants(files):
    model = tflite.read(files["float16"])
    found = costs.specs_of(files["float16"], model)
    graph = model.graphs[0]
    unpacking = [op.name == "DEQUANTIZE" for op in graph.ops]
    assert any(unpacking)
    assert [piece is None for piece in found] == unpacking
    kernels = [p.inputs[1].kind for p in found if p is not None and p.op == "CONV_2D"]
    assert kernels == ["constant"]


@pytest.fixture(scope="module")
def padded():
    """Paddings by what reads them; those of the first two layers XNNPACK fuses."""
    layers = tf_keras.layers
    inputs = tf_keras.Input((8, 8, 3))
    readers = {
        "conv": [layers.Conv2D(16, 3, strides=2)],
        "depthwise": [layers.DepthwiseConv2D(3)],
        "pool": [layers.MaxPooling2D()],
        "two": [layers.Conv2D(16, 3), layers.Conv2D(16, 5)],
        "same": [layers.Conv2D(16, 3, padding="same")],
    }
    outputs = []
    for index, (name, behind) in enumerate(readers.items()):
        # Each its own: the converter makes one of equal ones.
        x = layers.ZeroPadding2D(((1, index), (0, 1)), name=f"pad_{name}")(inputs)
        outputs += [layer(x) for layer in behind]
    plain = convert.convert_model(tf_keras.Model(inputs, outputs)).tflite
    sample = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    return {
        name: quantization.quantize_tflite(plain, name, samples=[sample]).tflite
        for name in ("float32", "float16", "dynamic_int8", "int8", "static_wi8_ai16")
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float32", {"conv", "depthwise"}),
        ("float16", {"conv", "depthwise"}),
        ("dynamic_int8", {"depthwise"}),  # Which stays float.
        ("int8", {"conv", "depthwise"}),
        ("static_wi8_ai16", set()),  # XNNPACK has none of it.
    ],
)
def test_zeros_around_a_convolution_are_free(padded, table, name, expected):
    model = tflite.read(padded[name])
    graph = model.graphs[0]
    pads = [op for op in graph.ops if op.name == "PAD"]
    assert len(pads) == 5
    fused = {
        graph.name_of(op).split("pad_")[1].partition("/")[0]
        for op in pads
        if costs.is_fused(table, op, graph=graph)
    }
    assert fused == expected
    pieces = costs.specs_of(padded[name], model)
    table.put({p.key: costs.OpCost(us=7.0) for p in pieces if p})
    rows = costs.predict(table, model, specs=pieces).ops
    free = sum(op.us == 0.0 for op in rows if op.op == "PAD")
    assert free == len(fused)
    slow = costs.this_device(benchmark.Options(delegate="none"))
    assert not any(
        costs.is_fused(costs.CostTable(slow), op, graph=graph) for op in pads
    )


@pytest.mark.parametrize("name", ["float32", "int8", "float16"])
def test_all_ops_are_timed_once_and_kept(files, table, name):
    pieces = costs.specs_of(files[name])
    costs.measure_host(table, [p for p in pieces if p], cold=True)
    found = costs.predict(table, tflite.read(files[name]), specs=pieces)
    assert not found.unknown
    parts = sum(op.us for op in found.ops)
    assert found.latency_us == pytest.approx(parts + table.overhead.us)
    again = costs.CostTable(table.device, table.path.parent)
    assert len(again) == len(table) > 1
    assert not again.missing(p.key for p in pieces if p)
    before = table.path.read_bytes()
    costs.measure_host(again, [p for p in pieces if p])  # Nothing is left to do.
    assert table.path.read_bytes() == before
    assert costs.read_file(table.path).device == table.device


def test_the_sum_by_hand(table):
    one = costs.border("QUANTIZE", (1, 4))
    table.put(
        {
            spec.IDLE.key: costs.OpCost(us=1.0, cold_us=5.0),
            one.key: costs.OpCost(us=11.0, cold_us=25.0),
        }
    )
    assert costs.op_us(table, one) == pytest.approx(11 - 0.9)
    # 14 more with empty caches, 4 of them by the call itself.
    assert costs.op_us(table, one, streaming=1.0) == pytest.approx(10.1 + 0.4 * 10)
    assert costs.op_us(table, costs.border("DEQUANTIZE", (1, 4))) is None


def test_an_op_that_cannot_run_alone_says_why(table):
    good = costs.border("QUANTIZE", (1, 4))
    bad = dataclasses.replace(good, op="CONV_2D", options_type="Conv2DOptionsT")
    costs.measure_host(table, [good, bad])
    assert table.get(good.key).us > 0
    assert table.get(bad.key).us is None
    assert table.get(bad.key).reason


def test_tables_of_two_devices_are_apart(tmp_path):
    one = costs.this_device(benchmark.Options(num_threads=1))
    two = costs.this_device(benchmark.Options(num_threads=2))
    assert one.file_name != two.file_name
    newer = dataclasses.replace(one, runtime="ai-edge-litert 99")
    assert newer.file_name != one.file_name
    table = costs.CostTable(one, tmp_path)
    table.put({"x": costs.OpCost(us=1.0)})
    table.save()
    assert len(costs.CostTable(two, tmp_path)) == 0
    assert len(costs.CostTable(one, tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}'])
def test_a_damaged_table_counts_as_none(tmp_path, text):
    device = costs.this_device()
    (tmp_path / device.file_name).write_text(text)
    assert len(costs.CostTable(device, tmp_path)) == 0
    with pytest.raises(errors.ConfigError, match="no cost table of schema 2"):
        costs.read_file(tmp_path / device.file_name)


def test_two_processes_add_to_one_table(tmp_path):
    device = costs.this_device()
    one, two = (costs.CostTable(device, tmp_path) for _ in range(2))
    one.put({"a": costs.OpCost(us=1.0)})
    two.put({"b": costs.OpCost(us=2.0)})
    one.save()
    two.save()
    assert len(costs.CostTable(device, tmp_path)) == 2


def test_the_folder_is_the_users_or_the_variables(monkeypatch, tmp_path):
    device = costs.this_device()
    monkeypatch.delenv("TFSLIM_COSTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = tmp_path / "cache" / "tfslim" / "costs"
    assert costs.CostTable(device).path.parent == expected
    monkeypatch.setenv("TFSLIM_COSTS", str(tmp_path / "mine"))
    assert costs.CostTable(device).path.parent == tmp_path / "mine"


def test_a_phone_is_measured_once(phone, tool, files, tmp_path):
    phones = android.AndroidOptions(
        serial=phone.serial,
        benchmark_binary=str(tool),
        device_dir=str(phone.dir),
        cooldown_secs=0,
    )
    device = costs.phone_device(phones)
    assert "Loop Back 1" in device.cpu
    assert "arm64-v8a" in device.features
    table = costs.CostTable(device, tmp_path)
    pieces = [p for p in costs.specs_of(files["int8"]) if p][:2]
    costs.measure_android(table, pieces, phones=phones)
    pushed = len(phone.models_received)
    assert pushed == len({p.key for p in pieces} | {spec.IDLE.key})
    assert all(table.get(p.key).us > 0 for p in pieces)
    costs.measure_android(costs.CostTable(device, tmp_path), pieces, phones=phones)
    assert len(phone.models_received) == pushed
    assert json.loads(table.path.read_text())["device"]["cpu"] == device.cpu


@pytest.mark.skipif("TFSLIM_DATA" not in os.environ, reason="TFSLIM_DATA is not set")
@pytest.mark.parametrize(
    "name",
    [
        "tflite/vww_96_float",
        "tflite/mobilenet_v1_0.25_128_quant",
        "strangers/activity_conv1d",
        "strangers/face_detection_full_range_sparse",
        "strangers/selfie_segmentation",
    ],
)
def test_every_op_of_a_strangers_file_can_be_timed(name):
    path = Path(os.environ["TFSLIM_DATA"], "models", f"{name}.tflite")
    data = tflite.open_file(path)
    for piece in costs.specs_of(data):
        if piece is not None:
            found = measure._load(piece, benchmark.Options())
            assert not isinstance(found, costs.OpCost), (piece.op, found)


@pytest.mark.slow
def test_a_file_is_analyzed_on_a_phone(
    phone, tool, files, tmp_path, monkeypatch, capsys
):
    from tfslim.analyze import main

    monkeypatch.setenv("TFSLIM_COSTS", str(tmp_path))
    path, out = tmp_path / "m.tflite", tmp_path / "a.json"
    path.write_bytes(files["float32"])
    flags = [f"--serial={phone.serial}", f"--benchmark_binary={tool}"]
    flags += [f"--device_dir={phone.dir}", f"--json={out}", "--num_runs=5"]
    assert main(["analyze", str(path), "--android", *flags]) == 0, capsys.readouterr()
    found = json.loads(out.read_text())
    assert "Loop Back 1" in found["device"]["cpu"]
    assert all(row["us"] is not None for row in found["ops"])
    assert found["total"]["whole_us"] > 0
    assert phone.left() == []
