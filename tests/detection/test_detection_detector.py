"""A detector that finds squares: every form of its file says where they are."""

import json

import numpy as np
import pytest

from tests.detection.conftest import LABELS, SIZE, draw_squares
from tfslim import errors, evaluation, preprocessing, tflite
from tfslim.detection import YOLOV3_HEADS, Head, NmsOptions, with_classes
from tfslim.detection.detector import Detector
from tfslim.detection.info import DetectorInfo, guess_heads, read_info
from tfslim.tflite import metadata

KINDS = ["decoded", "raw", "split", "decoded_int8_float", "raw_int8_float",
         "split_int8_float", "split_int8_int8", "split_int8_uint8"]  # fmt: skip


def _detector(content, **options):
    info = read_info(tflite.read(content), **options)
    return Detector(evaluation.Predictor(content), info)


@pytest.mark.parametrize("kind", KINDS)
def test_squares_are_found_in_every_form_of_the_file(square_files, kind):
    image = draw_squares(SIZE, SIZE, [(32, 64, 32, "red"), (96, 0, 32, "blue")])
    found, timing = _detector(square_files[kind])(image)
    order = np.argsort(found.classes)
    np.testing.assert_array_equal(found.classes[order], [0, 1])
    wanted = [[0.25, 0.5, 0.5, 0.75], [0.75, 0.0, 1.0, 0.25]]
    np.testing.assert_allclose(found.boxes[order], wanted, atol=0.01)
    # Two logistics of 8.
    np.testing.assert_allclose(found.scores, 1.0, atol=0.02)
    assert min(timing.prepare, timing.inference, timing.decode, timing.nms) > 0


@pytest.mark.parametrize(
    ("width", "height", "square"),
    [
        # Letterboxed from 256 x 128: one pixel of the input is two, 32 rows are grey.
        (256, 128, (64, 64, 64)),
        (64, 128, (0, 48, 32)),
        (128, 128, (64, 0, 32)),
    ],
)
def test_boxes_are_those_of_the_image(square_files, width, height, square):
    left, top, side = square
    image = draw_squares(width, height, [(*square, "blue")])
    found, _ = _detector(square_files["decoded"])(image)
    best = found.boxes[0] * [width, height, width, height]
    assert found.classes[0] == 1
    grid = SIZE / max(width, height)
    if (left * grid) % 32 == 0 and side * grid == 32 and width == height:
        assert len(found) == 1
    wanted = [left, top, left + side, top + side]
    np.testing.assert_allclose(best, wanted, atol=17 / grid)


def test_stretched_images_fill_the_input(square_files):
    image = draw_squares(256, 128, [(64, 32, 64, "red")])
    image[32:64, 64:128] = (255, 0, 0)
    detector = _detector(square_files["decoded"], resize="stretch")
    x = detector.prepare(draw_squares(256, 64, [(64, 16, 16, "red")]))
    assert x.shape == (1, SIZE, SIZE, 3)
    # 16 of 256 columns are 8 of 128; 16 of 64 rows are 32 of 128.
    red = x[0, ..., 0] > 0.5
    assert red.any(axis=0).sum() == 8
    assert red.any(axis=1).sum() == 32


def test_letterboxed_images_have_darknets_grey(square_files):
    x = _detector(square_files["decoded"]).prepare(np.zeros((64, 128, 3), np.uint8))
    np.testing.assert_allclose(x[0, :32], 127 / 255)
    np.testing.assert_array_equal(x[0, 32:96], 0.0)
    np.testing.assert_allclose(x[0, 96:], 127 / 255)


def test_channel_order_and_formula_are_the_files(square_heads):
    info = DetectorInfo(
        preprocessing=preprocessing.preset("caffe", (32, 32, 3)), heads=square_heads
    )
    seen = []

    def predict(x):
        seen.append(x)
        return [np.zeros((1, 1, 1, 14))]

    image = np.full((32, 32, 3), (255, 0, 0), np.uint8)
    Detector(predict, info)(image)
    np.testing.assert_allclose(
        seen[0][0, 5, 5], [-103.939, -116.779, 255 - 123.68], rtol=1e-6
    )


def test_only_images_are_looked_at(square_files):
    detector = _detector(square_files["decoded"])
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(errors.DataError, match="expected uint8"):
            detector(image)


def test_what_the_file_says_can_be_overridden(square_files, square_heads):
    content = tflite.read(square_files["raw"])
    info = read_info(content)
    assert (info.labels, info.heads) == (LABELS, square_heads)
    assert (info.outputs, info.resize) == ("raw", "letterbox")
    other = (Head(((1, 1), (2, 2)), 32, 2),)
    info = read_info(content, heads=other, labels=["a"], resize="stretch")
    assert (info.heads, info.labels, info.resize) == (other, ("a",), "stretch")
    assert info.label(0) == "a"
    assert info.label(1) == "1"
    with pytest.raises(errors.ConfigError, match="Did you mean 'stretch'"):
        read_info(content, resize="strech")


def _without_metadata(content):
    # An entry of nothing stands for no entry.
    return tflite.read(metadata.put_json(content, {}))


def test_files_without_metadata_are_understood_by_their_shapes(square_files):
    info = read_info(_without_metadata(square_files["decoded"]))
    assert (info.outputs, info.resize, info.labels) == ("decoded", "letterbox", ())
    assert info.preprocessing == preprocessing.preset("unit", (SIZE, SIZE, 3))
    with pytest.raises(errors.ConfigError, match=r"give the network's \.cfg"):
        read_info(_without_metadata(square_files["raw"]))
    with pytest.raises(errors.ConfigError, match="expected raw maps"):
        read_info(_without_metadata(square_files["split"]))


def test_maps_of_yolov3_are_known_in_any_order():
    shapes = [(1, 80, 52, 24), (1, 20, 13, 24), (1, 40, 26, 24)]
    heads = with_classes(YOLOV3_HEADS, 3)
    assert guess_heads(shapes, (640, 416)) == (heads[2], heads[0], heads[1])
    with pytest.raises(errors.ConfigError, match=r"give the network's \.cfg"):
        guess_heads(shapes[:1], (640, 416))
    with pytest.raises(errors.ConfigError, match=r"give the network's \.cfg"):
        guess_heads([(1, 80, 52, 25), *shapes[1:]], (640, 416))


def test_outputs_in_another_order_find_their_heads():
    heads = (Head(((32, 32),), 32, 1), Head(((16, 16),), 16, 1))
    info = DetectorInfo(
        preprocessing=preprocessing.preset("unit", (64, 64, 3)), heads=heads
    )
    coarse, fine = np.full((1, 2, 2, 6), -9.0), np.full((1, 4, 4, 6), -9.0)
    fine[0, 3, 0] = [0, 0, 0, 0, 9, 9]
    for maps in ([coarse, fine], [fine, coarse]):
        found, _ = Detector(lambda x, m=maps: m, info)(np.zeros((64, 64, 3), np.uint8))
        assert len(found) == 1
        np.testing.assert_allclose(found.boxes, [[0, 0.75, 0.25, 1]], atol=1e-6)


def test_metadata_round_trip(square_heads):
    info = DetectorInfo(
        preprocessing=preprocessing.preset("torch", (SIZE, SIZE, 3)),
        heads=square_heads,
        outputs="split",
        resize="stretch",
        labels=LABELS,
    )
    text = json.dumps(info.to_metadata())
    assert set(json.loads(text)) == {"detection", "labels", "preprocessing"}
    with pytest.raises(errors.ConfigError, match="Did you mean 'split'"):
        DetectorInfo(
            preprocessing=info.preprocessing, heads=square_heads, outputs="splt"
        )
    with pytest.raises(errors.ConfigError, match="A detector sees images"):
        DetectorInfo(preprocessing=preprocessing.preset("raw", (5,)), heads=())


def test_thresholds_reach_the_boxes(square_files):
    content = square_files["decoded"]
    image = draw_squares(SIZE, SIZE, [(32, 64, 32, "red")])
    image[64:96, 32:64, 0] = 150  # Redness 0.59: objectness 1.4, so 0.8.
    options = [NmsOptions(score_threshold=s) for s in (0.5, 0.95)]
    info = read_info(tflite.read(content))
    numbers = [
        len(Detector(evaluation.Predictor(content), info, options=o)(image)[0])
        for o in options
    ]
    assert numbers == [1, 0]


@pytest.mark.parametrize(
    "entries",
    [
        {"detection": 3},
        {"detection": {"heads": 3}},
        {"detection": {"heads": [3]}},
        {"detection": {"heads": [{"stride": 8}]}},
        {"detection": {"heads": [{"anchors": [["a", 1]], "stride": 8}]}},
        {"detection": {"outputs": ["raw"]}},
        {"detection": {"resize": 3}},
        {"labels": "cat"},
        {"labels": [3]},
        {"preprocessing": 3},
        {"preprocessing": {"input_shape": 3}},
    ],
    ids=str,
)
def test_metadata_that_nobody_wrote_is_one_line(square_files, entries):
    content = metadata.put_json(square_files["raw"], entries)
    with pytest.raises(errors.TfslimError) as caught:
        read_info(tflite.read(content))
    assert "\n" not in str(caught.value)
