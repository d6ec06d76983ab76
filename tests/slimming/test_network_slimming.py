"""The L1 penalty on batch-norm scales: in the loss, in both Keras, and out again."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import errors
from tfslim.slimming.penalty import gamma_histogram, slimming_penalty

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6, 6, 3)).astype(np.float32)
Y = np.arange(8) % 3
RATE = 0.5


def _model(k, **norm):
    k.utils.set_random_seed(0)
    layers = k.layers
    inner = k.Sequential(
        [
            layers.Input((4, 4, 4)),
            layers.Conv2D(5, 3, use_bias=False, name="conv2"),
            layers.BatchNormalization(name="bn2", momentum=0.5, **norm),
        ],
        name="inner",
    )
    return k.Sequential(
        [
            layers.Input((6, 6, 3)),
            layers.Conv2D(4, 3, name="conv1"),
            layers.BatchNormalization(name="bn1", momentum=0.5),
            layers.ReLU(),
            inner,
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )


def _fit(model, *callbacks, k, epochs=1, rate=RATE):
    model.compile(k.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks)
    ).history


def _gammas(model):
    return {
        "bn1": np.array(model.get_layer("bn1").gamma),
        "bn2": np.array(model.get_layer("inner").get_layer("bn2").gamma),
    }


@BOTH
@pytest.mark.parametrize("cached", [False, True], ids=["first fit", "traced before"])
@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_one_step_of_fit_equals_autodiff_of_the_penalized_loss(k, cached, eagerly):
    model = _model(k)
    start = model.get_weights()
    strength = 0.1
    variables = [getattr(v, "value", v) for v in model.trainable_variables]
    if k is tf_keras:
        variables = model.trainable_variables
    scales = [v for v in model.trainable_variables if "gamma" in v.name]
    assert len(scales) == 2
    with tf.GradientTape() as tape:
        loss = k.losses.SparseCategoricalCrossentropy()(Y, model(X, training=True))
        # Written out: nothing of ours.
        loss += strength * sum(tf.reduce_sum(tf.abs(v + 0.0)) for v in scales)
    gradients = tape.gradient(loss, variables)
    expected = [
        np.array(v) - RATE * g.numpy()
        for v, g in zip(variables, gradients, strict=True)
    ]
    model.set_weights(start)
    if cached:
        _fit(model, k=k)
        model.set_weights(start)
    slimming = tfslim.callbacks.NetworkSlimming(strength)
    model.compile(
        k.optimizers.SGD(RATE),
        "sparse_categorical_crossentropy",
        run_eagerly=eagerly,
    )
    if cached:
        model.make_train_function()
    history = model.fit(X, Y, batch_size=8, verbose=0, callbacks=[slimming]).history
    for ours, theirs in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(np.array(ours), theirs, atol=1e-6)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)


@BOTH
def test_a_share_of_the_scales_is_pulled_and_the_others_are_not(k):
    """Four of nine scales, the smallest ones, as the step before left them."""
    model = _model(k)
    scales = {"bn1": [0.9, -0.1, 0.5, 2.0], "bn2": [0.2, 0.8, -0.3, 3.0, 1.0]}
    small = {"bn1": [0, 1, 0, 0], "bn2": [1, 0, 1, 0, 0]}
    small["bn1"][2] = 1  # 0.1, 0.2, 0.3 and 0.5.
    model.get_layer("bn1").gamma.assign(scales["bn1"])
    model.get_layer("inner").get_layer("bn2").gamma.assign(scales["bn2"])
    start, strength = model.get_weights(), 0.01
    _fit(model, k=k)
    free = _gammas(model)
    model.set_weights(start)
    slimming = tfslim.callbacks.NetworkSlimming(strength, share=4 / 9)
    _fit(model, slimming, k=k)
    pulled = _gammas(model)
    for name, values in scales.items():
        step = RATE * strength * np.sign(values) * small[name]
        np.testing.assert_allclose(free[name] - pulled[name], step, atol=1e-6)
    model.set_weights(start)
    penalty = slimming_penalty(model, strength, share=4 / 9)
    assert float(penalty) == pytest.approx(strength * (0.1 + 0.2 + 0.3 + 0.5))
    # Measured after the step, in which four others may be the smallest.
    after = np.sort(np.abs(np.concatenate([*pulled.values()])))
    measured = slimming.history[0]["penalty"]
    assert measured == pytest.approx(strength * after[:4].sum(), rel=1e-5)


@BOTH
@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_of_equal_scales_only_the_share_is_pulled(k, eagerly):
    """Nine scales of 1, as every network begins; three are meant, of both layers."""
    model, strength = _model(k), 0.01
    start = model.get_weights()
    _fit(model, k=k)
    free = np.concatenate([*_gammas(model).values()])
    model.set_weights(start)
    slimming = tfslim.callbacks.NetworkSlimming(strength, share=1 / 3)
    model.compile(
        k.optimizers.SGD(RATE), "sparse_categorical_crossentropy", run_eagerly=eagerly
    )
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[slimming])
    pulled = (free - np.concatenate([*_gammas(model).values()])) / (RATE * strength)
    np.testing.assert_allclose(pulled, pulled.round(), atol=1e-3)
    assert sorted(pulled.round()) == [0] * 6 + [1] * 3
    assert pulled[:4].any() and pulled[4:].any()
    model.set_weights(start)
    scales = [v for v in model.trainable_variables if "gamma" in v.name]
    scales = [v.value if k is keras else v for v in scales]
    with tf.GradientTape() as tape:
        penalty = slimming_penalty(model, 1.0, share=1 / 3)
    assert float(penalty) == 3
    found = np.concatenate([np.array(g) for g in tape.gradient(penalty, scales)])
    np.testing.assert_array_equal(found, pulled.round())


@pytest.mark.parametrize("share", [0.0, 1.01, float("nan")])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(errors.ConfigError, match=r"share must be in \(0, 1\]"):
        tfslim.callbacks.NetworkSlimming(share=share)
    with pytest.raises(errors.ConfigError, match="60%"):
        slimming_penalty(_model(tf_keras), 0.1, share=share)


@BOTH
def test_the_model_is_plain_afterwards(k, tmp_path):
    model, plain = _model(k), _model(k)
    loss = _fit(model, tfslim.callbacks.NetworkSlimming(1.0), k=k)["loss"][0]
    assert loss > 8  # Nine scales of about 1, and the cross-entropy.
    assert model.losses == []
    assert model.evaluate(X, Y, verbose=0) < 3
    plain.set_weights(model.get_weights())
    # A second fit of either takes the same step: nothing is left in the traced one.
    _fit(plain, k=k)
    model.fit(X, Y, batch_size=8, verbose=0)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    clone = k.models.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "m.keras")
    loaded = k.models.load_model(tmp_path / "m.keras")
    for other in (clone, loaded):
        np.testing.assert_allclose(np.array(other(X)), np.array(model(X)), atol=1e-6)
        assert other.losses == []


@BOTH
def test_regularizers_of_the_users_own_stay(k):
    model = _model(k, gamma_regularizer=k.regularizers.L2(0.25))
    own = 0.25 * 5  # Five scales of 1.
    assert float(sum(model.losses)) == pytest.approx(own)
    seen = []

    class Look(tf_keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(float(sum(self.model.losses)))

    _fit(model, tfslim.callbacks.NetworkSlimming(0.1), Look(), k=k)
    assert seen == [pytest.approx(own + 0.1 * 9)]
    squares = float(np.square(_gammas(model)["bn2"]).sum())
    assert float(sum(model.losses)) == pytest.approx(0.25 * squares, rel=1e-5)


@BOTH
def test_schedules_reach_the_traced_step(k):
    strengths = []

    def schedule(epoch):
        strengths.append(epoch)
        return [0.0, 0.2, 0.0][epoch]

    slimming = tfslim.callbacks.NetworkSlimming(schedule=schedule)
    history = _fit(_model(k), slimming, k=k, epochs=3, rate=0.0)
    assert strengths == [0, 1, 2]
    assert [e["strength"] for e in slimming.history] == [0.0, pytest.approx(0.2), 0.0]
    # Nothing moves, so the loss differs by the penalty: nine scales of 1.
    penalties = np.array(history["loss"]) - history["loss"][0]
    np.testing.assert_allclose(penalties, [0.0, 1.8, 0.0], atol=1e-5)

    linear = tfslim.callbacks.NetworkSlimming(0.4, schedule="linear")
    _fit(_model(k), linear, k=k, epochs=4)
    assert [e["strength"] for e in linear.history] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )


@BOTH
def test_what_is_logged_is_what_the_model_has(k, tmp_path):
    model = _model(k)
    slimming = tfslim.callbacks.NetworkSlimming(
        0.2, threshold=0.9, log_dir=tmp_path, layers="bn1"
    )
    history = _fit(model, slimming, k=k, epochs=2)
    gamma = np.abs(_gammas(model)["bn1"])
    last = slimming.history[-1]
    assert history["gamma_sparsity"][-1] == last["sparsity"] == (gamma < 0.9).mean()
    assert last["penalty"] == pytest.approx(0.2 * gamma.sum(), rel=1e-6)
    counted = [
        int(((gamma >= e / 20) & (gamma < (e + 1) / 20)).sum()) for e in range(20)
    ]
    assert last["histogram"]["counts"] == [*counted, int((gamma >= 1).sum())]
    assert sum(gamma_histogram(model)["counts"]) == 9
    [events] = tmp_path.iterdir()
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert tags >= {"slimming/gamma", "slimming/sparsity", "slimming/penalty"}


def test_the_state_survives_json():
    slimming = tfslim.callbacks.NetworkSlimming(0.1, schedule="linear")
    _fit(_model(tf_keras), slimming, k=tf_keras, epochs=2)
    other = tfslim.callbacks.NetworkSlimming(0.1, schedule="linear")
    other.set_state(json.loads(json.dumps(slimming.get_state())))
    assert other.history == slimming.history
    assert other.strength_at(2, 4) == pytest.approx(0.075)


@BOTH
def test_patterns_and_frozen_layers(k):
    model = _model(k)
    assert float(slimming_penalty(model, 2.0)) == 18.0
    assert float(slimming_penalty(model, 2.0, layers="bn1")) == 8.0
    assert float(slimming_penalty(model, 2.0, layers=["*2", "bn1"])) == 18.0
    model.get_layer("bn1").trainable = False
    assert float(slimming_penalty(model, 2.0)) == 10.0
    slimming = tfslim.callbacks.NetworkSlimming(0.1)
    before = _gammas(model)["bn1"]
    _fit(model, slimming, k=k)
    assert slimming.skipped == {"bn1": "is frozen (trainable=False)"}
    np.testing.assert_array_equal(_gammas(model)["bn1"], before)


@BOTH
def test_layers_of_one_name_in_several_models(k):
    def part(name, size):
        layers = k.layers
        norm = layers.BatchNormalization(name="bn")
        return k.Sequential([layers.Input((3,)), layers.Dense(size), norm], name=name)

    parts = [part("A", 4), part("B", 5)]
    x = inputs = k.Input((3,))
    x = k.layers.Concatenate()([each(x) for each in parts])
    model = k.Model(inputs, k.layers.Dense(2, name="head")(x))
    assert float(slimming_penalty(model, 1.0)) == 4 + 5
    assert float(slimming_penalty(model, 1.0, layers="B/*")) == 5
    model.compile("sgd", "mse")
    slimming = tfslim.callbacks.NetworkSlimming(1.0)
    data = np.zeros((2, 3)), np.zeros((2, 2))
    history = model.fit(*data, verbose=0, callbacks=[slimming]).history
    # The inputs are zero and so is every output: all that is left is the penalty.
    assert history["loss"] == [pytest.approx(9)]
    parts[0].get_layer("bn").trainable = False
    model.compile("sgd", "mse")
    model.fit(*data, verbose=0, callbacks=[slimming])
    assert slimming.skipped == {"A/bn": "is frozen (trainable=False)"}


@BOTH
def test_a_step_of_ones_own(k):
    """The same as `fit` with the callback, in a `tf.function`."""
    by_fit, by_hand = _model(k), _model(k)
    by_hand.set_weights(by_fit.get_weights())
    _fit(by_fit, tfslim.callbacks.NetworkSlimming(0.1), k=k)
    optimizer = k.optimizers.SGD(RATE)
    loss_fn = k.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, by_hand(x, training=True))
            loss += tfslim.callbacks.slimming_penalty(by_hand, 0.1)
        weights = by_hand.trainable_weights
        optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )

    step(X, Y)
    for a, b in zip(by_fit.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@BOTH
def test_without_a_scale_to_penalize(k):
    with pytest.raises(errors.ConfigError, match=r"bn9.*bn1"):
        slimming_penalty(_model(k), 0.1, layers="bn9")
    flat = _model(k, scale=False)
    assert float(slimming_penalty(flat, 1.0)) == 4.0
    with pytest.raises(errors.ConfigError, match=r"bn2 has no scale \(scale=False\)"):
        slimming_penalty(flat, 0.1, layers="bn2")
    dense = k.Sequential([k.layers.Input((3,)), k.layers.Dense(2)])
    with pytest.raises(errors.ConfigError, match="has no batch normalization"):
        slimming_penalty(dense, 0.1)


@BOTH
def test_a_model_without_weights_yet(k):
    norm = k.layers.BatchNormalization(name="bn")
    model = k.Sequential([k.layers.Dense(3), norm])
    model.compile("sgd", "mse")
    slimming = tfslim.callbacks.NetworkSlimming(0.1)
    with pytest.raises(errors.ConfigError, match=r"bn is not built yet.*on a batch"):
        model.fit(X[:, 0, 0], X[:, 0, 0], verbose=0, callbacks=[slimming])


def test_bad_options():
    for options, message in [
        ({"strength": -1.0}, "at least 0, got -1.0"),
        ({"strength": float("nan")}, "at least 0, got nan"),
        ({"schedule": "linaer"}, "linear"),
        ({"threshold": 0.0}, "threshold must be above 0"),
    ]:
        with pytest.raises(errors.ConfigError, match=message):
            tfslim.callbacks.NetworkSlimming(**options)
    for wrong in (-1.0, float("nan"), tf.constant(-1.0)):
        with pytest.raises(errors.ConfigError, match="at least 0, got"):
            slimming_penalty(_model(tf_keras), wrong)
    falling = tfslim.callbacks.NetworkSlimming(schedule=lambda epoch: -1.0)
    with pytest.raises(errors.ConfigError, match="at least 0"):
        falling.strength_at(0, 1)


def test_a_training_that_broke_off_leaves_nothing_behind_for_the_next():
    model = _model(tf_keras)
    slimming = tfslim.callbacks.NetworkSlimming(1.0)

    class Stop(tf_keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(model, slimming, Stop(), k=tf_keras)
    assert len(model.losses) == 1
    _fit(model, slimming, k=tf_keras)
    assert model.losses == []


def test_a_killed_fit_goes_on_with_the_penalty(tmp_path):
    def run(*more, folder):
        model = _model(tf_keras)
        slimming = tfslim.callbacks.NetworkSlimming(0.1, schedule="linear")
        tfslim.fit(
            model,
            (X, Y),
            task="classification",
            epochs=4,
            batch_size=4,
            backup_dir=folder,
            callbacks=[slimming, *more],
        )
        return model, slimming

    class Kill(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    whole, expected = run(folder=tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(Kill(), folder=tmp_path / "b")
    again, found = run(folder=tmp_path / "b")
    assert [e["epoch"] for e in found.history] == [0, 1, 2, 3]
    assert found.history == expected.history
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.losses == []


def test_checkpoints_within_the_training_load(tmp_path):
    for name in ("saved_model", "m.keras"):
        model = _model(tf_keras)
        keep = tf_keras.callbacks.ModelCheckpoint(str(tmp_path / name))
        _fit(model, tfslim.callbacks.NetworkSlimming(0.1), keep, k=tf_keras)
        loaded = tf_keras.models.load_model(tmp_path / name, compile=False)
        np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
        # A SavedModel keeps losses, as it does those of regularizers.
        assert len(loaded.losses) == (name == "saved_model")
        assert not hasattr(model, "penalty_strength")
