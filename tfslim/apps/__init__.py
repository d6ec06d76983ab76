"""What an app must know of a `.tflite`, and the code that uses it."""

from tfslim.apps.about import About, read_about, write_standard

__all__ = ["About", "read_about", "write_standard"]
