"""What an app must know of a `.tflite`, and the code that uses it."""

from tfslim.apps.about import About, is_one_pair, read_about, write_standard
from tfslim.apps.inside import affine, normalize_inside
from tfslim.apps.object_detector import for_object_detector
from tfslim.apps.snippets import app_code

__all__ = [
    "About",
    "affine",
    "app_code",
    "for_object_detector",
    "is_one_pair",
    "normalize_inside",
    "read_about",
    "write_standard",
]
