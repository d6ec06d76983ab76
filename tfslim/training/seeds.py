"""Global random state that a job sets for itself, and gives back."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import tf_keras
from keras.src.backend.common import global_state
from tensorflow.python.eager import context as eager
from tf_keras.src import backend

# Two jobs at once would draw from each other's generators.
_LOCK = threading.RLock()
_KERAS3 = "global_seed_generator"


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within it, global seeds may be set; behind it, all is as it was.

    The state of Python's `random`, of numpy, TensorFlow and both Keras. Jobs of other
    threads wait. It is a decorator, too.
    """
    with _LOCK:
        context = eager.context()
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        tensorflow = context._seed, context._rng
        keras2 = getattr(backend._SEED_GENERATOR, "generator", None)
        keras3 = global_state.get_global_attribute(_KERAS3)
        drawn = None if keras3 is None else np.array(keras3.state)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            context._seed, context._rng = tensorflow
            if keras2 is None:
                vars(backend._SEED_GENERATOR).pop("generator", None)
            else:
                backend._SEED_GENERATOR.generator = keras2
            if keras3 is not None:
                keras3.state.assign(drawn)
            global_state.set_global_attribute(_KERAS3, keras3)


def set_all(seed: int) -> None:
    """Seeds Python's `random`, numpy, TensorFlow and tf_keras; only within `kept`."""
    tf_keras.utils.set_random_seed(seed)
