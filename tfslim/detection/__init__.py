"""Object detection with YOLO: what a network's outputs mean, and what is in them."""

from tfslim.detection.anchors import heads_for
from tfslim.detection.boxes import Letterbox, decode, decode_likely
from tfslim.detection.darknet import load_darknet, save_darknet
from tfslim.detection.evaluation import detect_batch, evaluate_detector
from tfslim.detection.heads import (
    YOLOV3_HEADS,
    YOLOV3_TINY_HEADS,
    Head,
    with_classes,
)
from tfslim.detection.metrics import Precision, Truth, mean_average_precision
from tfslim.detection.nms import Detections, NmsOptions, nms
from tfslim.detection.task import detection_task, standard_heads

__all__ = [
    "YOLOV3_HEADS",
    "YOLOV3_TINY_HEADS",
    "Detections",
    "Head",
    "Letterbox",
    "NmsOptions",
    "Precision",
    "Truth",
    "decode",
    "decode_likely",
    "detect_batch",
    "detection_task",
    "evaluate_detector",
    "heads_for",
    "load_darknet",
    "mean_average_precision",
    "nms",
    "save_darknet",
    "standard_heads",
    "with_classes",
]
