"""Models are read into graphs and written back, in both Keras."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras

from tests.graph import models
from tfslim import errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("target", ["tf_keras", "keras"])
@pytest.mark.parametrize("name", models.MODELS)
def test_written_model_gives_equal_outputs(name, target):
    model = models.randomize(models.MODELS[name]())
    graph = graph_keras.read(model)
    assert graph == graph_keras.read(model)
    written = graph_keras.write(graph, target)
    inputs = models.random_inputs(model)
    same = graph_keras.keras_of(model) == target
    for wanted, got in zip(
        models.outputs(model, inputs), models.outputs(written, inputs), strict=True
    ):
        scale = np.abs(wanted).max()
        assert np.abs(wanted - got).max() <= (0 if same else 1e-6 * scale)
    # What was nested is renamed and reordered when flattened.
    if same and not name.startswith("nested"):
        assert [w.name for w in written.weights] == [w.name for w in model.weights]
        assert graph_keras.read(written) == graph


@BOTH
def test_hard_sigmoid_stays_the_same_function(k):
    # 0.2 * 2 + 0.5 in tf_keras, (2 + 3) / 6 in Keras 3.
    truth = 0.9 if k is tf_keras else 5 / 6
    x = k.Input((1,))
    model = k.Model(x, k.layers.Activation("hard_sigmoid")(x))
    for target in ("tf_keras", "keras"):
        written = graph_keras.write(graph_keras.read(model), target)
        np.testing.assert_allclose(
            written(np.array([[2.0]], "float32")), [[truth]], rtol=1e-6
        )


@BOTH
def test_nested_models_are_flat_and_shared_layers_are_one(k):
    graph = graph_keras.read(models.nested(k))
    calls = [node.layer for node in graph.nodes]
    assert calls.count("shared") == 2
    assert sum(layer.op == "Dense" for layer in graph.layers.values()) == 4
    assert "two_dense" in graph.layers or "inner_dense" in graph.layers
    assert set(graph.outputs) == {"joined", "added", "squared"}
    product = next(n for n in graph.nodes if graph.layer_of(n).op == "Multiply")
    assert product.inputs[0] == product.inputs[1]


@BOTH
def test_training_argument_of_a_nested_model_is_kept(k):
    graph = graph_keras.read(models.nested(k))
    kwargs = {node.layer: node.kwargs for node in graph.nodes}
    frozen = [name for name in kwargs if name.startswith(("batch_norm", "dropout"))]
    assert len(frozen) == 2
    assert all(kwargs[name] == {"training": False} for name in frozen)


def test_batch_norm_of_a_frozen_base_does_not_learn_in_tf_keras():
    # Keras 3.15 lets the outer call's training=True win, so only tf_keras keeps it.
    model = models.randomize(models.nested(tf_keras))
    written = graph_keras.to_tf_keras(model)
    inputs = models.random_inputs(model)
    before = models.outputs(written, inputs)
    models.outputs(written, inputs, training=True)
    for old, new in zip(before, models.outputs(written, inputs), strict=True):
        np.testing.assert_array_equal(old, new)


@BOTH
def test_written_model_trains_like_the_original(k):
    x = k.Input((6,))
    y = k.layers.BatchNormalization()(k.layers.Dense(4, activation="tanh")(x))
    model = models.randomize(k.Model(x, k.layers.Dense(1)(y)))
    written = graph_keras.write(graph_keras.read(model), k.__name__)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, 6)), rng.normal(size=(32, 1))
    for each in (model, written):
        each.compile(k.optimizers.SGD(0.1), "mse", jit_compile=False)
        each.fit(*data, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for wanted, got in zip(model.get_weights(), written.get_weights(), strict=True):
        np.testing.assert_array_equal(wanted, got)


@BOTH
def test_frozen_layers_stay_frozen(k):
    x = k.Input((6,))
    model = k.Model(x, k.layers.Dense(2, name="last")(k.layers.Dense(4)(x)))
    model.layers[1].trainable = False
    graph = graph_keras.read(model)
    assert [layer.trainable for layer in graph.layers.values()][1:] == [False, True]
    written = graph_keras.write(graph, k.__name__)
    assert len(written.trainable_weights) == 2


@BOTH
def test_custom_layer_is_kept_by_its_config(k):
    class Scale(k.layers.Layer):
        def __init__(self, start=1.0, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def build(self, shape):
            self.factor = self.add_weight(name="factor", shape=(shape[-1],))

        def call(self, x):
            return x * self.factor * self.start

        def get_config(self):
            return {**super().get_config(), "start": self.start}

    x = k.Input((3,))
    model = models.randomize(k.Model(x, Scale(start=2.0)(x)))
    graph = graph_keras.read(model)
    assert graph.layers[model.layers[1].name].keras_class is Scale
    written = graph_keras.write(graph, k.__name__)
    inputs = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(model(inputs), written(inputs))
    other = "keras" if k is tf_keras else "tf_keras"
    with pytest.raises(errors.GraphError, match="cannot be built"):
        graph_keras.write(graph, other)


def _sequence(k, *layers, shape=(6, 8)):
    x = y = k.Input(shape)
    for layer in layers:
        y = layer(y)
    return k.Model(x, y)


def _attention(k):
    x = k.Input((6, 8))
    y = k.layers.MultiHeadAttention(2, 4)(x, value=x)
    return k.Model(x, k.layers.LayerNormalization()(x + y))


OTHERS = {
    "attention": _attention,
    "bidirectional": lambda k: _sequence(
        k, k.layers.Bidirectional(k.layers.LSTM(5)), k.layers.Dense(2)
    ),
    "conv1d": lambda k: _sequence(
        k,
        k.layers.ZeroPadding1D(1),
        k.layers.Conv1D(5, 3, padding="causal"),
        k.layers.MaxPooling1D(2),
    ),
    "initializers": lambda k: _sequence(
        k,
        k.layers.Dense(
            3,
            kernel_regularizer=k.regularizers.L1L2(1e-4, 1e-3),
            kernel_constraint=k.constraints.MaxNorm(2.0),
            kernel_initializer=k.initializers.HeNormal(seed=3),
        ),
    ),
    "lambda": lambda k: _sequence(k, k.layers.Lambda(lambda t: t * 2.0)),
    "normalization": lambda k: _sequence(
        k, k.layers.Normalization(mean=[1.0] * 8, variance=[2.0] * 8)
    ),
    "recurrent": lambda k: _sequence(
        k, k.layers.LSTM(5, return_sequences=True), k.layers.GRU(4)
    ),
    "time_distributed": lambda k: _sequence(
        k, k.layers.TimeDistributed(k.layers.Dense(5))
    ),
}


@BOTH
@pytest.mark.parametrize("name", OTHERS)
def test_layers_that_no_rule_knows_are_carried(name, k):
    model = models.randomize(OTHERS[name](k))
    graph = graph_keras.read(model)
    assert graph == graph_keras.read(model)
    inputs = models.random_inputs(model)
    wanted = models.outputs(model, inputs)[0]
    trained = [np.array(w) for w in model.trainable_weights]
    found = [
        weight
        for layer in graph.layers.values()
        for name, weight in layer.weights.items()
        if name not in layer.state
    ]
    for one, other in zip(trained, found, strict=True):
        np.testing.assert_array_equal(one, other)
    for target in ("tf_keras", "keras"):
        got = models.outputs(graph_keras.write(graph, target), inputs)[0]
        same = target == k.__name__
        assert (
            np.abs(wanted - got).max() <= (0 if same else 1e-6) * np.abs(wanted).max()
        )


@BOTH
def test_users_own_activation_is_kept(k):
    def bend(x):
        return x * x + 1.0

    x = k.Input((3,))
    model = models.randomize(k.Model(x, k.layers.Dense(2, activation=bend)(x)))
    written = graph_keras.write(graph_keras.read(model), k.__name__)
    inputs = models.random_inputs(model)
    np.testing.assert_array_equal(model(inputs), written(inputs))


@BOTH
def test_mixed_precision_policy_is_kept(k):
    x = k.Input((6,))
    model = k.Model(x, k.layers.Dense(4, dtype="mixed_bfloat16")(x))
    for target in ("tf_keras", "keras"):
        written = graph_keras.write(graph_keras.read(model), target)
        assert written.layers[1].compute_dtype == "bfloat16"
        assert written.layers[1].kernel.dtype == "float32"


def test_weights_of_the_graph_do_not_follow_the_model():
    x = tf_keras.Input((6,))
    model = tf_keras.Model(x, tf_keras.layers.Dense(4)(x))
    graph = graph_keras.read(model)
    before = graph.layers[model.layers[1].name].weights["kernel"].copy()
    model.layers[1].kernel.assign(np.zeros((6, 4)))
    after = graph.layers[model.layers[1].name].weights["kernel"]
    np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="read-only"):
        after[0, 0] = 1


@BOTH
def test_subclassed_model_is_refused_with_a_way_out(k):
    class Own(k.Model):
        def call(self, x):
            return x

    with pytest.raises(errors.GraphError, match="subclassed"):
        graph_keras.read(Own())


@BOTH
def test_sequential_without_input_is_refused_with_a_way_out(k):
    with pytest.raises(errors.GraphError, match="not built"):
        graph_keras.read(k.Sequential([k.layers.Dense(3)]))


def test_what_is_no_model_is_refused():
    with pytest.raises(errors.GraphError, match="no Keras model"):
        graph_keras.read("model.h5")
    with pytest.raises(errors.ConfigError, match="torch"):
        graph_keras.write(ir.Graph("m", {}, (), [], []), "torch")


@pytest.mark.parametrize(
    "target", [pytest.param("tf_keras", marks=pytest.mark.slow), "keras"]
)
def test_written_model_loads_without_tfslim(target, tmp_path):
    model = models.randomize(models.layers(tf_keras))
    written = graph_keras.write(graph_keras.read(model), target)
    path = tmp_path / "model.keras"
    written.save(path)
    inputs = models.random_inputs(model)
    np.save(tmp_path / "x.npy", inputs)
    code = f"""
import sys
import numpy as np
import {target}
model = {target}.models.load_model({str(path)!r})
np.save({str(tmp_path / "y.npy")!r}, model(np.load({str(tmp_path / "x.npy")!r})))
assert "tfslim" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(inputs), atol=1e-6)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    "name",
    """ConvNeXtTiny DenseNet121 EfficientNetB0 EfficientNetV2B0 InceptionResNetV2
    InceptionV3 MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small NASNetMobile
    ResNet50 ResNet50V2 VGG16 Xception""".split(),
)
def test_applications(name, k):
    build = getattr(k.applications, name)
    top = {"include_top": False} if name == "NASNetMobile" else {}
    model = build(input_shape=(96, 96, 3), weights=None, **top)
    if name != "InceptionResNetV2":  # Its forty additions overflow with random ones.
        models.randomize(model)
    graph = graph_keras.read(model)
    inputs = models.random_inputs(model, batch=1)
    wanted = models.outputs(model, inputs)[0]
    for target in ("tf_keras", "keras"):
        got = models.outputs(graph_keras.write(graph, target), inputs)[0]
        same = target == k.__name__
        assert (
            np.abs(wanted - got).max() <= (0 if same else 1e-5) * np.abs(wanted).max()
        )
