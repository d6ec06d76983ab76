"""The steps that make the model smaller before it is converted."""

from __future__ import annotations

from tfslim.pipeline.steps.base import Outcome as Outcome
from tfslim.pipeline.steps.base import Step as Step
from tfslim.pipeline.steps.base import run as run
from tfslim.pipeline.steps.registry import STEPS as STEPS
from tfslim.pipeline.steps.registry import plan as plan
