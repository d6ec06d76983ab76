"""Trains on two logical CPUs and on one, in both Keras, and prints what is equal.

The second half of each batch repeats the first, so that batch normalization sees the
same statistics on every replica as on one device.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import tensorflow as tf

[CPU] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tf_keras  # noqa: E402

import tfslim  # noqa: E402

RNG = np.random.default_rng(0)
HALF = RNG.normal(size=(4, 5, 5, 3)).astype(np.float32)
X, Y = np.concatenate([HALF, HALF]), np.tile(np.arange(4) % 3, 2)
STRENGTH, RATE, STEPS = 0.05, 0.1, 3


def model_of(k):
    k.utils.set_random_seed(0)
    layers = k.layers
    return k.Sequential(
        [
            layers.Input((5, 5, 3)),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="head"),
        ]
    )


def loss_of(k):
    return k.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(k, model, optimizer, callbacks=()):
    model.compile(optimizer, loss_of(k))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    history = model.fit(data, epochs=STEPS, verbose=0, callbacks=list(callbacks))
    return history.history["loss"]


def slimming(k, model, strategy):
    callback = tfslim.callbacks.NetworkSlimming(STRENGTH)
    return fit(k, model, k.optimizers.SGD(RATE), [callback])


def prox_sgd(k, model, strategy):
    return fit(k, model, tfslim.optimizers.ProxSGD(model, RATE, strength=STRENGTH))


def prox_adam(k, model, strategy):
    adam = k.optimizers.Adam(RATE)
    optimizer = tfslim.optimizers.Proximal(
        adam, model, strength=0.01, penalty="group_lasso", metric="adam"
    )
    return fit(k, model, optimizer)


def own_loop(k, model, strategy):
    """A custom loop with the plain functions, scaled as TensorFlow's guide says."""
    optimizer = k.optimizers.SGD(RATE)
    per_example = k.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"
    )

    def step(x, y):
        with tf.GradientTape() as tape:
            losses = per_example(y, model(x, training=True))
            loss = tf.reduce_sum(losses) / len(Y)
            penalty = tfslim.callbacks.slimming_penalty(model, STRENGTH)
            loss += tf.nn.scale_regularization_loss(penalty)
        variables = model.trainable_variables
        natives = [getattr(v, "value", v) if k is keras else v for v in variables]
        gradients = tape.gradient(loss, natives)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        tfslim.optimizers.proximal_step(
            model, RATE, strength=STRENGTH, penalty="group_lasso"
        )
        return loss

    @tf.function
    def run(x, y):
        return strategy.reduce("SUM", strategy.run(step, args=(x, y)), axis=None)

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat(STEPS)
    data = strategy.experimental_distribute_dataset(data)
    return [float(run(x, y)) for x, y in data]


def plain(k, model, strategy):
    return fit(k, model, k.optimizers.SGD(RATE))


for k in (tf_keras, keras):
    references = {}
    for train in (plain, slimming, prox_sgd, prox_adam, own_loop):
        results = []
        for strategy in (
            tf.distribute.get_strategy(),
            tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        ):
            with strategy.scope():
                model = model_of(k)
                losses = train(k, model, strategy)
            # The moving variance is corrected by the size of a replica's batch.
            weights = [np.array(w) for w in model.trainable_variables]
            results.append((losses, weights))
        (one_loss, one), (two_loss, two) = results
        np.testing.assert_allclose(two_loss, one_loss, rtol=1e-4)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-5)
        references[train.__name__] = one
        # A method that did nothing would be equal, too.
        if train is not plain:
            base = references["plain"]
            assert not all(map(np.allclose, one, base)), train.__name__
        print(k.__name__, train.__name__, "equal", flush=True)
