"""A detector's file in MediaPipe's ObjectDetector, against our own reading of it."""

import json
import subprocess

import numpy as np
import pytest

from tests.detection.conftest import LABELS, SIZE, draw_squares
from tfslim import apps, errors, evaluation, tflite
from tfslim.consumers import CONSUMERS, mediapipe
from tfslim.detection.detector import Detector
from tfslim.detection.info import read_info
from tfslim.tflite import standard_metadata

_SCRIPT = """
import json, sys
import numpy as np
import mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision
content = open(sys.argv[1], "rb").read()
options = vision.ObjectDetectorOptions(
    base_options=BaseOptions(model_asset_buffer=content), score_threshold=0.3)
found = []
with vision.ObjectDetector.create_from_options(options) as detector:
    for image in np.load(sys.argv[2]):
        done = detector.detect(mp.Image(mp.ImageFormat.SRGB, image)).detections
        found.append([[d.categories[0].category_name, d.categories[0].score,
            d.bounding_box.origin_x, d.bounding_box.origin_y,
            d.bounding_box.width, d.bounding_box.height] for d in done])
print(json.dumps(found))
"""


def _images(count):
    """Pictures of up to four squares that do not touch, on the grid of cells."""
    random = np.random.default_rng(0)
    cells = [(x, y) for x in (0, 64) for y in (0, 64)]
    images = []
    for _ in range(count):
        chosen = random.permutation(len(cells))[: random.integers(1, 5)]
        squares = [
            (*cells[place], 32, LABELS[random.integers(0, 2)]) for place in chosen
        ]
        images.append(draw_squares(SIZE, SIZE, squares))
    return np.stack(images)


@pytest.mark.parametrize("kind", ["decoded", "decoded_int8_float"])
def test_mediapipe_finds_what_we_find(square_files, tmp_path, kind):
    reason = CONSUMERS.get("mediapipe").missing()
    if reason:
        pytest.skip(f"MediaPipe is not here: {reason}")
    content, images = square_files[kind], _images(100)
    path = tmp_path / "detector.tflite"
    path.write_bytes(apps.for_object_detector(content))
    np.save(tmp_path / "images.npy", images)
    command = [str(mediapipe.python()), "-c", _SCRIPT]
    done = subprocess.run(
        [*command, str(path), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours = Detector(evaluation.Predictor(content), read_info(tflite.read(content)))
    for image, theirs in zip(images, json.loads(done.stdout), strict=True):
        found, _ = ours(image)
        wanted = sorted(
            (LABELS[number], *np.round(box * SIZE).tolist(), float(score))
            for number, box, score in zip(
                found.classes, found.boxes, found.scores, strict=True
            )
        )
        assert len(theirs) == len(wanted) > 0
        # MediaPipe gives whole pixels, and a corner and a size.
        seen = sorted((n, x, y, x + w, y + h, s) for n, s, x, y, w, h in theirs)
        for one, other in zip(seen, wanted, strict=True):
            assert one[0] == other[0]
            np.testing.assert_allclose(one[1:5], other[1:5], atol=2)
            assert one[5] == pytest.approx(other[5], abs=1e-3)


def test_boxes_become_centres(square_files):
    """The op behind the boxes, against the arithmetic of the two forms."""
    content = square_files["decoded"]
    made = apps.for_object_detector(content)
    x = _images(1).astype(np.float32) / 255
    boxes, scores = tflite.run(content, [x])
    located, same = tflite.run(made, [x])
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    centres = [(top + bottom) / 2, (left + right) / 2, bottom - top, right - left]
    np.testing.assert_allclose(located, np.stack(centres, -1), atol=1e-6)
    np.testing.assert_array_equal(scores, same)
    about = standard_metadata.get(made)
    assert about.outputs == ("location", "score")
    assert (about.boxes, about.labelled, about.labels) == (0, 1, LABELS)
    assert set(about.custom) == {"DETECTOR_METADATA"}


@pytest.mark.parametrize("kind", ["raw", "split"])
def test_other_forms_are_refused(square_files, kind):
    with pytest.raises(errors.ConfigError, match="takes boxes and scores"):
        apps.for_object_detector(square_files[kind])
