"""Fitting a Keras model: enough training to have something to slim.

`fit` keeps the best epoch's weights, resumes after a kill, and runs under a
`tf.distribute` strategy. It knows no data source: it takes tf.data or arrays.
"""

from __future__ import annotations

from tfslim.training.callbacks import BestWeights as BestWeights
from tfslim.training.loop import TrainingResult as TrainingResult
from tfslim.training.loop import check_names as check_names
from tfslim.training.loop import fit as fit
from tfslim.training.options import FitOptions as FitOptions
from tfslim.training.options import with_overrides as with_overrides
from tfslim.training.replicas import is_chief as is_chief
from tfslim.training.replicas import start_workers as start_workers
