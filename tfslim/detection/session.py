"""Detectors on a stream of frames: pictures, boxes and times."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, fields
from tfslim.detection import annotate
from tfslim.detection.detector import Detector, Timing
from tfslim.detection.nms import Detections
from tfslim.detection.opencv import cv2
from tfslim.detection.video import Frame, ReadAhead, Source, VideoWriter

# What stands in the folder of the results.
VIDEO = "annotated.mp4"
COMPARISON = "side_by_side.mp4"
PICTURES = "frames"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionOptions(fields.Checked):
    """How a stream is worked through.

    Attributes:
        max_frames: frames to look at, at most; 0: all.
        keep_every: of a video, every so many-th annotated frame is kept as a picture;
            0: none. Of a folder of images, all are.
        read_ahead: frames that are read in advance.
    """

    max_frames: int = fields.field(0, least=0)
    keep_every: int = fields.field(50, least=0)
    read_ahead: int = fields.field(4, least=1)


@dataclasses.dataclass
class _Run:
    """What one detector did so far."""

    timings: list[Timing] = dataclasses.field(default_factory=list)
    frames: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def fps(self) -> dict[str, Any]:
        """Returns medians of the stages in milliseconds, and frames a second."""
        table = np.array([dataclasses.astuple(timing) for timing in self.timings])
        names = [field.name for field in dataclasses.fields(Timing)]
        medians = dict(zip(names, np.median(table, axis=0).tolist(), strict=True))
        return {
            **{f"{name}_ms": 1000 * seconds for name, seconds in medians.items()},
            "fps_inference": 1 / medians["inference"],
            "fps_detector": 1 / float(np.median(table.sum(axis=1))),
        }


def run_session(
    source: Source,
    detectors: Mapping[str, Detector],
    *,
    folder: Path,
    options: SessionOptions | None = None,
    on_frame: Callable[[int], None] = lambda number: None,
) -> dict[str, Any]:
    """Finds objects in all frames and writes what was found.

    Args:
        source: the frames; a camera is read until `max_frames` or Ctrl-C.
        detectors: one, or several that see the same frames, by the names that stand
            in the pictures.
        folder: where videos and pictures go; exists.
        options: None: the defaults.
        on_frame: called with the number of frames done.

    Returns:
        For each detector its boxes in pixels and its times; times of reading and of
        all together; what could not be read.

    Raises:
        DataError: no frame can be read.
    """
    options = options or SessionOptions()
    runs = {name: _Run() for name in detectors}
    read_s: list[float] = []
    draw_s: list[float] = []
    start = time.perf_counter()
    with (
        ReadAhead(source, options.read_ahead) as reader,
        _Writers(source, folder, options=options) as writers,
    ):
        try:
            for frame in itertools.islice(reader, options.max_frames or None):
                found = _detect(frame, detectors, runs=runs)
                drawing = time.perf_counter()
                writers.write(
                    frame, _draw(frame, found, detectors=detectors, runs=runs)
                )
                draw_s.append(time.perf_counter() - drawing)
                read_s.append(frame.read_s)
                on_frame(len(read_s))
        except KeyboardInterrupt:
            # So a recording ends; any other job is given up.
            if source.kind != "camera":
                raise
    if not read_s:
        reasons = "; ".join(source.skipped[:3]) or "it is empty"
        raise errors.DataError(f"No frame of the source can be read: {reasons}.")
    return {
        "num_frames": len(read_s),
        "skipped": list(source.skipped),
        "dropped": reader.dropped,
        "read_ms": 1000 * float(np.median(read_s)),
        "draw_and_write_ms": 1000 * float(np.median(draw_s)),
        "fps_overall": len(read_s) / (time.perf_counter() - start),
        "detectors": {
            name: {**run.fps(), "frames": run.frames} for name, run in runs.items()
        },
    }


def _draw(
    frame: Frame,
    found: Mapping[str, Detections],
    *,
    detectors: Mapping[str, Detector],
    runs: Mapping[str, _Run],
) -> list[np.ndarray]:
    """Returns the frame as each detector sees it."""
    return [
        annotate.draw(
            frame.image,
            boxes,
            info=detectors[name].info,
            title=_title(name, runs[name]),
        )
        for name, boxes in found.items()
    ]


def _detect(
    frame: Frame, detectors: Mapping[str, Detector], *, runs: Mapping[str, _Run]
) -> dict[str, Detections]:
    image = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
    found = {}
    for name, detector in detectors.items():
        result, timing = detector(image)
        found[name] = result
        runs[name].timings.append(timing)
        row = {"index": frame.index, "name": frame.name}
        boxes = _rows(result, detector, shape=frame.image.shape)
        runs[name].frames.append({**row, "detections": boxes})
    return found


def _rows(
    found: Detections, detector: Detector, *, shape: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns detections as JSON has them; boxes are left, top, right, bottom."""
    corners = annotate.pixel_boxes(found.boxes, shape)
    return [
        {
            "class": int(label),
            "label": detector.info.label(int(label)),
            "score": round(float(score), 4),
            "box": [round(float(side), 1) for side in box],
        }
        for box, score, label in zip(corners, found.scores, found.classes, strict=True)
    ]


def _title(name: str, run: _Run) -> str:
    """Names the detector and its speed over the last second or so."""
    last = [dataclasses.astuple(timing) for timing in run.timings[-25:]]
    return f"{name}  {len(last) / float(np.sum(last)):.1f} FPS"


class _Writers:
    """The videos and pictures of a session."""

    def __init__(self, source: Source, folder: Path, *, options: SessionOptions):
        self._is_video = source.kind != "images"
        self._keep_every = options.keep_every if self._is_video else 1
        self._pictures = folder / PICTURES
        self._video = VideoWriter(folder / VIDEO, source.fps)
        self._comparison = VideoWriter(folder / COMPARISON, source.fps)
        self._count = 0

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *raised: object) -> None:
        self._video.close()
        self._comparison.close()

    def write(self, frame: Frame, images: list[np.ndarray]) -> None:
        """Writes the annotated frame of each detector, side by side if several."""
        whole = images[0] if len(images) == 1 else annotate.side_by_side(images)
        if self._is_video:
            self._video.write(images[0])
            if len(images) > 1:
                self._comparison.write(whole)
        if self._keep_every and self._count % self._keep_every == 0:
            self._pictures.mkdir(exist_ok=True)
            stem = f"{frame.index:06d}" if self._is_video else Path(frame.name).stem
            name = f"{stem}.jpg"
            if not self._is_video and (self._pictures / name).exists():
                name = f"{frame.name}.jpg"  # a.png beside a.jpg.
            # Encoded first: OpenCV's own file names fail beyond ASCII on some systems.
            is_done, data = cv2.imencode(".jpg", whole)
            if is_done:
                (self._pictures / name).write_bytes(data.tobytes())
        self._count += 1
