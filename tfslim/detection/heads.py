"""What the numbers of a YOLO head mean: its anchors, stride and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors


@dataclasses.dataclass(frozen=True)
class Head:
    """One scale of a YOLO network.

    Its map is [batch, height / stride, width / stride, num_anchors * (5 +
    num_classes)]; each anchor's channels are tx, ty, tw, th, objectness, classes.

    Attributes:
        anchors: (width, height) of each, in pixels of the network's input.
        stride: pixels of the input from one cell to the next.
        num_classes: number of classes.
    """

    anchors: tuple[tuple[float, float], ...]
    stride: int
    num_classes: int = 80

    def __post_init__(self) -> None:
        """Checks the fields, and makes tuples of lists (as JSON has them)."""
        anchors = tuple((float(w), float(h)) for w, h in self.anchors)
        object.__setattr__(self, "anchors", anchors)
        if not anchors or min(min(anchor) for anchor in anchors) <= 0:
            raise errors.ConfigError(
                f"A head needs anchors (width, height) above 0, got {self.anchors}."
            )
        if self.stride < 1 or self.num_classes < 1:
            raise errors.ConfigError(
                f"A head needs a stride and a number of classes of at least 1, got "
                f"stride {self.stride} and {self.num_classes} classes."
            )

    @property
    def num_anchors(self) -> int:
        """The number of boxes that each cell predicts."""
        return len(self.anchors)

    @property
    def num_channels(self) -> int:
        """The number of channels of the head's map."""
        return self.num_anchors * (5 + self.num_classes)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dict that `json.dumps` writes."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Head:
        """Builds the `Head` that `to_json` wrote.

        Raises:
            ConfigError: a field is unknown, missing or wrong.
        """
        try:
            return cls(**value)
        except (TypeError, ValueError) as error:
            raise errors.ConfigError(
                f"No head of a YOLO network: {dict(value)} ({error}). Expected anchors "
                "[[width, height], ...], stride and num_classes."
            ) from error


def with_classes(heads: Sequence[Head], num_classes: int) -> tuple[Head, ...]:
    """Returns the heads for another number of classes."""
    return tuple(dataclasses.replace(h, num_classes=num_classes) for h in heads)


# Darknet's yolov3.cfg and yolov3-tiny.cfg, coarse first; clustered on COCO at 416.
YOLOV3_HEADS = (
    Head(((116, 90), (156, 198), (373, 326)), 32),
    Head(((30, 61), (62, 45), (59, 119)), 16),
    Head(((10, 13), (16, 30), (33, 23)), 8),
)
YOLOV3_TINY_HEADS = (
    Head(((81, 82), (135, 169), (344, 319)), 32),
    Head(((10, 14), (23, 27), (37, 58)), 16),
)


def by_shapes(
    shapes: Sequence[Sequence[int]], size: tuple[int, int]
) -> tuple[Head, ...]:
    """Returns the heads of YOLOv3 or YOLOv3-tiny whose maps have these shapes.

    Args:
        shapes: [height, width, channels] of each map, in any order.
        size: (height, width) of the network's input.

    Returns:
        One head a map, with Darknet's anchors; none if the maps are of neither.
    """
    for known in (YOLOV3_HEADS, YOLOV3_TINY_HEADS):
        cells = {(size[0] // h.stride, size[1] // h.stride): h for h in known}
        found = [cells[s[0], s[1]] for s in shapes if (s[0], s[1]) in cells]
        channels = {shape[2] for shape in shapes}
        if len({*found}) == len(shapes) == len(known) and len(channels) == 1:
            values, rest = divmod(channels.pop(), 3)
            if values > 5 and not rest:
                return with_classes(found, values - 5)
    return ()
