"""What an app must know of a `.tflite`, and the code that uses it."""

from tfslim.apps.about import About, read_about, write_standard
from tfslim.apps.inside import normalize_inside
from tfslim.apps.object_detector import for_object_detector
from tfslim.apps.snippets import app_code

__all__ = [
    "About",
    "app_code",
    "for_object_detector",
    "normalize_inside",
    "read_about",
    "write_standard",
]
