"""A model may not ask for more memory than its file has weights for.

A config of a few bytes can declare a layer of many gigabytes, and a file an array of
as many. Each is compared with the other before anything is allocated.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from tfslim import errors
from tfslim.loading import safety

# Numbers that no file holds: states of random generators and the like.
_FREE = 2**20
# What a model without weights may have: 1 GB of float32.
_NEW = 2**28


@contextlib.contextmanager
def limited(
    check: safety.Check, arrays: Sequence[Any], *, source: str
) -> Iterator[None]:
    """Within it, a model may be built with as many weights as its file holds.

    Args:
        check: the check of its config.
        arrays: what the file holds, each with a `shape`.
        source: the file, for messages.

    Raises:
        DataError: the model has more; none of what is too much was allocated.
    """
    weights = sum(math.prod(array.shape) for array in arrays)
    if check.has_custom and check.keras.__name__ == "keras":
        # The user's own layers may need their variables at once.
        yield
        return
    with _counted(check.keras, weights, source=source):
        yield


@contextlib.contextmanager
def without_file(keras: Any, source: str) -> Iterator[None]:
    """Within it, a model that has no weights yet gets some, in reasonable number."""
    with _counted(keras, _NEW, source=source):
        yield


def _counted(
    keras: Any, weights: int, *, source: str
) -> contextlib.AbstractContextManager[None]:
    of_keras3 = keras.__name__ == "keras"
    scope = _deferred_variables if of_keras3 else _counted_variables
    return scope(keras, weights, source)


@contextlib.contextmanager
def _counted_variables(_: Any, weights: int, source: str) -> Iterator[None]:
    tensorflow = importlib.import_module("tensorflow")
    asked = 0

    def create(next_creator: Any, **arguments: Any) -> Any:
        nonlocal asked
        asked += _size(arguments)
        _require(asked, weights, source=source)
        return next_creator(**arguments)

    try:
        with tensorflow.variable_creator_scope(create):
            yield
    except Exception:
        # Layers write pages around what is raised while they are built.
        _require(asked, weights, source=source)
        raise


def _size(arguments: dict[str, Any]) -> int:
    shape = arguments.get("shape")
    if shape is None:
        value = arguments.get("initial_value")
        shape = () if callable(value) else getattr(value, "shape", ())
    return math.prod(int(size or 0) for size in shape)


@contextlib.contextmanager
def _deferred_variables(keras: Any, weights: int, source: str) -> Iterator[None]:
    """Counts what Keras 3 is to create: in its stateless scope it creates nothing yet.

    Leaving such a scope creates what has gathered; after an error it is forgotten.
    """
    state = importlib.import_module("keras.src.backend.common.global_state")
    before = state.get_global_attribute(_WAITING) or []
    state.set_global_attribute(_WAITING, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
        waiting = state.get_global_attribute(_WAITING) or []
        sizes = (math.prod(variable.shape) for variable in waiting)
        _require(sum(sizes), weights, source=source)
        with keras.StatelessScope():
            pass
    finally:
        state.set_global_attribute(_WAITING, before)


_WAITING = "uninitialized_variables"


def _require(asked: int, weights: int, *, source: str) -> None:
    if asked > weights + _FREE:
        raise errors.DataError(
            f"'{source}' declares a model of at least {min(asked, 10**15):,} weights "
            f"and holds {weights:,}: it is damaged, or made to fill the memory."
        )


def require_fitting(arrays: Sequence[Any], model: Any, *, source: str) -> None:
    """Refuses arrays that are larger than the weights they are meant for.

    Args:
        arrays: what is about to be read, each with a `shape`.
        model: the model, with its weights created.
        source: where both come from, for messages.

    Raises:
        DataError: they are twice as large, in all or one by one. (Weights of cuDNN's
            layers are somewhat larger than those they become.)
    """
    wanted = [_numbers(weight) for weight in model.weights]
    held = [math.prod(array.shape) for array in arrays]
    most, largest = max(held, default=0), max(wanted, default=0)
    if sum(held) > 2 * sum(wanted) + _FREE or most > 2 * largest + _FREE:
        raise errors.DataError(
            f"'{source}' holds arrays of up to {most:,} numbers, {sum(held):,} in all, "
            f"for a model of {sum(wanted):,} weights: it is damaged, or made to fill "
            "the memory."
        )


def _numbers(weight: Any) -> int:
    """Returns how many numbers a weight has; vocabularies and open sizes count 0."""
    shape = getattr(weight, "shape", (0,))
    return math.prod(size or 0 for size in shape)
