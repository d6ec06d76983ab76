"""Nothing that was made or trained is lost, and nothing useless passes for sound."""

import json
import logging
import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import config as config_lib
from tfslim import errors, evaluation, export, manifest, quantization, tflite

KERAS = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _config(**sections):
    config = config_lib.default_config()
    config_lib.merge(config, {"benchmark": {"runners": ()}, **sections})
    return config


def _data(number=64, classes=3):
    random = np.random.default_rng(0)
    x = random.normal(size=(number, 6)).astype(np.float32)
    return x, x[:, :classes].argmax(axis=1)


def _model(k=tf_keras, units=8, classes=3, **options):
    k.utils.set_random_seed(0)
    inputs = k.Input((6,))
    hidden = k.layers.Dense(units, activation="relu", name="hidden")(inputs)
    end = k.layers.Dense(classes, activation="softmax", **options)
    return k.Model(inputs, end(hidden))


def _export(tmp_path, model, config=None, **options):
    options = {
        "train_data": _data(),
        "eval_data": _data(),
        "task": "classification",
        **options,
    }
    return tfslim.export_model(
        model, out_dir=tmp_path / "out", config=config or _config(), **options
    )


def _names(tmp_path):
    out = tmp_path / "out"
    return {path.name for path in out.iterdir()} if out.exists() else set()


@KERAS
def test_a_model_that_is_given_keeps_its_weights(tmp_path, k):
    model = _model(k)
    before = [weight.copy() for weight in model.get_weights()]
    result = _export(tmp_path, model, _config(quantization={"recipes": ("float32",)}))
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    for ours, own in zip(saved.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, own)
    assert result["training"] is None
    manifest.verify(tmp_path / "out")


def _refusing(monkeypatch, *names):
    quantize = quantization.quantize_accurately

    def refuse(model, recipe, **options):
        if recipe.name in names:
            raise errors.QuantizationError(f"no {recipe.name}\nfor <b>it</b>")
        return quantize(model, recipe, **options)

    monkeypatch.setattr(quantization, "quantize_accurately", refuse)


def test_a_variant_that_cannot_be_made_is_left_out(tmp_path, monkeypatch):
    _refusing(monkeypatch, "int8", "float16")
    result = _export(tmp_path, _model())
    assert [row["name"] for row in result["variants"]] == ["float32", "dynamic_int8"]
    assert set(result["failed"]) == {"float16", "int8"}
    report = (tmp_path / "out" / "report.md").read_text()
    assert r"no int8\\nfor &lt;b&gt;it&lt;/b&gt;" in report
    assert "\nfor" not in report
    manifest.verify(tmp_path / "out")


def test_one_asked_for_by_name_fails_the_job_when_all_is_written(tmp_path, monkeypatch):
    _refusing(monkeypatch, "int8")
    recipes = {"recipes": ("float32", "int8", "float16")}
    with pytest.raises(errors.QuantizationError, match="int8 could not be made, the r"):
        _export(tmp_path, _model(), _config(quantization=recipes))
    assert {"float32.tflite", "float16.tflite", "report.md"} < _names(tmp_path)
    assert "int8.tflite" not in _names(tmp_path)
    manifest.verify(tmp_path / "out")


def test_without_any_file_the_reasons_are_told(tmp_path, monkeypatch):
    _refusing(monkeypatch, "int8")
    recipes = {"recipes": ("int8",)}
    with pytest.raises(
        errors.QuantizationError, match=r"None of the files .* int8: no"
    ):
        _export(tmp_path, _model(), _config(quantization=recipes))
    with pytest.raises(errors.VerificationError):
        manifest.verify(tmp_path / "out")


@pytest.fixture
def steps(caplog):
    """What an export announces, as a program sees it."""
    caplog.set_level(logging.INFO, "tfslim")
    return caplog


def test_what_cannot_be_made_is_said_before_the_training(tmp_path, steps):
    """A file of several graphs has no INT8; a layer's name may be wrong."""
    inputs = tf_keras.Input((4, 6))
    outputs = tf_keras.layers.Dense(3, "softmax")(tf_keras.layers.GRU(4)(inputs))
    model = tf_keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    data = random.normal(size=(32, 4, 6)).astype(np.float32), np.arange(32) % 3
    result = _export(
        tmp_path,
        model,
        _config(training={"epochs": 1}),
        train_data=data,
        eval_data=data,
    )
    made = {row["name"] for row in result["variants"]}
    assert made | set(result["failed"]) == {
        *("float32", "float16", "dynamic_int8", "int8")
    }
    assert set(result["failed"]) == {"int8"}
    said = steps.messages
    training = next(i for i, text in enumerate(said) if text.startswith("training"))
    assert any(text.startswith("int8 will not") for text in said[:training])
    steps.clear()
    with pytest.raises(errors.ConfigError, match="hiden"):
        _export(
            tmp_path,
            _model(),
            _config(training={"epochs": 1}, quantization={"layers": {"hiden": "int8"}}),
            overwrite=True,
        )
    assert not any(text.startswith("training") for text in steps.messages)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_exported_in_float32(tmp_path, policy):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu", dtype=policy)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))
    x, _ = _data()
    recipes = {"recipes": ("float32",)}
    result = _export(tmp_path, model, _config(quantization=recipes))
    first, bias, second, end = (np.float64(w) for w in model.get_weights())
    wanted = np.maximum(np.float64(x) @ first + bias, 0) @ second + end
    file = (tmp_path / "out" / "float32.tflite").read_bytes()
    [found] = evaluation.Predictor(file)(x)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert policy in " ".join(result["data"]["notes"])


class _Spoiling(tf_keras.callbacks.Callback):
    """Makes the loss of the second step of the second epoch NaN."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            layer = self.model.layers[-1]
            layer.bias.assign(np.full(layer.bias.shape, np.inf))


def test_a_diverged_training_is_named(tmp_path):
    """By the step, the epoch and the rate; no model.keras stands there."""
    with pytest.raises(
        errors.TrainingError, match=r"nan after step 2 of epoch 2, at .* 0\.25"
    ):
        tfslim.fit(
            _model(),
            _data(),
            task="classification",
            epochs=3,
            callbacks=[_Spoiling()],
            learning_rate=0.25,
            schedule="constant",
        )
    config = _config(training={"epochs": 9, "optimizer": "sgd", "learning_rate": 1e30})
    # One cycle begins with a 25th of its peak, and has come to 0.28 of it here.
    with pytest.raises(errors.TrainingError, match=r"diverged.*2\.8e\+29"):
        _export(tmp_path, _model(), config)
    assert _names(tmp_path) == set()


def _broken(predict):
    raise KeyError("the user's own mistake")


@pytest.mark.parametrize("steps", [(), ("prune:0.5",)])
def test_what_was_trained_outlives_what_fails_after_it(tmp_path, steps):
    config = _config(training={"epochs": 2}, steps=steps, prune={"divisor": 1})
    before = _model().get_layer("hidden").get_weights()[0]
    with pytest.raises(KeyError, match="own mistake"):
        _export(tmp_path, _model(), config, eval_fn=_broken)
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    kernel = saved.get_layer("hidden").get_weights()[0]
    assert kernel.shape == before.shape and not np.allclose(kernel, before)
    with pytest.raises(errors.VerificationError):
        manifest.verify(tmp_path / "out")
    # What a step trained is kept, too, where the failure comes after it.
    calls = []

    def breaks_later(predict):
        calls.append(predict)
        return 0.5 if len(calls) < 5 else _broken(predict)

    if steps:
        config.training.epochs = 0
        with pytest.raises(KeyError, match="own mistake"):
            _export(tmp_path / "step", _model(), config, eval_fn=breaks_later)
        saved = keras.models.load_model(tmp_path / "step" / "out" / "model.keras")
        assert saved.get_layer("hidden").units == before.shape[1] // 2
    # What was only opened is not kept: it stands elsewhere.
    with pytest.raises(KeyError, match="own mistake"):
        _export(tmp_path / "opened", _model(), eval_fn=_broken)
    assert _names(tmp_path / "opened") == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:40]), "64 examples and 40 targets"),
        (lambda x, y: (x[:, :5], y), r"shape \(5,\), .* \(6,\)"),
        (lambda x, y: [x, y], "tuple"),
        (lambda x, y: (x, np.stack([y, y], 1)), "one-hot targets of 2"),
    ],
)
def test_data_that_does_not_fit_is_told_before_the_training(
    tmp_path, change, message, steps
):
    config = _config(training={"epochs": 1})
    with pytest.raises(errors.ConfigError, match=message):
        _export(
            tmp_path,
            _model(),
            config,
            eval_data=change(*_data()),
        )
    assert not any(text.startswith("training") for text in steps.messages)


def test_labels_of_a_binary_classifier_are_looked_at_before_the_training(
    tmp_path, steps
):
    x, y = _data(classes=2)
    with pytest.raises(errors.ConfigError, match="a target 2"):
        _export(
            tmp_path,
            _model(classes=1, name="p"),
            _config(training={"epochs": 1}),
            eval_data=(x, y + 1),
        )
    assert not any(text.startswith("training") for text in steps.messages)


@KERAS
def test_a_model_without_known_inputs_is_told_in_a_line(tmp_path, k):
    class Own(k.Model):
        def call(self, x):
            return x

    with pytest.raises(errors.ConfigError, match="no inputs of a known shape"):
        _export(tmp_path, Own())
    with pytest.raises(errors.ConfigError, match="no inputs of a known shape"):
        _export(tmp_path, k.Sequential([k.layers.Dense(2)]))


@KERAS
@pytest.mark.parametrize("steps", [("prune:0.5,learning_rate=1e30,epochs=9",)])
def test_a_step_that_diverges_is_named(tmp_path, k, steps):
    config = _config(steps=steps, training={"optimizer": "sgd"}, prune={"divisor": 1})
    with pytest.raises(errors.TrainingError, match="diverged"):
        _export(tmp_path, _model(k), config)
    assert _names(tmp_path) == set()


@KERAS
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path, k, value):
    """In a nested model's batch normalization."""
    inner = k.Sequential([k.Input((6,)), k.layers.BatchNormalization(name="norm")])
    inputs = k.Input((6,))
    model = k.Model(inputs, k.layers.Dense(3, activation="softmax")(inner(inputs)))
    weights = inner.get_weights()
    weights[-1][2] = value
    inner.set_weights(weights)
    with pytest.raises(errors.ConversionError, match=r"Layer 'norm' has 1 weights"):
        _export(tmp_path, model)
    with pytest.raises(errors.ConversionError, match=r"Layer 'norm'"):
        tfslim.convert_model(model)
    assert "model.keras" not in _names(tmp_path)


def test_a_model_that_overflows_is_named(tmp_path):
    model = _model()
    kernel, bias = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([np.full_like(kernel, 3e38), bias])
    with pytest.raises(errors.VerificationError, match=r"3e\+38, in layer 'hidden'"):
        _export(tmp_path, model)
    assert "model.keras" not in _names(tmp_path)


def test_a_collapsed_model_and_small_sets_are_said(tmp_path):
    model = _model()
    kernel, _ = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 0.1, np.array([0, 9, 0], "float32")])
    x, y = _data()
    config = _config(training={"epochs": 1, "learning_rate": 1e-9})
    result = _export(tmp_path, model, config, validation_data=(x[:6], y[:6]))
    collapsed, small = result["warnings"][:2]
    assert "answers class 1" in collapsed and "of the training, too" in collapsed
    assert "6 samples, each of which moves the accuracy by 16.7 points" in small
    assert "has collapsed" in (tmp_path / "out" / "report.md").read_text()
    sound = _export(tmp_path, _model(), eval_data=_data(), overwrite=True)
    assert not any("collapsed" in text for text in sound["warnings"])


def test_the_model_as_given_is_a_row_of_its_own(tmp_path):
    model = _model(units=512)
    config = _config(
        prune={"method": "channels", "ratio": 0.5, "divisor": 1, "epochs": 1},
        quantization={"recipes": ("float32",)},
    )
    config_lib.merge(config, {"benchmark": {"runners": ("host",), "num_runs": 2}})
    result = _export(tmp_path, model, config)
    original, [smaller] = result["original"], result["variants"]
    x, y = _data()
    right = np.mean(np.asarray(model(x)).argmax(axis=1) == y)
    assert original["metric"] == pytest.approx(right)
    # Each of the 512 units, of which half stay, has 6 + 1 + 3 weights of 4 bytes.
    assert smaller["size_bytes"] < 0.75 * 512 * 40 < original["size_bytes"]
    assert original["params"] == model.count_params()
    assert original["benchmark"]["latency"]["p50"] > 0
    assert result["slimming"][0]["training"]["epochs"] == 1
    report = (tmp_path / "out" / "report.md").read_text()
    [line] = [row for row in report.splitlines() if row.startswith("| original")]
    assert line.endswith("| 1.00x |")
    assert "- Fine-tuning: 1 epochs" in report
    config.verify.original = False
    result = _export(tmp_path, model, config, overwrite=True)
    assert result["original"] is None
    [again] = result["variants"]
    assert again["change"]["against"] == "Keras"
    assert again["metric"] == pytest.approx(smaller["metric"])


@KERAS
def test_several_inputs_and_outputs(tmp_path, k):
    """As tuples and as dicts; the metric is the mean of the outputs'."""
    ends = [k.Input((4,), name="left"), k.Input((2,), name="right")]
    x = k.layers.Concatenate()(ends)
    heads = {"a": k.layers.Dense(3, name="a")(x), "b": k.layers.Dense(1, name="b")(x)}
    model = k.Model(ends, heads)
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(32, n)).astype(np.float32) for n in (4, 2)]
    targets = {
        "b": random.normal(size=(32, 1)).astype(np.float32),
        "a": random.normal(size=(32, 3)).astype(np.float32),
    }
    found = model([*inputs])
    errors_of = [np.mean((np.asarray(found[n]) - targets[n]) ** 2) for n in targets]
    for number, x in enumerate(
        (tuple(inputs), dict(zip(("left", "right"), inputs, strict=True)))
    ):
        result = _export(
            tmp_path / str(number),
            model,
            train_data=(x, targets),
            eval_data=(x, targets),
            task="regression",
        )
        assert result["keras_metric"] == pytest.approx(np.mean(errors_of), rel=1e-4)
        content = tflite.read(tmp_path / str(number) / "out" / "int8.tflite")
        assert sorted(t.shape for t in content.outputs) == [(1, 1), (1, 3)]
    with pytest.raises(errors.ConfigError, match="left, right"):
        _export(
            tmp_path, model, train_data=(inputs[0], targets), eval_data=None, task=None
        )
    with pytest.raises(errors.ConfigError, match=r"targets are called a, .*a, b"):
        some = {"a": targets["a"]}
        _export(
            tmp_path,
            model,
            train_data=(tuple(inputs), targets),
            eval_data=(tuple(inputs), some),
            task="regression",
        )


def test_a_set_without_targets_gives_agreement(tmp_path):
    x, _ = _data()
    result = _export(tmp_path, _model(), train_data=x, eval_data=x)
    assert result["keras_metric"] is None
    assert {row["metric"] for row in result["variants"]} == {None}
    assert all(row["parity"]["agreement"] > 0.5 for row in result["variants"])


def _run(tmp_path, *arguments):
    return export.main(["export", f"--out={tmp_path / 'out'}", *arguments])


@pytest.fixture
def saved(tmp_path):
    """A model file of the user's own, of 8x8 images."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def test_an_own_model_needs_data(tmp_path, saved, capsys):
    assert _run(tmp_path, f"--model={saved}") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "There is no data" in line and "--data=" in line
    assert not (tmp_path / "out").exists()
    # What needs none is made without.
    plain = "--recipe=float32,dynamic_int8", "--benchmark="
    assert _run(tmp_path, f"--model={saved}", *plain) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["data"]["spec"] == "none"
    assert result["keras_metric"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        "--data=folder:/none/such",
        "--data=npz:/none.npz",
        "--data=/tmp",
        "--data=digit",
        "--model=/none/such.keras",
        "--model=resnet19",
        "--recipe=int9",
        "--benchmark=hosts",
        "--config.benchmark.delegate=npu",
        "--config.model.preprocessing=units",
        "--config.task=clasification",
        "--steps=widht:0.5",
        "--epochs=-1",
        "--max_drop=nan",
        "--max_drop=1 --recipe=float16",
    ],
)
def test_what_is_wrong_is_told_without_tensorflow(tmp_path, wrong):
    code = (
        "import sys; from tfslim import export;"
        f"code = export.main(['export', '--out={tmp_path}/out', *{wrong.split()}]);"
        "heavy = {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules);"
        "print(code, *heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _spread(tmp_path):
    """A classifier whose first layer INT8 takes most from: channels of unlike size."""
    x, y = _data(256)
    model = _model(units=16)
    model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=20, verbose=0)
    return model, (x, y)


def test_max_drop_is_met_or_the_job_fails(tmp_path):
    model, data = _spread(tmp_path)
    ours = {"train_data": data, "eval_data": data}
    recipes = {"recipes": ("float32", "int8")}
    config = _config(quantization={**recipes, "max_drop": 50.0})
    result = _export(tmp_path, model, config, **ours)
    floating, row = result["variants"]
    assert row["is_met"] and row["fallback"] == []
    assert row["goal"]["least"] == pytest.approx(floating["metric"] - 0.5)
    # More than the float file has: not even all layers in float reach it.
    config = _config(quantization={**recipes, "max_drop": -1.0})
    with pytest.raises(errors.QuantizationError, match=r"max_drop=-1 .* cannot be met"):
        _export(tmp_path, model, config, overwrite=True, **ours)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    row = result["variants"][1]
    assert not row["is_met"] and len(row["fallback"]) > 1
    # All layers have returned to float.
    assert row["metric"] == pytest.approx(result["variants"][0]["metric"])
    manifest.verify(tmp_path / "out")
    config = _config(quantization={**recipes, "max_drop": 1.0})
    with pytest.raises(errors.ConfigError, match="needs data to calibrate"):
        _export(
            tmp_path, model, config, train_data=data, eval_data=None, overwrite=True
        )


def test_a_file_that_does_not_run_here_costs_its_time_alone(tmp_path, monkeypatch):
    from tfslim import benchmark

    check_host = benchmark.check_host

    def check(name, content, options):
        if name == "float16":
            raise errors.BenchmarkError("'float16' does not run.")
        check_host(name, content, options=options)

    monkeypatch.setattr(benchmark, "check_host", check)
    config = _config(quantization={"recipes": ("float32", "float16")})
    config_lib.merge(config, {"benchmark": {"runners": ("host",), "num_runs": 2}})
    with pytest.raises(errors.BenchmarkError, match="'float16' does not run"):
        _export(tmp_path, _model(), config)
    manifest.verify(tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    timed = {row["name"]: "benchmark" in row for row in result["variants"]}
    assert timed == {"float32": True, "float16": False}
    assert "does not run" in (tmp_path / "out" / "report.md").read_text()
