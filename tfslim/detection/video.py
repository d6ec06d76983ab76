"""Frames of a video, a folder of images or a camera, read ahead of who needs them."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from tfslim import errors
from tfslim.detection.opencv import cv2

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# What Pillow raises for files that are no images, or not whole.
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        index: its number, from 0; frames that cannot be read have one, too.
        name: of its file, or its number.
        image: uint8 [height, width, 3], blue, green, red, as OpenCV has it.
        read_s: seconds that reading it took.
    """

    index: int
    name: str
    image: np.ndarray
    read_s: float


class Source(Protocol):
    """Where frames come from.

    Attributes:
        kind: "video", "images" or "camera".
        fps: frames a second; 0 where that has no meaning.
        skipped: what could not be read, and why.
    """

    kind: str
    fps: float
    skipped: list[str]

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order, once."""
        ...


def open_source(source: str) -> Source:
    """Opens what a user names.

    Args:
        source: a video's or an image's file, a folder of images, or "camera:0".

    Raises:
        ConfigError: there is no such file, or the folder has no images.
        DataError: it cannot be opened.
    """
    if source.startswith("camera:"):
        number = source.removeprefix("camera:")
        if not number.isdigit():
            raise errors.ConfigError(f"'{source}' names no camera; write camera:0.")
        return _Video(int(number), source, kind="camera")
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES)
        if not files:
            raise errors.ConfigError(
                f"The folder '{source}' has no images ({', '.join(IMAGES)})."
            )
        return _Images(files)
    if not path.is_file():
        raise errors.ConfigError(
            f"There is no file or folder '{source}'. Name a video, an image, a folder "
            "of images or camera:0."
        )
    if path.suffix.lower() in IMAGES:
        return _Images([path])
    return _Video(source, source, kind="video")


class _Images:
    def __init__(self, files: list[Path]):
        self.kind = "images"
        self.fps = 0.0
        self.skipped: list[str] = []
        self._files = files

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            start = time.perf_counter()
            try:
                # Pillow, unlike OpenCV, does not take half a file for an image.
                with Image.open(file) as picture:
                    upright = ImageOps.exif_transpose(picture).convert("RGB")
            except _BROKEN as error:
                self.skipped.append(f"{file.name}: {_line(error)}")
                continue
            image = np.ascontiguousarray(np.asarray(upright)[..., ::-1])
            yield Frame(index, file.name, image, time.perf_counter() - start)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Video:
    def __init__(self, where: int | str, name: str, *, kind: str):
        self.kind = kind
        self.skipped: list[str] = []
        self._name = name
        self._capture = cv2.VideoCapture(where)
        if not self._capture.isOpened():
            raise errors.DataError(
                f"'{name}' cannot be opened as a {kind}. "
                + (
                    "Is it plugged in, and not in use?"
                    if kind == "camera"
                    else "Is it a video, whole, of a kind that OpenCV can read?"
                )
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        # Some containers have no rate, or a nonsensical one.
        self.fps = fps if 0 < fps < 1000 else 25.0

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        try:
            while True:
                start = time.perf_counter()
                is_read, image = self._capture.read()
                if not is_read:
                    break
                yield Frame(index, str(index), image, time.perf_counter() - start)
                index += 1
        finally:
            self._capture.release()
        if self.kind == "video" and index < announced:
            self.skipped.append(
                f"{self._name}: {index} of {announced} frames could be read"
            )


class ReadAhead:
    """Reads frames in a thread of their own, so that nobody waits for them.

    At most `depth` frames are kept, so memory does not grow. Of a camera, which does
    not wait, the oldest ones are dropped where they come too fast.

    Use it in a `with` block, which ends the thread. What fails in the thread is raised
    where the frames are taken.

    Attributes:
        dropped: number of frames of a camera that came too fast.
    """

    def __init__(self, source: Source, depth: int = 4):
        """Prepares to read `source`, at most `depth` >= 1 frames ahead."""
        self.dropped = 0
        self._source = source
        self._frames: queue.Queue[Any] = queue.Queue(max(1, depth))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> ReadAhead:
        """Begins to read."""
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends the thread, wherever it is."""
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order."""
        while (item := self._frames.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        end: BaseException | None = None
        try:
            for frame in self._source:
                self._put(frame, may_drop=self._source.kind == "camera")
                if self._stopped.is_set():
                    return
        except BaseException as error:  # It belongs to the thread that waits.
            end = error
        self._put(end)

    def _put(self, item: Any, *, may_drop: bool = False) -> None:
        while not self._stopped.is_set():
            try:
                self._frames.put(item, timeout=0.0 if may_drop else 0.05)
                return
            except queue.Full:
                if may_drop:
                    with contextlib.suppress(queue.Empty):
                        self._frames.get_nowait()
                        self.dropped += 1


class VideoWriter:
    """Writes frames into an `.mp4` (MPEG-4 Part 2, which OpenCV has everywhere)."""

    def __init__(self, path: Path, fps: float):
        """Prepares; the file is made at the first frame, in its size."""
        self._path = path
        self._fps = fps
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, image: np.ndarray) -> None:
        """Adds a frame [height, width, 3]; one of another size is scaled.

        Raises:
            DataError: the file cannot be written.
        """
        height, width = image.shape[:2]
        if self._writer is None:
            # The codec takes even sizes only.
            self._size = (width // 2 * 2, height // 2 * 2)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise errors.DataError(
                    f"OpenCV cannot write the video '{self._path}' of {width}x{height} "
                    "pixels."
                )
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(image)

    def close(self) -> None:
        """Ends the file; without frames there is none."""
        if self._writer is not None:
            self._writer.release()
