"""From an image to what is in it, by any function that runs the network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from tfslim import errors, preprocessing
from tfslim.detection import boxes as boxes_lib
from tfslim.detection import outputs as outputs_lib
from tfslim.detection.boxes import Letterbox
from tfslim.detection.info import DetectorInfo
from tfslim.detection.nms import Detections, NmsOptions, nms

# Darknet fills with this: 0.5 of 255.
_GREY = 127


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds that an image took, stage by stage."""

    prepare: float
    inference: float
    decode: float
    nms: float


class Detector:
    """A network with all that stands before and behind it.

    Attributes:
        info: how its inputs and outputs are to be understood.
        options: how boxes are chosen.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], Sequence[np.ndarray]],
        info: DetectorInfo,
        *,
        options: NmsOptions | None = None,
    ):
        """Wraps `predict`.

        Args:
            predict: float32 [1, height, width, channels] -> the network's outputs as
                floats; e.g. `tfslim.evaluation.Predictor` of a `.tflite`.
            info: what it takes and gives.
            options: how boxes are chosen; None: the defaults.
        """
        self._predict = predict
        self.info = info
        self.options = options or NmsOptions()

    def __call__(self, image: np.ndarray) -> tuple[Detections, Timing]:
        """Finds objects.

        Args:
            image: uint8 [height, width, 3], RGB.

        Returns:
            Boxes as shares of the image, and how long each stage took.
        """
        start = time.perf_counter()
        x = self.prepare(image)
        prepared = time.perf_counter()
        outputs = self._predict(x)
        inferred = time.perf_counter()
        boxes, scores = self.decode(outputs)
        decoded = time.perf_counter()
        if self.info.resize == "letterbox":
            fit = Letterbox((image.shape[0], image.shape[1]), self.info.size)
            boxes = fit.to_image(boxes)
        # What lies outside of the image cannot be seen.
        boxes = boxes.clip(0.0, 1.0)
        is_seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        found = nms(boxes[is_seen], scores[is_seen], options=self.options)
        end = time.perf_counter()
        stages = (start, prepared, inferred, decoded, end)
        return found, Timing(*np.diff(stages).tolist())

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Returns the network's input for an image: float32 [1, height, width, c]."""
        if image.ndim != 3 or image.dtype != np.uint8:
            raise errors.DataError(
                f"An image is {image.dtype} {list(image.shape)}; expected uint8 "
                "[height, width, 3]."
            )
        prepare = self.info.preprocessing
        method = preprocessing.RESIZE_METHODS[prepare.resize]
        fit = Letterbox((image.shape[0], image.shape[1]), self.info.size)
        is_boxed = self.info.resize == "letterbox"
        height, width = fit.scaled if is_boxed else self.info.size
        scaled = image
        if image.shape[:2] != (height, width):
            picture = Image.fromarray(np.ascontiguousarray(image))
            scaled = np.asarray(picture.resize((width, height), method))
        if is_boxed:
            scaled = fit.lay(scaled, _GREY)
        return prepare.apply(scaled[None])

    def decode(self, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns boxes [n, 4] and scores [n, classes] of one image.

        Boxes are shares of the network's input. Of raw outputs, only what can pass the
        score's threshold is decoded.

        Raises:
            ConfigError: the outputs are not those that `info` speaks of.
        """
        if self.info.outputs == "decoded":
            return _decoded(outputs)
        maps = list(outputs)
        if self.info.outputs == "split":
            maps = outputs_lib.join_parts(outputs, self.info.heads, size=self.info.size)
        heads = self.info.heads
        by_stride = {self.info.size[0] // max(1, x.shape[1]): x for x in maps}
        # Converters may give the outputs in an order of their own.
        if len(by_stride) == len(heads) == len(maps):
            pairs = zip(heads, maps, strict=True)
            maps = [by_stride.get(head.stride, x) for head, x in pairs]
        return boxes_lib.decode_likely(
            maps, heads, threshold=self.options.score_threshold
        )


def _decoded(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = outputs[0][0], outputs[-1][0]
    if boxes.shape[-1] != 4:
        boxes, scores = scores, boxes
    if len(outputs) != 2 or boxes.shape[-1] != 4 or len(boxes) != len(scores):
        raise errors.ConfigError(
            f"The outputs are {[x.shape for x in outputs]}; expected boxes [1, n, 4] "
            "and scores [1, n, classes]."
        )
    return boxes, scores
