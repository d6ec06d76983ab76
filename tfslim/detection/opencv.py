"""OpenCV, which is optional, and silent here."""

from __future__ import annotations

import os

from tfslim import errors

# It and its FFmpeg write pages to stderr; what matters is raised by whoever calls.
# They look at this when they are imported.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
try:
    import cv2
except ImportError as error:
    raise errors.MissingExtraError(
        "opencv-python-headless", extra="video", needed_for="Working on videos"
    ) from error

__all__ = ["cv2"]
