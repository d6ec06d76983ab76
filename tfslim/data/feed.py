"""Preprocessed arrays for whoever runs a model without tf.data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tfslim import checks, errors
from tfslim.data.examples import Examples


class Prepare(Protocol):
    """From examples to what a model takes; a `Preprocessing` does it for one input."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's one input, without the batch."""
        ...

    def apply(self, examples: Any) -> Any:
        """Returns the model's input for what `Examples.inputs` gives."""
        ...


@checks.by_name
def batches(
    examples: Examples, preprocessing: Prepare, *, batch_size: int = 32
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields (x, y) over all examples in order; the last batch may be smaller.

    Args:
        examples: read batch by batch.
        preprocessing: of the model.
        batch_size: examples per batch, 1 or more.

    Yields:
        x: array [batch, *input_shape]; y: the targets [batch, ...].
    """
    if batch_size < 1:
        raise errors.ConfigError(f"batch_size must be 1 or more, got {batch_size}.")
    targets = examples.targets
    for start in range(0, len(examples), batch_size):
        indices = np.arange(start, min(start + batch_size, len(examples)))
        yield preprocessing.apply(examples.inputs(indices)), targets[indices]


class CalibrationSamples:
    """Model inputs batch by batch; each pass gives the same ones and reads them anew.

    Attributes:
        indices: positions of the samples in the examples.
    """

    def __init__(
        self,
        examples: Examples,
        preprocessing: Prepare,
        *,
        indices: np.ndarray,
        batch_size: int = 1,
    ):
        """Takes the samples' positions; what does not fill a batch is left out."""
        self._examples = examples
        self._preprocessing = preprocessing
        self.indices = indices[: len(indices) // batch_size * batch_size]
        self._batches = self.indices.reshape(-1, batch_size)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        """Yields arrays [batch, *input_shape], or name -> array for several inputs."""
        for indices in self._batches:
            yield self._preprocessing.apply(self._examples.inputs(indices))


@checks.by_name
def calibration_samples(
    examples: Examples,
    preprocessing: Prepare,
    *,
    num_samples: int = 300,
    seed: int = 0,
    batch_size: int = 1,
) -> CalibrationSamples:
    """Chooses samples to calibrate a quantized model with.

    Args:
        examples: the training split: calibrating on test images flatters the result.
        preprocessing: of the model.
        num_samples: 1 or more; all examples if there are fewer.
        seed: the same seed chooses the same samples.
        batch_size: of a model that takes so many at a time.

    Returns:
        An iterable of arrays [batch_size, *input_shape] that can be passed over any
        number of times and holds one of them at a time.
    """
    if num_samples < 1:
        raise errors.ConfigError(f"num_samples must be 1 or more, got {num_samples}.")
    order = np.random.default_rng(seed).permutation(len(examples))
    return CalibrationSamples(
        examples, preprocessing, indices=order[:num_samples], batch_size=batch_size
    )
