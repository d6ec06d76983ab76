"""One box an object: non-maximum suppression, class by class."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfslim import checks, fields
from tfslim.detection import boxes as boxes_lib

# "hard" drops overlapping boxes, the others lower their scores.
METHODS = ("hard", "linear", "gaussian")


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, the most certain first.

    Attributes:
        boxes: float32 [n, 4], corners as shares of the image.
        scores: float32 [n], in 0..1.
        classes: int64 [n].
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.scores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NmsOptions(fields.Checked):
    """How boxes are chosen.

    Attributes:
        score_threshold: least score of a box, in [0, 1).
        iou_threshold: boxes of one class that overlap a better one by more than this
            are suppressed, in (0, 1]; not used by "gaussian".
        method: one of `METHODS`.
        sigma: width of "gaussian".
        max_detections: boxes that are kept, at most, over all classes.
        max_candidates: boxes of the best scores that are looked at, at most.
    """

    score_threshold: float = fields.field(0.25, least=0, below=1)
    iou_threshold: float = fields.field(0.45, above=0, most=1)
    method: str = fields.field("hard", choices=METHODS)
    sigma: float = fields.field(0.5, above=0)
    max_detections: int = fields.field(100, least=1)
    max_candidates: int = fields.field(5000, least=1)


@checks.by_name
def nms(
    boxes: np.ndarray, scores: np.ndarray, *, options: NmsOptions | None = None
) -> Detections:
    """Chooses the boxes of one image.

    A box stands for every class whose score is above the threshold. Greedy
    suppression, or Soft-NMS: Bodla et al., "Soft-NMS", ICCV 2017,
    https://arxiv.org/abs/1704.04503.

    Args:
        boxes: [n, 4], corners.
        scores: [n, num_classes].
        options: None: the defaults.

    Returns:
        What was found, the most certain first; of equal scores, the first box first.
    """
    options = options or NmsOptions()
    row, label = np.nonzero(scores > options.score_threshold)
    score = scores[row, label].astype(np.float32)
    best = np.argsort(-score, kind="stable")[: options.max_candidates]
    row, label, score = row[best], label[best], score[best]
    kept, values = [], []
    for one in np.unique(label):
        mine = np.flatnonzero(label == one)
        choose = _greedy if options.method == "hard" else _soft
        chosen, chosen_scores = choose(boxes[row[mine]], score[mine], options)
        kept.append(mine[chosen])
        values.append(chosen_scores)
    if not kept:
        return Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        )
    index, value = np.concatenate(kept), np.concatenate(values)
    order = np.lexsort((index, -value))[: options.max_detections]
    index, value = index[order], value[order]
    return Detections(boxes[row[index]].astype(np.float32), value, label[index])


def _greedy(
    boxes: np.ndarray, scores: np.ndarray, options: NmsOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices that stay, of boxes sorted by score, and their scores."""
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < options.max_detections:
        first, left = left[0], left[1:]
        kept.append(first)
        overlap = boxes_lib.iou(boxes[first][None], boxes[left])[0]
        left = left[overlap <= options.iou_threshold]
    chosen = np.array(kept, np.int64)
    return chosen, scores[chosen]


def _soft(
    boxes: np.ndarray, scores: np.ndarray, options: NmsOptions
) -> tuple[np.ndarray, np.ndarray]:
    left, values = np.arange(len(boxes)), scores.copy()
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(left) and len(kept) < options.max_detections:
        best = int(np.argmax(values))
        first = left[best]
        kept.append(first)
        kept_scores.append(values[best])
        left, values = np.delete(left, best), np.delete(values, best)
        overlap = boxes_lib.iou(boxes[first][None], boxes[left])[0]
        if options.method == "gaussian":
            values = values * np.exp(-(overlap**2) / options.sigma)
        else:
            values = np.where(
                overlap > options.iou_threshold, values * (1 - overlap), values
            )
        alive = values > options.score_threshold
        left, values = left[alive], values[alive].astype(np.float32)
    return np.array(kept, np.int64), np.array(kept_scores, np.float32)
