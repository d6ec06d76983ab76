"""Activation pruning: what falls and what stays, targets, the toy problem."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.graph import models
from tfslim import errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.training import FitOptions

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
# Both Keras, too slow for every day.
ONE = pytest.mark.parametrize(
    "k",
    [tf_keras, pytest.param(keras, marks=pytest.mark.slow)],
    ids=["tf_keras", "keras"],
)
RNG = np.random.default_rng(0)


def _nothing(model):
    """A training that leaves the model as it is."""


def _gates(k, rates):
    """A layer whose unit i is active on the share rates[i] of 0, 0.01, ... 0.99."""
    x = k.Input((1,))
    y = k.layers.Dense(len(rates), activation="relu", name="hidden")(x)
    model = k.Model(x, k.layers.Dense(2, name="out")(y))
    # x + rate - 0.995 is above zero for the largest `rate` of the inputs.
    bias = np.array(rates) - 0.995
    out = RNG.normal(size=(len(rates), 2))
    model.set_weights([np.ones((1, len(rates))), bias, out, np.zeros(2)])
    return model


_INPUTS = (np.arange(100, dtype="float32") / 100)[:, None]


def _hidden(model):
    return model.get_layer("hidden").units


@BOTH
@pytest.mark.parametrize(
    ("threshold", "left"), [(0, 4), (10, 3), (0.1, 3), (9, 4), (0.5, 2), (0.99, 1)]
)
def test_what_is_active_at_most_so_often_falls(k, threshold, left):
    model = _gates(k, [0.0, 0.1, 0.0, 0.5, 0.9, 1.0])
    smaller, cycles = tfslim.activation_pruning(
        model, _INPUTS, fine_tune=_nothing, threshold=threshold
    )
    assert isinstance(smaller, k.Model) and _hidden(smaller) == left
    assert [c.removed for c in cycles] == [6 - left, 0]
    assert [c.units for c in cycles] == [left, left]
    kept = np.sort(smaller.get_layer("hidden").get_weights()[1])
    wanted = np.sort([0.1, 0.5, 0.9, 1.0])[-left:] - 0.995
    np.testing.assert_allclose(kept, wanted, rtol=1e-5)
    if threshold == 0:
        # Idle ReLUs say nothing: the outputs on the data are the same.
        np.testing.assert_allclose(smaller(_INPUTS), model(_INPUTS), atol=1e-6)


def test_the_most_active_unit_stays_even_below_the_threshold():
    smaller, _ = tfslim.activation_pruning(
        _gates(tf_keras, [0.0, 0.2, 0.1]), _INPUTS, fine_tune=_nothing, threshold=0.9
    )
    assert _hidden(smaller) == 1
    np.testing.assert_allclose(
        smaller.get_layer("hidden").get_weights()[1], [0.2 - 0.995], rtol=1e-5
    )


def test_cycles_go_on_until_nothing_falls():
    """A training that puts one more unit to sleep each time."""
    trained = []

    def one_more(model):
        trained.append(_hidden(model))
        kernel, bias, *rest = model.get_weights()
        bias[np.argmin(bias)] = -2.0
        if len(trained) < 4:
            model.set_weights([kernel, bias, *rest])

    model = _gates(tf_keras, [0.2, 0.4, 0.6, 0.8, 1.0])
    smaller, cycles = tfslim.activation_pruning(model, _INPUTS, fine_tune=one_more)
    # The first training and those after cycles 1 and 2 each put a unit to sleep.
    assert trained == [5, 4, 3, 2]
    assert [c.removed for c in cycles] == [1, 1, 1, 0]
    assert _hidden(smaller) == 2 and _hidden(model) == 5
    trained.clear()
    _, cycles = tfslim.activation_pruning(
        model, _INPUTS, fine_tune=one_more, is_trained=True, cycles=1
    )
    assert not trained and [c.removed for c in cycles] == [0]


def test_a_training_may_return_the_model():
    model = _gates(tf_keras, [0.5, 1.0])
    other = _gates(tf_keras, [0.0, 1.0])
    smaller, _ = tfslim.activation_pruning(
        model, _INPUTS, fine_tune=lambda m: other, cycles=1
    )
    assert smaller is other


def _image_model(k):
    x = y = k.Input((8, 8, 1))
    y = k.layers.Conv2D(16, 3, padding="same", name="one")(y)
    y = k.layers.ReLU()(k.layers.BatchNormalization()(y))
    y = k.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(y)
    y = k.layers.Conv2DTranspose(16, 3, strides=2, activation="relu", name="up")(y)
    y = k.layers.GlobalAveragePooling2D()(y)
    return models.randomize(k.Model(x, k.layers.Dense(3, activation="softmax")(y)))


@BOTH
def test_targets_take_the_least_active_of_all_layers(k):
    model = _image_model(k)
    data = RNG.normal(size=(40, 8, 8, 1)).astype("float32")
    rates = tfslim.count_activations(model, data).rates
    # By the mean rate of the layer, and not the last of a layer.
    relative = {name: values / values.mean() for name, values in rates.items()}
    ranked = np.sort(np.concatenate(list(relative.values())))
    target = tfslim.Budget(pruning_ratio=0.25, scope="global", divisor=1)
    smaller, [cycle] = tfslim.activation_pruning(
        model, data, fine_tune=_nothing, budget=target, cycles=1
    )
    assert cycle.removed == 12 and cycle.units == 36
    # What went first in the first layer, which nothing before it has changed.
    left = tfslim.count_activations(smaller, data).rates["one"]
    wanted = rates["one"][relative["one"] >= ranked[12]]
    np.testing.assert_allclose(left, wanted, rtol=1e-6)
    assert 0 < len(left) < 16


@BOTH
def test_limits_are_reached_in_cycles(k):
    model = _image_model(k)
    data = RNG.normal(size=(8, 8, 8, 1)).astype("float32")
    whole = count.count(graph_keras.read(model)).macs
    target = tfslim.Budget(max_macs=0.4 * whole, divisor=1, scope="global")
    smaller, cycles = tfslim.activation_pruning(
        model, data, fine_tune=_nothing, budget=target, cycles=3
    )
    macs = [c.macs for c in cycles]
    assert macs == sorted(macs, reverse=True) and len(macs) == 3
    assert 0.35 * whole < macs[-1] <= 0.4 * whole
    assert count.count(graph_keras.read(smaller)).macs == macs[-1]


@BOTH
def test_a_target_that_divisors_forbid_is_told_and_not_trained_for(k):
    trainings = []
    model = _gates(k, np.linspace(0.1, 0.9, 12))
    smaller, cycles = tfslim.activation_pruning(
        model,
        _INPUTS,
        fine_tune=trainings.append,
        pruning_ratio=0.5,
        cycles=2,
        is_trained=True,
    )
    assert _hidden(smaller) == 12 and not trainings
    assert "divisor=16" in cycles[-1].skipped["hidden"]


@BOTH
@pytest.mark.parametrize("form", ["arrays", "batches", "dict"])
def test_inputs_may_be_several(k, form):
    """The hidden units see the first input alone: as many fall as with one input."""
    gates = _gates(k, [0.0, 0.1, 0.0, 0.5])
    inputs = [k.Input((1,), name=name) for name in "ab"]
    x = k.layers.Dense(4, activation="relu", name="hidden")(inputs[0])
    x = k.layers.Concatenate()([k.layers.Dense(2, name="out")(x), inputs[1]])
    model = k.Model(inputs, x)
    for name in ("hidden", "out"):
        model.get_layer(name).set_weights(gates.get_layer(name).get_weights())
    pair, targets = (_INPUTS, -_INPUTS), np.zeros((100, 3))
    data = {
        "arrays": (pair, targets),
        "batches": [
            (tuple(x[half] for x in pair), targets[half])
            for half in (slice(50), slice(50, 100))
        ],
        "dict": (dict(zip("ab", pair, strict=True)), targets),
    }[form]
    smaller, cycles = tfslim.activation_pruning(
        model, data, fine_tune=_nothing, threshold=0, reconstruct=True
    )
    assert _hidden(smaller) == 2 and cycles[0].removed == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1}, "threshold"),
        ({"threshold": 1.0}, "a share"),
        ({"threshold": True}, "threshold"),
        ({"threshold": "automatic"}, "'auto'"),
        ({"threshold": 3, "pruning_ratio": 0.5}, "not both"),
        ({"pruning_ratio": 0.5, "budget": tfslim.Budget(max_macs=9)}, "not both"),
        ({"treshold": 3}, "Did you mean 'threshold'"),
        ({"cycles": 0}, "cycles"),
        ({"cycles": 1.5}, "a whole number, got 1.5"),
        ({"threshold": "auto"}, "needs a metric"),
        ({"fine_tune": None}, "fine_tune is None; expected a tfslim.Training"),
        ({"fine_tune": lambda model: "done"}, "fine_tune returned 'done'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.activation_pruning(
            _gates(tf_keras, [0.5, 0.6]),
            _INPUTS,
            **{"fine_tune": _nothing, **options},
        )


@ONE
def test_the_papers_autoencoder(k):
    """28x28x1 -> 14x14x4 -> 7x7x16 and back, with Conv2DTranspose."""
    model = tfslim.build_model("autoencoder", input_shape=(28, 28, 1))
    model = tfslim.to_keras3(model) if k is keras else model
    x = RNG.uniform(0, 1, (64, 28, 28, 1)).astype("float32")
    training = tfslim.Training(
        train=(x, x),
        validation=(x, x),
        task="reconstruction",
        options=FitOptions(epochs=1, learning_rate=0.003),
    )
    target = tfslim.Budget(pruning_ratio=0.5, scope="global", divisor=1)
    smaller, cycles = tfslim.activation_pruning(
        model, x, fine_tune=training, budget=target, cycles=1, is_trained=True
    )
    assert smaller.output_shape == (None, 28, 28, 1)
    # 4 + 16 + 4 channels; the single one of the output stays.
    assert cycles[-1].units == 12
    assert cycles[-1].macs < 0.5 * count.count(graph_keras.read(model)).macs
    assert cycles[-1].metric == pytest.approx(
        float(np.mean((np.asarray(smaller(x)) - x) ** 2)), rel=1e-3
    )


def test_auto_undoes_what_costs_too_much():
    """A metric that allows six of eight units to go, and a seventh never."""
    sizes = []

    class _Judge(tfslim.Training):
        def __call__(self, model):
            sizes.append(_hidden(model))
            return model

        def metric(self, model):
            return 0.0 if _hidden(model) >= 2 else 9.0

    judge = _Judge(train=None, validation=_INPUTS, task="regression")
    model = _gates(tf_keras, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    smaller, cycles = tfslim.activation_pruning(
        model, _INPUTS, fine_tune=judge, threshold="auto", max_drop=1.0, is_trained=True
    )
    assert sizes == [4, 2, 1] and _hidden(smaller) == 2
    assert [c.is_kept for c in cycles] == [True, True, False]


def test_auto_removes_idle_units_without_training():
    calls = []

    class _Judge(tfslim.Training):
        def __call__(self, model):
            calls.append(_hidden(model))
            return model

        def metric(self, model):
            return 0.0 if _hidden(model) >= 3 else 9.0

    judge = _Judge(train=None, validation=_INPUTS, task="regression")
    model = _gates(tf_keras, [0.0, 0.0, 0.0, 0.5, 0.7, 0.9])
    smaller, cycles = tfslim.activation_pruning(
        model, _INPUTS, fine_tune=judge, threshold="auto", is_trained=True
    )
    assert _hidden(smaller) == 3 and calls == [2]
    assert [(c.removed, c.is_kept) for c in cycles] == [(3, True), (1, False)]


def test_a_target_out_of_reach_is_known_before_any_training():
    calls = []
    with pytest.raises(errors.ConfigError, match="cannot be met"):
        tfslim.activation_pruning(
            _gates(tf_keras, [0.5] * 8),
            _INPUTS,
            fine_tune=calls.append,
            budget=tfslim.Budget(max_params=2),
        )
    assert not calls


def test_what_is_not_counted_is_told():
    k = tf_keras
    x = k.Input((1,))
    y = k.layers.Dense(3, activation="tanh", name="both")(x)
    y = k.layers.Dense(3, activation="relu", name="hidden")(y)
    model = k.Model(x, k.layers.Dense(2, name="out")(y))
    _, cycles = tfslim.activation_pruning(model, _INPUTS, fine_tune=_nothing, cycles=1)
    assert "tanh" in cycles[0].skipped["both"]
    assert "output" in cycles[0].skipped["out"]
    blind = k.Model(x, k.layers.Dense(2)(k.layers.Dense(3, activation="tanh")(x)))
    with pytest.raises(errors.ConfigError, match="no units to count"):
        tfslim.activation_pruning(blind, _INPUTS, fine_tune=_nothing)


def _toy(seed, units):
    tf_keras.utils.set_random_seed(seed)
    x = tf_keras.Input((2,))
    y = tf_keras.layers.Dense(units, activation="relu", name="hidden")(x)
    return tf_keras.Model(x, tf_keras.layers.Dense(1, name="out")(y))


def _toy_training(low, seed, epochs, steps):
    random = np.random.default_rng(seed)
    x = random.uniform(low, 1, (5000, 2)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    options = FitOptions(
        epochs=epochs,
        steps_per_epoch=steps,
        batch_size=200,
        learning_rate=0.005,
        seed=seed,
    )
    return tfslim.Training(
        train=(x[:4000], y[:4000]),
        validation=(x[4000:], y[4000:]),
        task="regression",
        options=options,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("low", "units"), [(0.0, 1), (-1.0, 2)])
def test_the_sum_of_two_inputs_needs_one_unit_or_two(low, units):
    training = _toy_training(low, 0, 3, 150)
    smaller, cycles = tfslim.activation_pruning(
        _toy(0, 16),
        training.train,
        fine_tune=training,
        threshold="auto",
        max_drop=5e-7,
        reconstruct=True,
    )
    assert _hidden(smaller) == units
    assert training.metric(smaller) < 1e-6
    kernel = smaller.get_layer("hidden").get_weights()[0]
    out = smaller.get_layer("out").get_weights()[0]
    # y = x1 + x2: the directions are (1, 1), and together they have slope 1.
    np.testing.assert_allclose(kernel[0], kernel[1], rtol=0.01)
    np.testing.assert_allclose(kernel * out[:, 0], np.ones_like(kernel), rtol=0.01)
    assert all(c.metric is not None for c in cycles)
