"""The sequence of steps from a model and data to verified, timed files.

What is wrong in a config is found without TensorFlow, which is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfslim.pipeline.export import export_model, start_tensorflow
    from tfslim.pipeline.from_tflite import export_file

__all__ = ["export_file", "export_model", "start_tensorflow"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfslim.pipeline' has no attribute {name!r}")
    module = "from_tflite" if name == "export_file" else "export"
    return getattr(importlib.import_module(f"tfslim.pipeline.{module}"), name)
