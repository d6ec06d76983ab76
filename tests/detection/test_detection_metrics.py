"""Average precision against pycocotools, COCO's own code."""

import contextlib
import io

import numpy as np
import pytest

from tfslim import errors
from tfslim.detection import Detections, Truth, mean_average_precision


def _random(seed, images=12, classes=4, spread=0.03):
    """Objects, and detections that find some of them, twice at times, and more."""
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(images):
        n = int(rng.integers(0, 7))
        corner = rng.uniform(0, 0.6, (n, 2))
        objects = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (n, 2))], 1)
        labels = rng.integers(0, classes, n)
        truths.append(Truth(objects, labels))
        index = rng.permutation(np.repeat(np.arange(n), 2))[
            : rng.integers(0, 2 * n + 1)
        ]
        boxes = objects[index] + rng.normal(0, spread, (len(index), 4))
        found = np.where(rng.uniform(size=len(index)) < 0.8, labels[index], 0)
        corner = rng.uniform(0, 0.6, (5, 2))
        wrong = np.concatenate([corner, corner + 0.2], 1)
        # Few different scores: ties must be broken alike.
        scores = np.round(rng.uniform(size=len(index) + 5), 1)
        detections.append(
            Detections(
                np.concatenate([boxes, wrong]),
                scores,
                np.concatenate([found, rng.integers(0, classes + 2, 5)]),
            )
        )
    return detections, truths


def _pycocotools(detections, truths, size=1000.0):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(boxes):
        corners = boxes * size
        return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)

    annotations, results = [], []
    for image, (found, truth) in enumerate(zip(detections, truths, strict=True)):
        for box, label in zip(rows(truth.boxes), truth.classes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
            )
        for box, label, score in zip(
            rows(found.boxes), found.classes, found.scores, strict=True
        ):
            results.append(
                {
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": label} for label in range(6)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # [threshold, recall, category, area, detections]: all areas, 100 detections.
    table = evaluation.eval["precision"][:, :, :, 0, 2]
    return evaluation.stats, table.mean(axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_precision_is_that_of_pycocotools(seed):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    detections, truths = _random(seed, spread=(0.005, 0.03)[seed % 2])
    found = mean_average_precision(detections, truths)
    stats, table = _pycocotools(detections, truths)
    assert 0.02 < found.map_50_95 < 0.95
    assert found.map_50_95 == pytest.approx(stats[0], abs=1e-9)
    assert found.map_50 == pytest.approx(stats[1], abs=1e-9)
    for label, values in found.per_class.items():
        np.testing.assert_allclose(values, table[:, label], atol=1e-9)
    assert (np.delete(table, list(found.per_class), axis=1) == -1).all()


def test_many_boxes_of_a_class_in_an_image():
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.9, (150, 2))
    boxes = np.concatenate([corner, corner + 0.1], 1)
    truths = [Truth(boxes, np.zeros(150, int))]
    detections = [Detections(boxes, rng.uniform(size=150), np.zeros(150, int))]
    found = mean_average_precision(detections, truths)
    # 100 of 150 objects are found, so the recalls 0 to 0.66.
    assert found.map_50 == pytest.approx(67 / 101)
    assert found.map_50 == pytest.approx(_pycocotools(detections, truths)[0][1])


def test_by_hand():
    box = np.array([[0.0, 0, 1, 1]])
    truths = [Truth(box, np.array([0])), Truth(box, np.array([0]))]
    right = Detections(box, np.array([0.5]), np.array([0]))
    wrong = Detections(box + 5, np.array([0.9]), np.array([0]))
    # The wrong one first: precision 1/2 up to the recall 1/2, so at 51 of 101.
    found = mean_average_precision([right, wrong], truths)
    assert found.map_50 == pytest.approx(0.5 * 51 / 101)
    perfect = mean_average_precision([right, right], truths)
    assert (perfect.map_50, perfect.map_50_95) == (1.0, 1.0)
    # Overlap 0.8: right up to that threshold, which 7 of the 10 are.
    smaller = Detections(box * [1, 1, 1, 0.8 + 1e-9], np.array([0.5]), np.array([0]))
    found = mean_average_precision([smaller, smaller], truths)
    assert (found.map_50, found.map_50_95) == (1.0, pytest.approx(0.7))


def test_no_detections_and_no_objects():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    truth = Truth(np.array([[0.0, 0, 1, 1]]), np.array([3]))
    assert mean_average_precision([nothing], [truth]).map_50 == 0.0
    empty = Truth(np.zeros((0, 4)), np.zeros(0, int))
    with pytest.raises(errors.ConfigError, match="No image has an object"):
        mean_average_precision([nothing], [empty])
    with pytest.raises(errors.ConfigError, match="of 1 images and truths of 2"):
        mean_average_precision([nothing], [truth, truth])
