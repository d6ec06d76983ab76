"""Object detection with YOLO: what a network's outputs mean, and what is in them."""

from tfslim.detection.heads import (
    YOLOV3_HEADS,
    YOLOV3_TINY_HEADS,
    Head,
    with_classes,
)

__all__ = ["YOLOV3_HEADS", "YOLOV3_TINY_HEADS", "Head", "with_classes"]
