"""Images and vectors by one string: `load("digits")`, `load("folder:photos")`.

Nothing here imports TensorFlow but `tf_data` and the `tfds:` source.
"""

from __future__ import annotations

from tfslim.data.examples import (
    ArrayExamples,
    Examples,
    FileExamples,
    NamedExamples,
    Subset,
    no_targets,
)
from tfslim.data.feed import CalibrationSamples, Prepare, batches, calibration_samples
from tfslim.data.sources import SOURCES, Dataset, LoadOptions, check, load, unlabelled

# As it is called in `tfslim`.
load_data = load

__all__ = [
    "SOURCES",
    "ArrayExamples",
    "CalibrationSamples",
    "Dataset",
    "Examples",
    "FileExamples",
    "LoadOptions",
    "NamedExamples",
    "Prepare",
    "Subset",
    "batches",
    "calibration_samples",
    "check",
    "load",
    "load_data",
    "no_targets",
    "unlabelled",
]
