"""Random layers whose numbers depend on the seed and the step, and on nothing else.

tf_keras draws dropout masks from counters inside of TensorFlow's kernels, which die
with the process. Here every draw is a function of (seed, layer, call, step, replica),
so a training that resumes after a kill draws what it would have drawn.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src import backend

from tfslim.training import access

# Ops that count their calls inside of the kernel.
_COUNTING_OPS = frozenset(
    """Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoissonV2
    RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    TruncatedNormal""".split()
)


def mixed(*parts: int) -> int:
    """Returns a seed in [0, 2^63) that is a hash of whole numbers."""
    entropy = [part % 2**64 for part in parts]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def _stateless(draw: Any, *names: str) -> Any:
    """Returns a generator's method, with these parameters, that draws by a seed."""

    def method(self: Any, shape: Any, *given: Any, **named: Any) -> tf.Tensor:
        options = {**dict(zip((*names, "dtype"), given, strict=False)), **named}
        dtype = options.get("dtype") or backend.floatx()
        chosen = {n: options[n] for n in names if options.get(n) is not None}
        seed = self.make_seed_for_stateless_op()
        return draw(shape, seed, dtype=dtype, **chosen)

    return method


class _StepGenerator(backend.RandomGenerator):
    """Stands in for a layer's own generator while a model is trained."""

    def __init__(self, own: Any, step: tf.Variable, *key: int):
        # The type is for the layer's get_config only.
        super().__init__(own._seed, own._rng_type)
        self._step = step
        self._key = key
        self._place: Any = None
        self._num_calls = 0

    def make_seed_for_stateless_op(self) -> tf.Tensor:
        """Returns the seed of this call in this step on this replica."""
        place = _outermost_graph() or int(self._step)
        if place != self._place:
            self._place, self._num_calls = place, 0
        base = mixed(*self._key, self._num_calls)
        self._num_calls += 1
        context = tf.distribute.get_replica_context()
        replica, replicas = 0, 1
        if context is not None:
            replica = context.replica_id_in_sync_group
            replicas = context.num_replicas_in_sync
        step = tf.convert_to_tensor(self._step) * replicas + tf.cast(replica, tf.int64)
        return tf.stack([tf.constant(base, tf.int64), step])

    random_normal = _stateless(tf.random.stateless_normal, "mean", "stddev")
    random_uniform = _stateless(tf.random.stateless_uniform, "minval", "maxval")
    truncated_normal = _stateless(
        tf.random.stateless_truncated_normal, "mean", "stddev"
    )

    def dropout(self, inputs: Any, rate: Any, noise_shape: Any = None) -> tf.Tensor:
        return tf.nn.experimental.stateless_dropout(
            inputs, rate, self.make_seed_for_stateless_op(), noise_shape=noise_shape
        )


def _outermost_graph() -> Any:
    """Returns the traced function around all others; None if run eagerly."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    while (
        getattr(graph, "outer_graph", None) is not None
        and graph.outer_graph.building_function
    ):
        graph = graph.outer_graph
    return graph


@contextlib.contextmanager
def drawn_by_step(model: tf_keras.Model, seed: int) -> Iterator[None]:
    """Makes the model's random layers functions of the seed and the training step."""
    layers = [
        layer
        for layer in access.layers_of(model)
        if isinstance(layer, tf_keras.__internal__.layers.BaseRandomLayer)
    ]
    own = [layer._random_generator for layer in layers]
    for index, layer in enumerate(layers):
        generator = _StepGenerator(own[index], model._train_counter, seed, index)
        # An attribute set in the usual way would be part of the layer's checkpoints.
        vars(layer)["_random_generator"] = generator
    try:
        yield
    finally:
        for layer, generator in zip(layers, own, strict=True):
            vars(layer)["_random_generator"] = generator
        model.train_function = None


class EpochSeeds(tf_keras.callbacks.Callback):
    """Makes an epoch a function of the weights, the seed and the epoch's number.

    It stands first among the callbacks. With `retrace`, a model that draws from
    TensorFlow's counting ops itself is traced anew for every epoch, as nothing else
    sets their counters.
    """

    def __init__(self, seed: int, steps_per_epoch: int, *, retrace: bool):
        """Takes the seed and the number of steps."""
        super().__init__()
        self._seed = seed
        self._steps = steps_per_epoch
        self._retrace = retrace
        self._counts: bool | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets all generators to where they are at the beginning of this epoch."""
        # Of no effect but in a training that resumes after a kill.
        self.model._train_counter.assign(epoch * self._steps)
        seed = mixed(self._seed, epoch)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what callbacks may draw from
        if self._retrace and self._counts is not False:
            tf.random.set_seed(seed)
            if self._counts:
                self.model.make_train_function(force=True)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Looks once, after the first step, at what was traced."""
        if self._counts is None:
            self._counts = _counts_calls(self.model)

    def _implements_train_batch_hooks(self) -> bool:
        return self._retrace

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Gives all replicas the statistics that the model has at inference."""
        average_statistics(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Gives all replicas the statistics that a backup keeps."""
        average_statistics(self.model)


def average_statistics(model: tf_keras.Model) -> None:
    """Sets moving averages, which replicas keep for themselves, to their mean."""
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    for variable in model.variables:
        if (
            variable.synchronization == tf.VariableSynchronization.ON_READ
            and variable.aggregation == tf.VariableAggregation.MEAN
        ):
            variable.assign(variable.read_value())


def _counts_calls(model: tf_keras.Model) -> bool:
    function = model.train_tf_function
    if function is None:
        return False
    for concrete in function._list_all_concrete_functions():
        graph = concrete.graph.as_graph_def()
        nodes = [graph.node, *(f.node_def for f in graph.library.function)]
        if any(node.op in _COUNTING_OPS for group in nodes for node in group):
            return True
    return False
