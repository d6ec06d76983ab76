import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.sparsity import sparsity_models as models
from tfslim import errors, sparsity
from tfslim.graph import keras as graph_keras
from tfslim.sparsity import masks, padding, prune
from tfslim.sparsity.library import tfmot

PRUNED = ["conv", "conv1d", "dense", "separable", "transposed"]


@pytest.fixture(scope="module")
def model():
    return models.kinds()


def _copied(arrays):
    return [np.array(array) for array in arrays]


@pytest.mark.parametrize(
    ("k", "schedule"), [(tf_keras, "polynomial"), (keras, "constant")]
)
def test_smallest_weights_are_zero(k, schedule):
    model = models.kinds(k)
    before = _copied(model.get_weights())
    truth = models.kernels(model)
    with sparsity.prune_magnitude(
        model, target=0.7, schedule=schedule, steps=3
    ) as training:
        models.fit(training, graph=True)
    result = models.kernels(training.result)
    for name in PRUNED:
        kept = max(round(truth[name].size * 0.3), 1)
        order = np.argsort(-np.abs(truth[name]).reshape(-1))
        expected = np.zeros(truth[name].size, np.float32)
        expected[order[:kept]] = truth[name].reshape(-1)[order[:kept]]
        np.testing.assert_array_equal(result[name].reshape(-1), expected)
    np.testing.assert_array_equal(result["depthwise"], truth["depthwise"])
    # Model, Keras and what else it computes are as before; the original is not touched.
    assert type(training.result) is type(model)
    assert [layer.name for layer in training.result.layers if layer.weights] == [
        layer.name for layer in model.layers if layer.weights
    ]
    for a, b in itertools.zip_longest(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert set(training.report.layers) == set(PRUNED)
    assert list(training.report.skipped) == ["depthwise"]
    assert "70% zeros" in str(training.report)


def test_result_computes_what_the_trained_model_does():
    model = models.kinds()
    with sparsity.prune_magnitude(model, target=0.5, steps=2) as training:
        models.fit(training, learning_rate=0.01)
    x, _ = models.data(model)
    np.testing.assert_allclose(
        training.result(x), training.model(x, training=False), rtol=1e-5, atol=1e-6
    )
    assert np.any(models.kernels(training.result)["conv"] != 0)


@pytest.mark.parametrize("trained", [1, 4, 8])
def test_sparsity_rises_as_zhu_and_gupta_have_it(trained):
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((50,)), tf_keras.layers.Dense(40)]
    )
    with sparsity.prune_magnitude(model, target=0.8, steps=6) as training:
        models.fit(training, steps=trained)
    [kernel] = models.kernels(training.result).values()
    share = 0.8 * (1 - (1 - min(trained, 6) / 6) ** 3)
    unfinished = f"not reached: {trained} of 6 steps" in str(training.report)
    assert unfinished == (trained < 6)
    assert np.sum(kernel == 0) == pytest.approx(kernel.size * share, abs=1)


@pytest.mark.parametrize(("m", "n"), [(2, 4), (1, 3)])
def test_m_by_n_keeps_the_largest_of_each_group(model, m, n):
    truth = models.kernels(model)
    with sparsity.prune_m_by_n(model, m=m, n=n) as training:
        models.fit(training, steps=1)
    result = models.kernels(training.result)
    for name in PRUNED:
        before = models.by_input(truth[name], name)
        after = models.by_input(result[name], name)
        for row, found in zip(
            before.reshape(-1, before.shape[-1]),
            after.reshape(-1, after.shape[-1]),
            strict=True,
        ):
            for start in range(0, len(row), n):
                group = row[start : start + n]
                kept = np.argsort(-np.abs(group))[: n - m]
                expected = np.zeros_like(group)
                expected[kept] = group[kept]
                np.testing.assert_array_equal(found[start : start + n], expected)


def test_m_by_n_leaves_short_groups_alone():
    x = inputs = tf_keras.Input((4, 4, 3))
    x = tf_keras.layers.Conv2D(8, 1, name="stem")(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(4, 1, name="head")(x))
    with sparsity.prune_m_by_n(model) as training:
        models.fit(training, steps=1)
    assert training.report.skipped == {"stem": "3 input channels make no group of 4"}


@pytest.mark.parametrize("block", [(1, 4), (3, 5)])
def test_blocks_with_the_smallest_means_are_zero(model, block):
    truth = models.kernels(model)
    with sparsity.prune_blocks(
        model, target=0.5, block=block, schedule="constant", steps=1
    ) as training:
        models.fit(training, steps=1)
    result = models.kernels(training.result)
    height, width = block
    for name in PRUNED:
        before = np.swapaxes(models.by_input(truth[name], name), 1, 2)
        after = np.swapaxes(models.by_input(result[name], name), 1, 2)
        places = list(
            itertools.product(
                range(before.shape[0]),
                range(0, before.shape[1], height),
                range(0, before.shape[2], width),
            )
        )
        means = {
            (p, i, o): np.abs(before[p, i : i + height, o : o + width]).mean()
            for p, i, o in places
        }
        kept = sorted(means, key=means.get)[-max(round(len(places) * 0.5), 1) :]
        expected = np.zeros_like(before)
        for p, i, o in kept:
            where = (p, slice(i, i + height), slice(o, o + width))
            expected[where] = before[where]
        np.testing.assert_array_equal(after, expected, err_msg=name)


def test_blocks_of_dense_layers_are_tfmots_own():
    def dense():
        tf_keras.utils.set_random_seed(3)
        return tf_keras.Sequential(
            [tf_keras.layers.Input((16,)), tf_keras.layers.Dense(12)]
        )

    own = dense()
    with sparsity.prune_blocks(
        own, target=0.6, block=(2, 4), schedule="constant", steps=1
    ) as training:
        models.fit(training, steps=1)
    stock = tfmot.sparsity.keras.prune_low_magnitude(
        dense(),
        tfmot.sparsity.keras.ConstantSparsity(0.6, begin_step=1, frequency=1),
        block_size=(2, 4),
    )
    stock.compile(tf_keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    x, y = models.data(own)
    stock.fit(x, y, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    truth = tfmot.sparsity.keras.strip_pruning(stock)
    np.testing.assert_array_equal(
        models.kernels(training.result)[own.layers[0].name],
        truth.layers[0].kernel.numpy(),
    )


def test_own_loop_without_callbacks():
    model = models.kinds()
    x, y = models.data(model)
    with sparsity.prune_magnitude(model, target=0.6, steps=2) as training:
        optimizer = tf_keras.optimizers.SGD(0.01)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((training.model(x, training=True) - y) ** 2)
            weights = training.model.trainable_variables
            gradients = tape.gradient(loss, weights)
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
            training.step()
            conv = training.model.get_layer("prune_low_magnitude_conv").layer.kernel
        assert np.mean(conv.numpy() == 0) == pytest.approx(0.6, abs=0.01)
    assert np.mean(models.kernels(training.result)["dense"] == 0) == 0.6


def test_shared_and_frozen_layers():
    layers = tf_keras.layers
    first, second = tf_keras.Input((6,)), tf_keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    frozen = layers.Dense(4, name="frozen", trainable=False)
    total = layers.Add()([shared(first), shared(second)])
    model = tf_keras.Model([first, second], frozen(total))
    with sparsity.prune_magnitude(model, target=0.5, steps=1) as training:
        training.model.compile("sgd", "mse")
        x = np.ones((4, 6), np.float32)
        training.model.fit([x, x], np.ones((4, 4)), verbose=0)
    result = models.kernels(training.result)
    assert np.sum(result["shared"] == 0) == 18
    assert np.all(result["frozen"] != 0)
    assert training.report.skipped == {"frozen": "frozen (trainable=False)"}


def test_one_name_to_ignore_is_not_read_letter_by_letter():
    with sparsity.prune_m_by_n(models.kinds(), ignore="conv") as training:
        models.fit(training, steps=1)
    assert training.report.skipped["conv"] == "ignored as asked"
    assert "conv1d" in training.report.layers


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_layers_whose_kernels_belong_to_others_inside_are_told_of(k):
    x = inputs = k.Input((6, 8))
    x = k.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = k.layers.GRU(4, name="gru")(x)
    model = k.Model(inputs, k.layers.Dense(3, name="dense")(x))
    with sparsity.prune_magnitude(model, target=0.5, steps=1) as training:
        models.fit(training, steps=1)
    assert training.report.skipped == {
        "attention": "TF-MOT does not treat MultiHeadAttention",
        "gru": "TF-MOT does not treat GRU",
    }


def test_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    model = models.kinds()
    with strategy.scope(), sparsity.prune_m_by_n(model) as training:
        models.fit(training, steps=2, learning_rate=0.01, graph=True)
    assert np.mean(models.kernels(training.result)["conv"] == 0) == 0.5


def test_wrapper_survives_a_copy():
    layer = tf_keras.layers.Dense(4)
    pattern = masks.Pattern(m_by_n=(1, 2), block=(2, 3))
    wrapper = masks.PatternPruneLowMagnitude(layer, pattern=pattern)
    copy = masks.PatternPruneLowMagnitude.from_config(wrapper.get_config())
    assert copy.pattern == pattern


def _strided(size, kernel, *, explicit):
    x = inputs = tf_keras.Input((size, size, 3))
    if explicit:
        pad = kernel // 2
        x = tf_keras.layers.ZeroPadding2D(((pad - 1, pad), (pad - 1, pad)))(x)
    side = "valid" if explicit else "same"
    x = tf_keras.layers.Conv2D(4, kernel, strides=2, padding=side, name="conv")(x)
    x = tf_keras.layers.DepthwiseConv2D(
        kernel, strides=2, padding="same", name="depthwise"
    )(x)
    return tf_keras.Model(inputs, x)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_symmetric_padding_is_explicit_padding(kernel, explicit):
    model = _strided(12, kernel, explicit=explicit)
    graph = padding.symmetric(graph_keras.read(model))
    padded = graph_keras.write(graph, "tf_keras")
    x, _ = models.data(model)
    pads = [[0, 0], [kernel // 2] * 2, [kernel // 2] * 2, [0, 0]]
    conv, depthwise = model.get_layer("conv"), model.get_layer("depthwise")
    truth = tf.nn.conv2d(x, conv.kernel, 2, pads) + conv.bias
    truth = tf.nn.depthwise_conv2d(
        truth, depthwise.depthwise_kernel, (1, 2, 2, 1), pads
    )
    assert padded.output_shape == model.output_shape
    np.testing.assert_allclose(padded(x), truth + depthwise.bias, atol=1e-5)


def test_symmetric_padding_of_odd_images_changes_nothing():
    model = _strided(9, 3, explicit=False)
    graph = padding.symmetric(graph_keras.read(model))
    x, _ = models.data(model)
    np.testing.assert_allclose(
        graph_keras.write(graph, "tf_keras")(x), model(x), atol=1e-6
    )


def _mobile(*between):
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(x)
    for layer in between:
        x = layer(x)
    x = layers.Conv2D(16, 1, name="pointwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(4, name="head")(x))


def test_xnnpack_knows_a_hard_swish_of_layers():
    """TF-MOT's policy refuses Rescaling, which is a multiplication and an addition."""
    layers = tf_keras.layers
    model = _mobile(layers.Rescaling(1.0, 3.0, name="shift"), layers.ReLU(6.0))
    with sparsity.prune_for_xnnpack(
        model, target=0.75, steps=1, symmetric_padding=True
    ) as training:
        models.fit(training, steps=1)
    assert np.mean(models.kernels(training.result)["pointwise"] == 0) == 0.75
    rescaling = training.result.get_layer("shift")
    assert (rescaling.scale, rescaling.offset) == (1.0, 3.0)
    with pytest.raises(errors.ConfigError, match="Layer Softmax is not supported"):
        with sparsity.prune_for_xnnpack(
            _mobile(layers.Softmax()), steps=1, symmetric_padding=True
        ):
            pass


def test_xnnpack_prunes_pointwise_convolutions_alone():
    model = _mobile()
    with pytest.raises(errors.ConfigError, match="symmetric_padding mends"):
        with sparsity.prune_for_xnnpack(model, steps=1):
            pass
    with sparsity.prune_for_xnnpack(
        model, target=0.75, steps=1, symmetric_padding=True
    ) as training:
        models.fit(training, steps=1)
    zeros = {k: np.mean(v == 0) for k, v in models.kernels(training.result).items()}
    assert zeros.pop("pointwise") == 0.75
    assert not any(zeros.values())
    assert training.report.skipped["head"] == "no 1x1 convolution"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, r"target must be in \(0, 1\), got .*share of zeros"),
        ({"target": 80}, r"target must be in \(0, 1\), got .*share of zeros"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"schedule": "polynomal"}, "Did you mean 'polynomial'"),
        ({"ignore": ["konv"]}, "Did you mean 'conv'"),
        ({"ignore": ["*"]}, "No layer of .* can be treated"),
    ],
)
def test_bad_options(options, message):
    model = models.kinds()
    with pytest.raises(errors.ConfigError, match=message):
        with sparsity.prune_magnitude(model, **{"steps": 1, **options}):
            pass


def test_bad_patterns():
    model = models.kinds()
    with pytest.raises(errors.ConfigError, match="0 < m < n, got 4 and 4"):
        with sparsity.prune_m_by_n(model, m=4, n=4):
            pass
    with pytest.raises(errors.ConfigError, match="not both 1"):
        with sparsity.prune_blocks(model, steps=1, block=(1, 1)):
            pass


def test_forgotten_training_is_said():
    with pytest.raises(errors.ConfigError, match="no training step ran"):
        with sparsity.prune_magnitude(models.kinds(), steps=1):
            pass


def test_result_is_known_after_the_block_only():
    with sparsity.prune_m_by_n(models.kinds()) as training:
        with pytest.raises(errors.ConfigError, match="ask for it after"):
            _ = training.result
        models.fit(training, steps=1)
    assert training.result is not None


def test_an_error_inside_is_not_hidden():
    with pytest.raises(KeyError, match="mine"):
        with sparsity.prune_m_by_n(models.kinds()):
            raise KeyError("mine")


@pytest.mark.parametrize("steps", [1, 7, 100, 250, 999])
def test_last_update_has_the_target(steps):
    schedule = prune.make_schedule("polynomial", 0.9, steps=steps)
    updates = [s for s in range(1, steps + 1) if bool(schedule(tf.constant(s))[0])]
    assert float(schedule(tf.constant(updates[-1]))[1]) == pytest.approx(0.9)
    assert len(updates) <= 200
