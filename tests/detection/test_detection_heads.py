"""Heads say what they are, or one line says what is wrong."""

import json

import pytest

from tfslim import errors
from tfslim.detection import YOLOV3_HEADS, YOLOV3_TINY_HEADS, Head, with_classes


def test_heads_of_yolov3():
    assert [head.stride for head in YOLOV3_HEADS] == [32, 16, 8]
    assert {head.num_channels for head in YOLOV3_HEADS} == {255}
    assert [head.stride for head in YOLOV3_TINY_HEADS] == [32, 16]
    assert YOLOV3_HEADS[0].anchors[2] == (373.0, 326.0)
    assert [h.num_channels for h in with_classes(YOLOV3_HEADS, 3)] == [24, 24, 24]


def test_json_round_trip():
    text = json.dumps([head.to_json() for head in YOLOV3_HEADS])
    assert tuple(map(Head.from_json, json.loads(text))) == YOLOV3_HEADS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"anchors": [], "stride": 8, "num_classes": 3}, "anchors .* above 0"),
        ({"anchors": [[1, 0]], "stride": 8}, "above 0"),
        ({"anchors": [[1, 2, 3]], "stride": 8}, "No head of a YOLO network"),
        ({"anchors": [[1, 2]], "stride": 0}, "stride 0"),
        ({"anchors": [[1, 2]], "stride": 8, "num_classes": 0}, "0 classes"),
        ({"anchors": [[1, 2]]}, "stride"),
        ({"anchors": [[1, 2]], "stride": 8, "steps": 1}, "steps"),
    ],
)
def test_a_wrong_head_is_one_clear_line(value, message):
    with pytest.raises(errors.ConfigError, match=message) as caught:
        Head.from_json(value)
    assert "\n" not in str(caught.value)
