"""The table of sources; one file each."""

from __future__ import annotations

from tfslim.data.sources.base import (
    SOURCES,
    Dataset,
    LoadOptions,
    check,
    load,
    unlabelled,
)

# A new source is one file with a function (argument, options) -> Dataset and one line.
for _name in (
    "coco",
    "digits",
    "folder",
    "npz",
    "scenes",
    "synthetic",
    "tfds",
    "yolo",
):
    SOURCES.register_lazy(_name, f"tfslim.data.sources.{_name}:load_{_name}")

__all__ = ["SOURCES", "Dataset", "LoadOptions", "check", "load", "unlabelled"]
