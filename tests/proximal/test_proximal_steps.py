"""Proximal operators against closed forms, and optimizers that take their steps."""

import itertools
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy import optimize

import tfslim
from tfslim import errors
from tfslim.proximal import operators

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6, 6, 3)).astype(np.float32)
Y = np.arange(8) % 3
ROOT = Path(__file__).parents[2]


def _soft(w, t):
    """Soft thresholding, one number at a time."""
    return np.array(
        [
            v - s if v > s else v + s if v < -s else 0.0
            for v, s in zip(
                np.ravel(w), np.ravel(np.broadcast_to(t, w.shape)), strict=True
            )
        ]
    ).reshape(w.shape)


def _shrink(w, t):
    """The group lasso's prox of a matrix whose columns are the groups."""
    out = np.zeros_like(w)
    for j in range(w.shape[1]):
        norm = np.sqrt((w[:, j].astype(float) ** 2).sum())
        limit = t * np.sqrt(w.shape[0])
        if norm > limit:
            out[:, j] = w[:, j] * (norm - limit) / norm
    return out


# --- operators ------------------------------------------------------------------


def test_soft_threshold():
    w = tf.constant([-3.0, -0.5, 0.0, 0.5, 0.500001, 2.0])
    got = operators.soft_threshold(w, 0.5).numpy()
    np.testing.assert_allclose(got, [-2.5, 0, 0, 0, 1e-6, 1.5], atol=1e-7)
    assert (got[1:4] == 0.0).all()


def test_group_soft_threshold_by_hand():
    # Two filters of four weights: norms 5 and 0.5, sqrt(4) * 0.5 = 1.
    w = np.zeros((2, 2, 1, 2), np.float32)
    w[0, 0, 0], w[1, 1, 0] = (3.0, 0.3), (4.0, 0.4)
    got = operators.group_soft_threshold(tf.constant(w), 0.5, axes=[3]).numpy()
    np.testing.assert_allclose(got[..., 0], w[..., 0] * 0.8, rtol=1e-6)
    assert (got[..., 1] == 0.0).all()
    # The other axis as the group's.
    columns = RNG.normal(size=(7, 5)).astype(np.float32)
    rows = operators.group_soft_threshold(tf.constant(columns.T), 0.3, axes=[0]).numpy()
    np.testing.assert_allclose(rows.T, _shrink(columns, 0.3), atol=1e-6)
    zeros = operators.group_soft_threshold(tf.zeros((3, 2)), 0.0, axes=[1]).numpy()
    assert (zeros == 0.0).all()


def test_a_step_on_the_smallest_weights_minimizes_the_trimmed_penalty():
    """Tries every choice of the three of seven weights that the penalty counts."""
    w = np.array([0.9, -0.2, 0.5, 0.05, -1.5, 0.3, 0.7])
    values = tf.constant(w, tf.float32)

    def objective(u):
        return 0.5 * ((u - w) ** 2).sum() + 0.25 * np.sort(np.abs(u))[:3].sum()

    tried = []
    for chosen in itertools.combinations(range(7), 3):
        u = w.copy()
        u[list(chosen)] = _soft(w[list(chosen)], 0.25)
        tried.append((objective(u), u))
    best = min(tried, key=lambda pair: pair[0])[1]
    mask = operators.smallest(values, 3 / 7, axes=None)
    ours = tf.where(mask, operators.soft_threshold(values, 0.25), values).numpy()
    np.testing.assert_allclose(ours, best, atol=1e-6)
    assert (ours == 0.0).sum() == 2


@BOTH
@pytest.mark.parametrize("penalty", ["l1", "group_lasso"])
def test_a_share_leaves_the_larger_part_of_each_kernel_alone(k, penalty):
    model = _model(k)
    before = _weights(model)
    tfslim.optimizers.proximal_step(
        model, 1.0, strength=0.1, penalty=penalty, share=0.5, layers=["conv", "head"]
    )
    for i, (old, new) in enumerate(zip(before, _weights(model), strict=True)):
        if i not in (0, 8):
            np.testing.assert_array_equal(new, old)
            continue
        columns = old.reshape(-1, old.shape[-1])
        if penalty == "l1":
            order = np.argsort(np.abs(columns), axis=None)
            expected = columns.ravel().copy()
            moved = order[: round(old.size / 2)]
            expected[moved] = _soft(expected[moved], 0.1)
        else:
            order = np.argsort(np.linalg.norm(columns, axis=0))
            expected, moved = columns.copy(), order[: round(columns.shape[1] / 2)]
            expected[:, moved] = _shrink(columns, 0.1)[:, moved]
        np.testing.assert_allclose(new.ravel(), expected.ravel(), atol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.05, 0.3, 3.0])
def test_scaled_group_threshold_minimizes_what_it_should(threshold):
    w = RNG.normal(size=(6, 3)).astype(np.float32)
    metric = np.exp(RNG.normal(size=w.shape) * 2).astype(np.float32)
    got = operators.scaled_group_soft_threshold(
        tf.constant(w), threshold, axes=[1], metric=tf.constant(metric)
    ).numpy()
    for j in range(3):
        d, v, c = metric[:, j].astype(float), w[:, j], threshold * np.sqrt(6)
        if np.linalg.norm(d * v) <= c:
            assert (got[:, j] == 0.0).all()
            continue
        # The scalar equation for the norm, solved by bisection instead.
        norm = optimize.brentq(
            lambda r, d=d, v=v, c=c: ((d * v) ** 2 / (d * r + c) ** 2).sum() - 1,
            1e-12,
            np.linalg.norm(v) + 1,
        )
        np.testing.assert_allclose(got[:, j], d * v * norm / (d * norm + c), rtol=1e-4)


def test_scaled_group_threshold_with_a_plain_metric_is_the_plain_one():
    w = RNG.normal(size=(6, 4)).astype(np.float32)
    got = operators.scaled_group_soft_threshold(
        tf.constant(w), 0.4, axes=[1], metric=tf.fill(w.shape, 2.0)
    ).numpy()
    np.testing.assert_allclose(got, _shrink(w, 0.2), atol=1e-6)


# --- optimizers -----------------------------------------------------------------


def _model(k):
    k.utils.set_random_seed(0)
    layers = k.layers
    return k.Sequential(
        [
            layers.Input((6, 6, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(),
            layers.DepthwiseConv2D(2, name="depthwise"),
            layers.Conv2DTranspose(5, 2, name="transposed"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )


def _weights(model):
    return [np.array(v) for v in model.trainable_variables]


def _gradients(k, model):
    """The gradients of one batch, with the model left as it is."""
    start = model.get_weights()
    loss_fn = k.losses.SparseCategoricalCrossentropy()
    with tf.GradientTape() as tape:
        loss = loss_fn(Y, model(X, training=True))
    variables = model.trainable_variables
    natives = variables if k is tf_keras else [v.value for v in variables]
    found = [g.numpy() for g in tape.gradient(loss, natives)]
    model.set_weights(start)
    return found


def _fit(model, optimizer, epochs=1):
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0)


# The trainable variables in order: which are kernels, and the kernels' filter axes.
KERNELS = {0: (3,), 4: (2, 3), 6: (2,), 8: (0, 1)[1:]}


def _expected(weights, gradients, rate, threshold, penalty):
    out = []
    for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
        w = w - rate * g
        if i in KERNELS and penalty == "l1":
            w = _soft(w, threshold)
        elif i in KERNELS:
            axes = KERNELS[i]
            front = np.moveaxis(w, axes, range(-len(axes), 0))
            count = int(np.prod([w.shape[a] for a in axes]))
            w = np.moveaxis(
                _shrink(front.reshape(-1, count), threshold).reshape(front.shape),
                range(-len(axes), 0),
                axes,
            )
        out.append(w)
    return out


@BOTH
@pytest.mark.parametrize(("penalty", "strength"), [("l1", 0.1), ("group_lasso", 0.35)])
def test_one_step_of_prox_sg_in_fit(k, penalty, strength):
    model = _model(k)
    gradients, threshold = _gradients(k, model), 0.5 * strength
    expected = _expected(_weights(model), gradients, 0.5, threshold, penalty)
    optimizer = tfslim.optimizers.ProxSGD(
        model, 0.5, strength=strength, penalty=penalty
    )
    _fit(model, optimizer)
    for i, (ours, theirs) in enumerate(zip(_weights(model), expected, strict=True)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        if i in KERNELS:
            np.testing.assert_array_equal(ours == 0.0, theirs == 0.0)
    assert any((w == 0.0).any() and w.any() for w in _weights(model))


@BOTH
@pytest.mark.parametrize(
    ("name", "metric"), [("Adam", "adam"), ("AdamW", "adam"), ("Adam", "euclidean")]
)
def test_steps_of_adam_in_both_metrics(k, name, metric):
    """Adam written out for two steps; its scale divides the threshold, or does not."""
    rate, strength, eps = 0.01, 0.05, 1e-3
    model = _model(k)
    w = _weights(model)
    start = model.get_weights()
    m, v = [0.0] * len(w), [0.0] * len(w)
    decay = 0.1 if name == "AdamW" else 0.0
    for step in (1, 2):
        g = _gradients(k, model)
        for i in range(len(w)):
            w[i] = w[i] * (1 - decay * rate)
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2
            correction = np.sqrt(1 - 0.999**step)
            scale = (np.sqrt(v[i]) + eps) / correction
            w[i] = w[i] - rate * m[i] / (1 - 0.9**step) / scale
            if i in KERNELS:
                w[i] = _soft(w[i], rate * strength / (scale if metric == "adam" else 1))
        for variable, value in zip(model.trainable_variables, w, strict=True):
            variable.assign(value)
    model.set_weights(start)
    options = {"weight_decay": decay} if decay else {}
    inner = getattr(k.optimizers, name)(rate, epsilon=eps, **options)
    optimizer = tfslim.optimizers.Proximal(
        inner, model, strength=strength, metric=metric
    )
    assert isinstance(optimizer, type(inner))
    # One fit a step, so that the moving statistics do not matter to either.
    _fit(model, optimizer, epochs=2)
    for ours, theirs in zip(_weights(model), w, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    if metric == "adam":
        assert all((_weights(model)[i] == 0.0).any() for i in (0, 6))


@BOTH
def test_group_lasso_in_adams_metric_empties_whole_filters(k):
    model = _model(k)
    optimizer = tfslim.optimizers.Proximal(
        k.optimizers.Adam(0.01),
        model,
        strength=0.008,
        penalty="group_lasso",
        metric="adam",
    )
    _fit(model, optimizer, epochs=30)
    zeros = [
        (_weights(model)[0].reshape(-1, 4) == 0.0).mean(axis=0),
        (_weights(model)[4].reshape(-1, 4) == 0.0).mean(axis=0),
        (np.moveaxis(_weights(model)[6], 2, 3).reshape(-1, 5) == 0.0).mean(axis=0),
    ]
    shares = set(np.concatenate(zeros).tolist())
    assert shares == {0.0, 1.0}


@BOTH
def test_the_schedule_of_the_learning_rate_sets_the_threshold(k):
    model = _model(k)
    rates = k.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
    optimizer = tfslim.optimizers.ProxSGD(model, rates, strength=0.5)
    expected = _expected(_weights(model), _gradients(k, model), 0.1, 0.05, "l1")
    _fit(model, optimizer)
    for ours, theirs in zip(_weights(model), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # From the second step on the rate is 0: nothing moves, nothing shrinks.
    before = _weights(model)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    for ours, theirs in zip(_weights(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@BOTH
def test_relative_strength_counts_in_units_of_each_kernel(k):
    model = _model(k)
    weights, gradients = _weights(model), _gradients(k, model)
    optimizer = tfslim.optimizers.ProxSGD(model, 0.5, strength=0.8, relative=True)
    again = k.optimizers.deserialize(k.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    _fit(model, optimizer)
    for i in KERNELS:
        threshold = 0.5 * 0.8 * np.abs(weights[i]).mean()
        expected = _soft(weights[i] - 0.5 * gradients[i], threshold)
        np.testing.assert_allclose(_weights(model)[i], expected, atol=1e-6)


@BOTH
def test_kernels_of_one_name_in_several_models_have_their_own_scales(k, tmp_path):
    def part(name, size):
        c = k.layers.Dense(size, use_bias=False, name="c")
        return k.Sequential([k.layers.Input((3,)), c], name=name)

    parts = [part("A", 4), part("B", 4), part("C", 5)]
    x = inputs = k.Input((3,))
    model = k.Model(inputs, k.layers.Concatenate()([each(x) for each in parts]))
    for each, scale in zip(parts, (0.01, 1.0, 7.0), strict=True):
        each.layers[-1].kernel.assign(np.full(each.layers[-1].kernel.shape, scale))
    # "A/c" alone would be "c" in the copy: the number must tell it from the others.
    optimizer = tfslim.optimizers.ProxSGD(
        model, 1.0, strength=0.5, relative=True, layers=["B/c", "C/c"]
    )
    model.compile(optimizer, "mse")
    model.save(tmp_path / "m.keras")
    for one in (k.models.load_model(tmp_path / "m.keras"), model):
        # With inputs of zero there is no gradient.
        one.fit(np.zeros((2, 3)), np.zeros((2, 13)), verbose=0)
        found = [np.unique(np.array(v)).tolist() for v in one.trainable_variables]
        assert found == [[pytest.approx(0.01)], [0.5], [3.5]]


@BOTH
def test_only_layers_that_a_pattern_names(k):
    model = _model(k)
    optimizer = tfslim.optimizers.ProxSGD(model, 0.1, strength=100.0, layers="conv*")
    _fit(model, optimizer)
    zero = [bool((w == 0.0).all()) for w in _weights(model)]
    assert zero[0] and not any(zero[i] for i in (4, 6, 8))


@BOTH
def test_it_serializes_and_a_compiled_model_loads(k, tmp_path):
    model = _model(k)
    rates = k.optimizers.schedules.CosineDecay(0.1, 100)
    optimizer = tfslim.optimizers.Proximal(
        k.optimizers.SGD(rates, momentum=0.5),
        model,
        strength=0.03,
        penalty="group_lasso",
        share=0.75,
        layers=["conv", "head"],
    )
    again = k.optimizers.deserialize(k.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert type(again) is type(optimizer)
    _fit(model, optimizer)
    model.save(tmp_path / "m.keras")
    loaded = k.models.load_model(tmp_path / "m.keras")
    for one in (model, loaded):
        one.fit(X, Y, batch_size=8, verbose=0)
    for a, b in zip(_weights(model), _weights(loaded), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@BOTH
def test_a_skipped_step_of_a_loss_scale_shrinks_nothing(k):
    model = _model(k)
    optimizer = tfslim.optimizers.ProxSGD(model, 0.1, strength=1.0)
    package = k.mixed_precision if k is tf_keras else k.optimizers
    scaled = package.LossScaleOptimizer(optimizer)
    before = _weights(model)
    variables = model.trainable_variables
    infinite = [tf.fill(v.shape, np.inf) for v in variables]
    finite = [tf.zeros(v.shape) for v in variables]
    scaled.apply_gradients(zip(infinite, variables, strict=True))
    for a, b in zip(_weights(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    scaled.apply_gradients(zip(finite, variables, strict=True))
    np.testing.assert_allclose(_weights(model)[0], _soft(before[0], 0.1), atol=1e-6)


@BOTH
@pytest.mark.parametrize("traced", [False, True])
def test_the_plain_step(k, traced):
    model = _model(k)
    before = _weights(model)

    def step(rate):
        tfslim.optimizers.proximal_step(
            model, rate, strength=2.0, layers=["conv", "head"]
        )

    (tf.function(step) if traced else step)(tf.constant(0.05))
    after = _weights(model)
    for i in (0, 8):
        np.testing.assert_allclose(after[i], _soft(before[i], 0.1), atol=1e-7)
    for i in set(range(10)) - {0, 8}:
        np.testing.assert_array_equal(after[i], before[i])


@BOTH
def test_what_it_cannot_be_added_to(k):
    model = _model(k)
    other = keras if k is tf_keras else tf_keras
    make = tfslim.optimizers.Proximal
    cases = [
        (lambda: make(other.optimizers.SGD(), model), "one of"),
        (lambda: make("adam", model, penalty="l3"), "l1"),
        (lambda: make("adam", model, metric="manhattan"), "euclidean"),
        (lambda: make("sgd", model, metric="adam"), "needs Adam or AdamW"),
        (lambda: make("adam", model, strength=-0.1), "at least 0, got -0.1"),
        (lambda: make("adam", model, layers="conw"), "conv"),
        (lambda: make(k.optimizers.SGD(0.1, use_ema=True), model), "use_ema"),
        (lambda: make(make("adam", model), model), "already"),
        (
            lambda: tfslim.optimizers.proximal_step(
                model, 0.1, strength=0.1, penalty="l3"
            ),
            "l1",
        ),
    ]
    for call, message in cases:
        with pytest.raises(errors.ConfigError, match=message):
            call()
    strange = k.Sequential([k.layers.Input((2,)), k.layers.Dense(3, name="only")])
    with pytest.raises(errors.ConfigError, match="none of them"):
        make("sgd", model).build(strange.trainable_variables)
    strange.compile(make("sgd", model), "mse")
    with pytest.raises(errors.ConfigError) as raised:
        strange.fit(np.zeros((2, 2)), np.zeros((2, 3)), verbose=0)
    assert str(raised.value).startswith("The optimizer was made for a model with the")
    assert "\n" not in str(raised.value)
    model.trainable = False
    with pytest.raises(errors.ConfigError, match="frozen"):
        make("adam", model)


def test_legacy_optimizers_are_refused():
    with pytest.raises(errors.ConfigError, match="legacy"):
        tfslim.optimizers.Proximal(tf_keras.optimizers.legacy.SGD(), _model(tf_keras))


# --- both methods under a strategy ----------------------------------------------


@pytest.mark.slow
def test_two_replicas_do_what_one_does():
    """In a process of its own: logical devices come before anything else."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "two_replicas.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 10 and all(line.endswith("equal") for line in lines), lines
