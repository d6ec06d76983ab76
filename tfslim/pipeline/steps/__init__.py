"""The steps that make the model smaller before it is converted."""

from __future__ import annotations

from tfslim.pipeline.steps.base import Outcome, Step, run
from tfslim.pipeline.steps.registry import STEPS, plan

__all__ = ["STEPS", "Outcome", "Step", "plan", "run"]
