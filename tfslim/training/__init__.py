"""Fitting a Keras model: enough training to have something to slim.

`fit` keeps the best epoch's weights, resumes after a kill, and runs under a
`tf.distribute` strategy. It knows no data source: it takes tf.data or arrays.
"""

from __future__ import annotations

from tfslim.training.callbacks import BestWeights
from tfslim.training.loop import TrainingResult, check_names, fit
from tfslim.training.options import FitOptions, with_overrides
from tfslim.training.replicas import is_chief, start_workers

__all__ = [
    "BestWeights",
    "FitOptions",
    "TrainingResult",
    "check_names",
    "fit",
    "is_chief",
    "start_workers",
    "with_overrides",
]
