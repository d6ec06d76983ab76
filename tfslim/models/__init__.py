"""The architectures that tfslim can build, one a file, and the table of them.

The table is read without TensorFlow; what builds is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfslim.models.registry import MODELS, ModelSpec, model_spec

if TYPE_CHECKING:
    from tfslim.models.build import build_model, takes_option

__all__ = ["MODELS", "ModelSpec", "build_model", "model_spec", "takes_option"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfslim.models' has no attribute {name!r}")
    return getattr(importlib.import_module("tfslim.models.build"), name)
