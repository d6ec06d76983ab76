"""The sequence of steps from a model and data to verified, timed files.

What is wrong in a config is found without TensorFlow, which is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfslim.pipeline.export import export_model, start_tensorflow

__all__ = ["export_model", "start_tensorflow"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfslim.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module("tfslim.pipeline.export"), name)
