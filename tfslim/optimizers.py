"""Optimizers for tf_keras and Keras 3, and what replaces them in a loop."""

from __future__ import annotations

from tfslim.proximal.optimizers import (
    Proximal,
    ProximalOptimizer,
    ProxSGD,
    proximal_step,
)

__all__ = ["ProxSGD", "Proximal", "ProximalOptimizer", "proximal_step"]
