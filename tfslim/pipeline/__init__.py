"""The sequence of steps from a model and data to verified, timed files."""

from tfslim.pipeline.export import export_model, start_tensorflow

__all__ = ["export_model", "start_tensorflow"]
