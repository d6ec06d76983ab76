"""`tfslim analyze`, against figures by hand, the Keras model and measured extremes."""

import dataclasses
import json
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from tfslim import analysis, convert, errors, quantization, tflite
from tfslim.analysis import advice, intermediate, layers, redundancy, work
from tfslim.analyze import main
from tfslim.benchmark import costs
from tfslim.benchmark.costs import changes
from tfslim.graph import count
from tfslim.graph import keras as graph_keras

LAYERS = tf_keras.layers
_MODELS = Path(os.environ.get("TFSLIM_DATA", ""), "models")


@pytest.fixture(scope="module", autouse=True)
def _own_costs(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("TFSLIM_COSTS", str(tmp_path_factory.mktemp("costs")))
    yield
    patch.undo()


def _file(*made, shape=(16, 16, 8)):
    x = inputs = tf_keras.Input(shape)
    for layer in made:
        x = layer(x)
    return convert.convert_model(tf_keras.Model(inputs, x)).tflite


def _works(data):
    model = tflite.read(data)
    return [work.work_of(op, model.graphs[0], graphs=model.graphs) for op in model.ops]


def test_work_by_hand():
    data = _file(LAYERS.Conv2D(12, 3, strides=2, padding="same", use_bias=True))
    (found,) = _works(data)
    assert found.macs == 8 * 8 * 12 * 3 * 3 * 8
    assert found.params == 12 * 3 * 3 * 8 + 12
    assert found.weight_bytes == 4 * found.params
    assert found.activation_bytes == 4 * (16 * 16 * 8 + 8 * 8 * 12)
    moved = found.weight_bytes + found.activation_bytes
    assert found.intensity == pytest.approx(found.macs / moved)


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS.Conv2D(6, (3, 1), dilation_rate=2),
        LAYERS.DepthwiseConv2D(3, depth_multiplier=2),
        LAYERS.SeparableConv2D(5, 3),
        LAYERS.Conv2DTranspose(4, 3, strides=2, padding="same"),
        LAYERS.Conv2D(8, 3, groups=4),
        LAYERS.Dense(7),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_macs_are_those_of_the_keras_model(layer):
    x = inputs = tf_keras.Input((16, 16, 8))
    model = tf_keras.Model(inputs, layer(x))
    # The converter leaves biases of zeros out.
    model.set_weights([np.ones(w.shape) for w in model.get_weights()])
    data = convert.convert_model(model).tflite
    expected = count.count(graph_keras.read(model))
    found = _works(data)
    assert sum(one.macs for one in found) == expected.macs
    assert sum(one.params for one in found) >= expected.params


@pytest.mark.parametrize(
    ("layer", "gates"), [(LAYERS.LSTM, 4), (LAYERS.GRU, 3), (LAYERS.SimpleRNN, 1)]
)
def test_a_recurrent_layer_counts_every_step(layer, gates):
    found = _works(_file(layer(6), shape=(5, 3)))
    assert sum(one.macs for one in found) == 5 * gates * 6 * (3 + 6)


def test_macs_that_are_not_known_are_not_a_sum():
    model = tflite.read(_file(LAYERS.GRU(6), shape=(5, 3)))
    (loop,) = [op for op in model.ops if op.name == "WHILE"]
    assert work.work_of(loop, model.graphs[0]).macs is None
    # A condition that compares no counter tells nothing.
    graphs = list(model.graphs)
    place = loop.options.condSubgraphIndex
    graphs[place] = dataclasses.replace(graphs[place], ops=())
    assert work.work_of(loop, graphs[0], graphs=graphs).macs is None


@pytest.mark.skipif("TFSLIM_DATA" not in os.environ, reason="TFSLIM_DATA is not set")
def test_a_custom_op_makes_the_sum_unknown():
    path = _MODELS / "strangers" / "selfie_segmentation.tflite"
    found = layers.profile(tflite.open_file(path), is_timed=False)
    assert found.macs is None
    assert found.uncounted == ("Convolution2DTransposeBias",)


def test_half_precision_and_sparse_files_have_the_ops_of_the_float_one():
    data = _file(LAYERS.Conv2D(16, 1, name="a"), LAYERS.Conv2D(16, 1, name="b"))
    half = quantization.quantize_tflite(data, "float16").tflite
    sparse = tflite.store_sparse(data)
    plain = layers.profile(data, is_timed=False)
    for other in (half, sparse):
        found = layers.profile(other, is_timed=False)
        assert [row.op for row in found.rows] == [row.op for row in plain.rows]
        assert found.macs == plain.macs
    weights = sum(row.work.weight_bytes for row in plain.rows)
    found = layers.profile(half, is_timed=False)
    assert sum(row.work.weight_bytes for row in found.rows) < 0.6 * weights


def test_what_bounds_an_op():
    # 64 MiB of weights for one row, and 38 million MACs of 150 kB.
    large = layers.profile(_file(LAYERS.Dense(4096), shape=(4096,)))
    (row,) = [r for r in large.rows if r.op == "FULLY_CONNECTED"]
    assert row.bound == "memory"
    data = _file(LAYERS.Conv2D(64, 3, padding="same"), shape=(32, 32, 64))
    small = layers.profile(data)
    assert [r.bound for r in small.rows] == ["compute"]
    tiny = layers.profile(_file(LAYERS.Dense(2), shape=(3,)))
    assert {r.bound for r in tiny.rows} == {"overhead"}
    assert sum(r.share for r in small.rows) == pytest.approx(1.0)
    assert small.whole_us > 0 and small.load_us > 0 and small.first_us > 0


def test_plain_convolutions_are_named_first():
    data = _file(
        LAYERS.DepthwiseConv2D(3, padding="same", name="cheap"),
        LAYERS.Conv2D(64, 1, name="point"),
        LAYERS.Conv2D(64, 3, padding="same", name="plain"),
        LAYERS.DepthwiseConv2D(3, padding="same"),
        LAYERS.Conv2D(64, 1),
        shape=(32, 32, 32),
    )
    meter = costs.Meter(costs.CostTable(costs.this_device()))
    found = layers.profile(data, meter=meter)
    first = advice.advise(data, found, meter=meter)[0]
    assert first.action == "depthwise"
    graph = tflite.read(data).graphs[0]
    assert graph.ops[first.index].name == "CONV_2D"
    assert graph.tensors[graph.ops[first.index].inputs[1]].shape[1:3] == (3, 3)
    assert 0 < first.gain < 1
    pairs = advice.separable_pairs(data, found, meter=meter)
    assert [p.theory for p in pairs] == pytest.approx([1 / 64 + 1 / 9] * 2)
    assert all(0 < p.measured < 1.5 for p in pairs)


def test_changes_of_an_op():
    data = _file(LAYERS.Conv2D(24, 3, padding="same"), shape=(8, 8, 16))
    (spec,) = costs.specs_of(data)
    depthwise, pointwise = changes.separable(spec)
    assert depthwise.inputs[1].shape == (1, 3, 3, 16)
    assert pointwise.inputs[1].shape == (24, 1, 1, 16)
    assert changes.plain(depthwise, pointwise).inputs[1].shape == (24, 3, 3, 16)
    assert changes.with_outputs(spec, 10).outputs[0].shape == (1, 8, 8, 10)
    assert changes.low_rank(spec, 4) is None
    whole = changes.integer(spec)
    assert [t.dtype for t in whole.inputs] == ["int8", "int8", "int32"]
    for piece in (depthwise, pointwise, whole, changes.with_inputs(spec, 7)):
        tflite.Runner(costs.build(piece)).invoke()
    (dense,) = [
        s for s in costs.specs_of(_file(LAYERS.Dense(24), shape=(16,))) if s is not None
    ]
    first, second = changes.low_rank(dense, 4)
    shapes = [s.inputs[1].shape for s in (first, second)]
    assert shapes == [(4, 16), (24, 4)]
    for piece in (first, second):
        tflite.Runner(costs.build(piece)).invoke()


def test_redundancy_that_was_put_in():
    layer = LAYERS.Conv2D(16, 3, name="conv")
    x = inputs = tf_keras.Input((8, 8, 8))
    model = tf_keras.Model(inputs, layer(x))
    kernel, bias = layer.get_weights()
    kernel[..., 1] = 2 * kernel[..., 0]
    kernel[..., 2] = -kernel[..., 0]
    kernel[..., 3:7] = 0
    layer.set_weights([kernel, bias])
    data = convert.convert_model(model).tflite
    (found,) = redundancy.kernels(data)
    assert (found.channels, found.near_zero, found.duplicates) == (16, 4, 2)
    assert found.rank <= 10 and found.full_rank == 16
    random = np.random.default_rng(0)
    samples = [random.random((1, 8, 8, 8), np.float32) for _ in range(4)]
    int8 = quantization.quantize_tflite(data, "int8", samples=samples).tflite
    (again,) = redundancy.kernels(int8)
    assert (again.near_zero, again.duplicates) == (4, 2)
    (dead,) = redundancy.dead_activations(data, samples)
    assert (dead.channels, dead.dead) == (16, 4)


def test_scales_near_zero():
    x = inputs = tf_keras.Input((8,))
    model = tf_keras.Model(inputs, LAYERS.BatchNormalization(name="bn")(x))
    values = model.layers[1].get_weights()
    values[0] = np.array([1, 0.001, -0.002, 0.5, 1, 1, 0, 1])
    model.layers[1].set_weights(values)
    (found,) = redundancy.batch_norm_scales(graph_keras.read(model))
    assert (found.layer, found.channels, found.near_zero) == ("bn", 8, 3)


def test_the_layer_that_broke_it_is_named():
    data = _file(*(LAYERS.Conv2D(8, 3, name=f"conv{i}") for i in range(4)))
    random = np.random.default_rng(0)
    samples = [random.uniform(-1, 1, (1, 16, 16, 8)).astype("float32") for _ in "1234"]
    calibration = quantization.calibrate(data, samples)
    graph = tflite.read(data).graphs[0]
    name = graph.name_of(graph.ops[2])
    bad = dict(calibration.ranges) | {name: (-300.0, 300.0)}
    good = quantization.quantize_tflite(data, "int8", ranges=calibration).tflite
    broken = quantization.quantize_tflite(data, "int8", ranges=bad).tflite
    rows = intermediate.compare(data, broken, samples=samples)
    assert [row.tensor for row in intermediate.broken(rows)] == [name]
    assert intermediate.broken(intermediate.compare(data, good, samples=samples)) == []
    same = intermediate.compare(data, data, samples=samples)
    assert {row.sqnr_db for row in same} == {200.0}
    with pytest.raises(errors.ConfigError, match="no sample"):
        intermediate.compare(data, good, samples=[])


def test_the_error_is_that_of_numpy():
    data = _file(LAYERS.Conv2D(4, 3))
    random = np.random.default_rng(0)
    samples = [random.uniform(-1, 1, (1, 16, 16, 8)).astype("float32") for _ in "12"]
    int8 = quantization.quantize_tflite(data, "int8", samples=samples).tflite
    true = np.array([tflite.run(data, [s])[0] for s in samples])
    found = np.array([tflite.run(int8, [s])[0] for s in samples])
    expected = 10 * np.log10(np.square(true).sum() / np.square(true - found).sum())
    (row,) = intermediate.compare(data, int8, samples=samples)
    assert row.sqnr_db == pytest.approx(expected, abs=0.05)


def test_the_command(tmp_path, capsys):
    x = inputs = tf_keras.Input((16, 16, 3))
    x = LAYERS.Conv2D(8, 3, name="first")(x)
    x = LAYERS.BatchNormalization(name="norm")(x)
    x = LAYERS.Flatten()(LAYERS.ReLU(name="relu")(x))
    model = tf_keras.Model(inputs, LAYERS.Dense(4, name="last")(x))
    keras = tmp_path / "model.keras"
    model.save(keras)
    out, nodes = tmp_path / "a.json", tmp_path / "n.json"
    page = tmp_path / "a.html"
    flags = [f"--json={out}", f"--node_data={nodes}", f"--html={page}", "--all"]
    assert main(["analyze", str(keras), *flags]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    found = json.loads(out.read_text())
    names = [row["layer"] for row in found["ops"]]
    assert {"first", "last"} <= {name for name in names} | {
        layer for name in names for layer in name.split(";")
    }
    assert found["total"]["macs"] == count.count(graph_keras.read(model)).macs
    assert [row["layer"] for row in found["batch_norm"]] == ["norm"]
    results = json.loads(nodes.read_text())[found["graph"]]["results"]
    assert set(results) == {str(row["index"]) for row in found["ops"]}
    assert all(value["value"] > 0 for value in results.values())
    text = page.read_text(encoding="utf-8")
    assert "Time of each op" in text and text.count("<tr>") == 1 + len(found["ops"])


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--num_threads=0"], 2, "--num_threads must be at least 1, got 0"),
        (["--against=none.tflite"], 1, "Cannot read 'none.tflite'"),
        (["--data=bogus:x", "--preprocessing=raw"], 2, "bogus"),
        (["--json=/dev/null/x.json"], 2, "--json"),
    ],
)
def test_what_was_typed_wrong(tmp_path, capsys, flags, code, text):
    path = tmp_path / "m.tflite"
    path.write_bytes(_file(LAYERS.Dense(2), shape=(3,)))
    found = main(["analyze", str(path), "--num_runs=0", *flags])
    said = capsys.readouterr().err.splitlines()[-1]
    assert text in said
    assert found == code


def test_not_timed(tmp_path, capsys):
    path = tmp_path / "m.tflite"
    path.write_bytes(_file(LAYERS.Dense(2), shape=(3,)))
    assert main(["analyze", str(path), "--num_runs=0"]) == 0
    assert "not timed" in capsys.readouterr().out
    found = analysis.analyze_file(
        path.read_bytes(), analysis.Wanted(name="m", is_timed=False)
    )
    assert found["total"]["whole_us"] is None
    assert found["peaks"] is None and not found["advice"]


_STRANGERS = sorted(_MODELS.rglob("*.tflite")) if "TFSLIM_DATA" in os.environ else []


@pytest.mark.skipif(not _STRANGERS, reason="TFSLIM_DATA is not set")
@pytest.mark.parametrize("path", _STRANGERS, ids=lambda path: path.stem)
def test_strangers_files_go_through(path, capsys):
    assert main(["analyze", str(path), "--num_runs=0"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[:5])) <= 80


@pytest.mark.slow
@pytest.mark.skipif(not _STRANGERS, reason="TFSLIM_DATA is not set")
def test_model_explorer_opens_the_data(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    pip = [str(tmp_path / "env/bin/pip"), "install", "-q", "ai-edge-model-explorer"]
    if subprocess.run(pip, capture_output=True).returncode:
        pytest.skip("ai-edge-model-explorer cannot be installed here")
    data = _file(LAYERS.Conv2D(4, 3), LAYERS.Flatten(), LAYERS.Dense(3))
    path, nodes = tmp_path / "m.tflite", tmp_path / "n.json"
    path.write_bytes(data)
    assert main(["analyze", str(path), f"--node_data={nodes}"]) == 0
    code = (
        "import json, sys\n"
        "from model_explorer import node_data_builder as b\n"
        "from model_explorer.builtin_tflite_flatbuffer_adapter import "
        "BuiltinTfliteFlatbufferAdapter as A\n"
        "graphs = json.loads(json.dumps(A().convert(sys.argv[1], {}), "
        "default=lambda o: o.__dict__))['graphCollections'][0]['graphs']\n"
        "known = {g['id']: {n['id'] for n in g['nodes']} for g in graphs}\n"
        "for graph, data in json.load(open(sys.argv[2])).items():\n"
        "    results = {k: b.NodeDataResult(**v) "
        "for k, v in data.pop('results').items()}\n"
        "    gradient = [b.GradientItem(**g) for g in data.pop('gradient')]\n"
        "    b.GraphNodeData(results=results, gradient=gradient, **data)\n"
        "    assert results and set(results) <= known[graph], (known, results)\n"
        "print('opened')\n"
    )
    python = str(tmp_path / "env/bin/python")
    done = subprocess.run(
        [python, "-c", code, str(path), str(nodes)], capture_output=True, text=True
    )
    assert done.stdout.endswith("opened\n"), done.stderr
