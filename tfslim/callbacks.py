"""Callbacks for the `fit` of tf_keras and Keras 3, and what replaces them in a loop.

A callback does nothing in a training loop of your own; the functions here do the same
job inside its step.
"""

from __future__ import annotations

from tfslim.slimming.penalty import NetworkSlimming, slimming_penalty
from tfslim.training.callbacks import BestWeights
from tfslim.training.tracking import MLflow

__all__ = ["BestWeights", "MLflow", "NetworkSlimming", "slimming_penalty"]
