"""What an app must know of a `.tflite`, and the code that uses it."""

from tfslim.apps.about import About, read_about, write_standard
from tfslim.apps.inside import normalize_inside
from tfslim.apps.snippets import app_code

__all__ = ["About", "app_code", "normalize_inside", "read_about", "write_standard"]
