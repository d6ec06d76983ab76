import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tests.pruning.applications import randomize_norms
from tests.sparsity import sparsity_models as models
from tfslim import analysis, errors, sparsity, tflite


def _steps(model, file, x):
    """Returns the largest difference in steps of the output's quantization."""
    run = tflite.Runner(file)
    [name] = run.model.output_names
    found = np.concatenate([run(x[i : i + 1])[name] for i in range(len(x))])
    truth = np.asarray(model(x, training=False))
    last = [op for op in run.model.ops if op.name == "DEQUANTIZE"][-1]
    [scale] = run.model.tensors[last.inputs[0]].quantization.scale
    assert np.abs(truth).max() > 5 * scale
    return np.abs(truth - found).max() / scale


def _model(*stack, k=tf_keras, shape=(6, 6, 8)):
    x = inputs = k.Input(shape)
    # The layers make their weights when they are called.
    tf_keras.utils.set_random_seed(0)
    for layer in stack:
        x = layer(x)
    return randomize_norms(k.Model(inputs, x))


def _layers(kind, k=tf_keras):
    layers = k.layers
    return {
        "convolution": [
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        "mobile": [
            *(layers.Conv2D(8, 1, use_bias=False), layers.BatchNormalization()),
            *(layers.ReLU(6.0), layers.DepthwiseConv2D(3), layers.BatchNormalization()),
            *(layers.ReLU(6.0), layers.Conv2D(6, 1), layers.GlobalAveragePooling2D()),
        ],
        "transposed": [
            *(layers.Conv2DTranspose(8, 3, strides=2), layers.BatchNormalization()),
            *(layers.ReLU(), layers.Conv2DTranspose(4, 3, padding="same")),
        ],
        "dense": [
            *(layers.Flatten(), layers.Dense(16), layers.BatchNormalization()),
            *(layers.ReLU(), layers.Dense(5, activation="tanh"), layers.Dense(4)),
        ],
        "separable": [
            layers.SeparableConv2D(8, 3, activation="relu"),
            *(layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)),
        ],
        "activations": [
            *(layers.Conv2D(8, 1, activation="gelu"), layers.PReLU(), layers.ELU()),
            *(layers.LeakyReLU(), layers.Conv2D(4, 1)),
        ],
        "before": [layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(4, 3)],
        "norm": [layers.Conv2D(8, 1), layers.LayerNormalization(), layers.Conv2D(4, 1)],
        "padded": [
            *(layers.ZeroPadding2D(), layers.Conv2D(4, 3), layers.AveragePooling2D()),
            *(layers.UpSampling2D(interpolation="bilinear"), layers.Conv2D(4, 1)),
        ],
    }[kind]


KINDS = "convolution mobile transposed dense separable activations before norm padded"


@pytest.mark.parametrize("kind", KINDS.split())
def test_file_computes_what_was_trained(kind):
    model = _model(*_layers(kind))
    with sparsity.quantize_aware(model) as training:
        models.fit(training, learning_rate=1e-4, steps=3)
    file = tfslim.convert_quantized(training.result).tflite
    x, _ = models.data(model)
    # The runtime rounds after each op, the fake quantization once per tensor; a norm
    # makes small differences larger.
    assert _steps(training.result, file, x) < (6.01 if kind == "norm" else 4.01)
    kernels = analysis.read_sparsity(file)
    assert kernels and all(kernel.dtype == "int8" for kernel in kernels)
    if kind != "norm":  # LayerNormalization is made of ten ops.
        assert tflite.coverage(file).is_whole


def _hard(k):
    tf_keras.utils.set_random_seed(0)
    x = inputs = k.Input((5, 5, 4))
    x = k.layers.Conv2D(8, 3, padding="same")(x)
    y = k.layers.Conv2D(8, 1)(x)
    if k is keras:
        y = k.layers.Activation("hard_silu")(y)
        gate = k.layers.Activation("hard_sigmoid")(k.layers.Conv2D(8, 1)(x))
    else:
        y = y * (k.layers.ReLU(6.0)(y + 3.0) * (1 / 6))
        gate = k.layers.ReLU(6.0)(k.layers.Conv2D(8, 1)(x) + 3.0) * (1 / 6)
    x = k.layers.Add()([x, k.layers.Multiply()([y, gate])])
    x = k.layers.Concatenate()([x, y * 0.5])
    return k.Model(inputs, k.layers.Conv2D(3, 1)(x))


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_hard_swish_residuals_and_functions(k):
    # MobileNetV3 of keras.applications is made of these; TF-MOT itself fails on it.
    model = _hard(k)
    before = [np.array(w) for w in model.get_weights()]
    with sparsity.quantize_aware(model) as training:
        models.fit(training, learning_rate=1e-3, steps=3, graph=True)
    file = tfslim.convert_quantized(training.result).tflite
    x, _ = models.data(model)
    assert _steps(training.result, file, x) < 3.01
    assert tflite.coverage(file).is_whole
    assert "HARD_SWISH" in {op.name for op in tflite.read(file).ops}
    assert isinstance(training.result, tf_keras.Model)
    assert "tf_keras model" in training.report.notes[0]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_learning_rate_zero_rounds_the_original():
    model = _model(*_layers("mobile"))
    with sparsity.quantize_aware(model) as training:
        # Statistics of batch normalization must not move either.
        training.model.trainable = False
        x, _ = models.data(model)
        training.model(x, training=True)
    truth = model(x).numpy()
    found = training.result(x).numpy()
    assert 0 < np.abs(found - truth).max() < 0.05 * np.abs(truth).max()


@pytest.mark.parametrize("kind", ["mobile", "transposed", "separable"])
def test_zeros_are_kept_into_the_file(kind):
    model = _model(*_layers(kind))
    with sparsity.prune_magnitude(model, target=0.6, steps=1) as training:
        models.fit(training, steps=2)
    with sparsity.quantize_aware(training.result, keep="zeros") as training:
        models.fit(training, learning_rate=0.01, steps=3)
    file = tfslim.convert_quantized(training.result).tflite
    x, _ = models.data(model)
    assert _steps(training.result, file, x) < 3.01
    for kernel in analysis.read_sparsity(file):
        if kernel.op != "DEPTHWISE_CONV_2D":
            assert kernel.sparsity > 0.58, kernel.tensor


def test_without_keeping_zeros_are_lost():
    model = _model(*_layers("mobile"))
    with sparsity.prune_magnitude(model, target=0.6, steps=1) as training:
        models.fit(training, steps=2)
    with sparsity.quantize_aware(training.result) as training:
        models.fit(training, learning_rate=0.05, steps=3)
    file = tfslim.convert_quantized(training.result).tflite
    assert all(kernel.sparsity < 0.5 for kernel in analysis.read_sparsity(file))


@pytest.mark.parametrize(
    ("kind", "keep"),
    [("mobile", "clusters"), ("transposed", "both"), ("dense", "both")],
)
def test_clusters_are_kept_into_the_file(kind, keep):
    model = _model(*_layers(kind))
    pruned = model
    if keep == "both":
        with sparsity.prune_magnitude(model, target=0.5, steps=1) as training:
            models.fit(training, steps=2)
        pruned = training.result
    with sparsity.cluster_kernels(
        pruned, clusters=5, keep_zeros=keep == "both"
    ) as training:
        models.fit(training, steps=1)
    with sparsity.quantize_aware(training.result, keep=keep) as training:
        models.fit(training, learning_rate=0.01, steps=3)
    file = tfslim.convert_quantized(training.result).tflite
    for kernel in analysis.read_sparsity(file):
        if kernel.op == "DEPTHWISE_CONV_2D":
            continue
        # Every channel of a convolution has a scale of its own, and so other numbers.
        assert kernel.num_values_per_channel <= 5, kernel.tensor
        if keep == "both":
            assert kernel.sparsity > 0.48, kernel.tensor


def test_autoencoder_is_one_partition():
    model = randomize_norms(tfslim.build_model("autoencoder"))
    with sparsity.prune_magnitude(model, target=0.5, steps=1) as training:
        models.fit(training, steps=1)
    with sparsity.quantize_aware(training.result, keep="zeros") as training:
        models.fit(training, learning_rate=1e-3, steps=2)
    file = tfslim.convert_quantized(training.result, io="int8").tflite
    content = tflite.read(file)
    assert tflite.coverage(file).is_whole
    assert [op.name for op in content.ops] == ["CONV_2D"] * 2 + ["TRANSPOSE_CONV"] * 2
    assert {t.dtype for t in (*content.inputs, *content.outputs)} == {"int8"}


def test_ignored_layers_stay_float():
    model = _model(*_layers("mobile"))
    first = model.layers[1].name
    with sparsity.quantize_aware(model, ignore=[first]) as training:
        models.fit(training, steps=1)
    assert training.report.skipped == {first: "ignored as asked"}
    assert first not in training.report.layers
    file = tfslim.convert_quantized(training.result).tflite
    dtypes = [kernel.dtype for kernel in analysis.read_sparsity(file)]
    assert dtypes.count("float32") == 1


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
@pytest.mark.parametrize("keep", ["nothing", "both"])
def test_frozen_layers_do_not_move(k, keep):
    layers = k.layers
    stack = [
        layers.Conv2D(4, 1, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Flatten(),
        layers.Dense(4, name="free"),
        layers.Dense(3, name="head"),
        layers.Dense(2, name="ignored"),
    ]
    model = _model(*stack, k=k, shape=(3, 3, 2))
    for layer in stack:
        layer.trainable = layer.name == "free"
    before = {
        f"{layer.name}/{getattr(w, 'path', w.name).split('/')[-1].split(':')[0]}": w
        for layer in stack
        for w in layer.weights
    }
    if k is keras:
        before["depthwise/depthwise_kernel"] = before.pop("depthwise/kernel")
    with sparsity.quantize_aware(model, keep=keep, ignore=["ignored"]) as training:
        models.fit(training, learning_rate=0.1, steps=2, graph=True)
    after = {w.name.removesuffix(":0"): w for w in training.result.weights}
    moved = [n for n, w in before.items() if np.any(np.array(w) != after[n].numpy())]
    assert moved == ["free/kernel", "free/bias"]
    inner = {each.layer.name: each.layer for each in training.result.layers[2:-1]}
    assert [n for n in inner if inner[n].weights and inner[n].trainable] == ["free"]
    assert not training.result.layers[-1].trainable
    named = [n for n, what in training.report.layers.items() if "frozen" in what]
    assert named == ["conv", "depthwise", "head"]
    centroids = [w for w in training.result.trainable_weights if "centroid" in w.name]
    assert len(centroids) == (keep == "both")


def test_layers_with_several_arguments_stay_float():
    x = inputs = tf_keras.Input((6, 8))
    x = tf_keras.layers.Dense(8)(x)
    x = tf_keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(x))
    with sparsity.quantize_aware(model) as training:
        models.fit(training, steps=1)
    assert "cannot wrap MultiHeadAttention" in training.report.skipped["attention"]
    file = tfslim.convert_quantized(training.result).tflite
    x, _ = models.data(model, 1)
    [found] = tflite.run(file, x).values()
    np.testing.assert_allclose(found, training.result(x), atol=0.05)


@pytest.mark.slow
def test_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope(), sparsity.quantize_aware(_model(*_layers("mobile"))) as t:
        models.fit(t, steps=2, graph=True)
    assert tflite.coverage(tfslim.convert_quantized(t.result).tflite).is_whole


def test_forgotten_training_is_said():
    with pytest.raises(errors.ConfigError, match="No training step ran"):
        with sparsity.quantize_aware(_model(*_layers("mobile"))):
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "zeroes"}, "Did you mean 'zeros'"),
        ({"ignore": ["nothing*"]}, "Unknown layer to ignore 'nothing\\*'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        with sparsity.quantize_aware(_model(*_layers("mobile")), **options):
            pass
