"""Labels of YOLO and COCO against boxes worked out by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfslim import data, errors

REAL = os.environ.get("TFSLIM_DATA")
NONE = (0, 0, 0, 0, -1)


def _image(path, width=40, height=20, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (colour,) * 3).save(path)


def _label(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def _all_targets(dataset):
    """Targets by the grey of the image, which says which one it is."""
    found = {}
    for part in (dataset.train, dataset.validation, dataset.test):
        for image, rows in zip(
            part.inputs(np.arange(len(part))), part.targets, strict=True
        ):
            found[int(image[0, 0, 0])] = rows
    return found


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"),
        (".", "."),
        ("images/train", "labels/train"),
        ("train/images", "train/labels"),
        ("train", "train"),
    ],
)
def test_yolo_layouts(tmp_path, images, labels):
    for index in range(5):
        _image(tmp_path / images / f"{index}.png", colour=10 * index)
        _label(tmp_path / labels / f"{index}.txt", f"{index} 0.5 0.25 0.2 0.5")
    dataset = data.load(f"yolo:{tmp_path}")
    assert dataset.task == "detection" and dataset.class_names == tuple("01234")
    assert [len(p) for p in (dataset.train, dataset.validation, dataset.test)] == [
        3,
        1,
        1,
    ]
    for grey, rows in _all_targets(dataset).items():
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, [(0.4, 0.0, 0.6, 0.5, grey / 10)], atol=1e-6)


def test_yolo_splits_empty_images_names_and_polygons(tmp_path):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for index in range(count):
            _image(tmp_path / "images" / split / f"{index}.jpg", colour=100)
    labels = tmp_path / "labels"
    _label(labels / "train" / "0.txt", "1 0.5 0.5 1 1", "", " 0 .1 .1 .1 .1 ")
    _label(labels / "train" / "1.txt", "")
    # A triangle; its extent is the box. And a box a pixel beyond the border.
    _label(labels / "val" / "0.txt", "0 0.1 0.2 0.5 0.9 0.3 0.4", "1 0.9 0.5 0.21 1.01")
    (tmp_path / "data.yaml").write_text("nc: 3\nnames:\n  1: dog\n  0: cat\n  2: cow\n")
    dataset = data.load(f"yolo:{tmp_path}")
    assert dataset.class_names == ("cat", "dog", "cow")
    assert dataset.notes == ("3 images without a label file count as empty.",)
    np.testing.assert_allclose(
        dataset.train.targets,
        [[(0, 0, 1, 1, 1), (0.05, 0.05, 0.15, 0.15, 0)], [NONE] * 2, [NONE] * 2],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        dataset.validation.targets[0],
        [(0.1, 0.2, 0.5, 0.9, 0), (0.795, 0, 1, 1, 1)],
        atol=1e-6,
    )
    (tmp_path / "classes.txt").write_text("one\n\ntwo\n")
    assert data.load(f"yolo:{tmp_path}").class_names == ("one", "two")
    (tmp_path / "classes.txt").write_text("one")
    with pytest.raises(errors.DataError, match=r"names 1 classes, but .* class 1"):
        data.load(f"yolo:{tmp_path}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "has 4 fields, expected 'class cx cy w h'"),
        ("0 0.1 0.1 0.2 0.2 0.9", "has 6 fields"),
        ("cat 0.5 0.5 0.2 0.2", "could not convert string to float: 'cat'"),
        ("1.5 0.5 0.5 0.2 0.2", "whole number from 0, got '1.5'"),
        ("-1 0.5 0.5 0.2 0.2", "whole number from 0, got '-1'"),
        ("0 20 10 8 4", "between 0 and 1"),
        ("0 0.5 0.5 0 0.2", "no box inside the image"),
        ("0 nan 0.5 0.1 0.2", "no box inside the image"),
        ("0 0.5 0.5 -0.1 0.2", "no box inside the image"),
        ("nan 0.5 0.5 0.1 0.2", "whole number from 0"),
    ],
)
def test_a_bad_label_is_one_line_with_its_place(tmp_path, line, message):
    _image(tmp_path / "images" / "a.png")
    file = tmp_path / "labels" / "a.txt"
    _label(file, "0 0.5 0.5 0.1 0.1", line)
    with pytest.raises(errors.DataError, match=message) as caught:
        data.load(f"yolo:{tmp_path}")
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert "\n" not in str(caught.value)


def test_yolo_without_what_it_needs(tmp_path):
    with pytest.raises(errors.DataError, match="has no readable images"):
        data.load(f"yolo:{tmp_path}")
    _image(tmp_path / "a.png")
    with pytest.raises(errors.DataError, match="images but no boxes"):
        data.load(f"yolo:{tmp_path}")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.DataError, match=r"a\.txt cannot be read as text"):
        data.load(f"yolo:{tmp_path}")
    with pytest.raises(errors.DataError, match="is not a folder"):
        data.load(f"yolo:{tmp_path / 'a.png'}")


def test_corrupt_images_leave_with_their_boxes(tmp_path):
    for index in range(4):
        _image(tmp_path / "images" / f"{index}.png", colour=index)
        _label(tmp_path / "labels" / f"{index}.txt", f"{index} 0.5 0.5 0.5 0.5")
    (tmp_path / "images" / "1.png").write_bytes(b"\x89PNG")
    dataset = data.load(f"yolo:{tmp_path}", skip_corrupt=True)
    assert len(dataset.skipped) == 1 and "1.png" in dataset.skipped[0]
    found = _all_targets(dataset)
    assert {grey: rows[0, 4] for grey, rows in found.items()} == {0: 0, 2: 2, 3: 3}


def _coco(images, annotations, categories=((7, "dog"), (3, "cat"))):
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 20}
            for i in images
        ],
        "annotations": [
            {"image_id": i, "category_id": c, "bbox": box, **more}
            for i, c, box, more in annotations
        ],
        "categories": [{"id": i, "name": name} for i, name in categories],
    }


def _write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("{}/_annotations.coco.json", "{}"),
    ],
)
def test_coco_layouts(tmp_path, file, images):
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        for index in range(first, first + 2):
            _image(tmp_path / images.format(split) / f"{index}.png", colour=index)
        content = _coco([first + 1, first], [(first, 7, [10, 5, 20, 5], {})])
        _write_json(tmp_path / file.format(split), content)
    dataset = data.load(f"coco:{tmp_path}")
    # Numbered by id: 3 is class 0, 7 is class 1.
    assert dataset.class_names == ("cat", "dog") and dataset.task == "detection"
    found = _all_targets(dataset)
    assert sorted(found) == [0, 1, 10, 11, 20, 21]
    for grey, rows in found.items():
        expected = (0.25, 0.25, 0.75, 0.5, 1) if grey % 10 == 0 else NONE
        np.testing.assert_allclose(rows, [expected], atol=1e-6)


def test_one_coco_file_is_split_and_crowds_leave(tmp_path):
    for index in range(10):
        _image(tmp_path / f"{index}.png", colour=index)
    boxes = [(i, 3, [0, 0, 40, 20.2], {}) for i in range(10)]
    crowd = [(0, 7, [1, 1, 2, 2], {"iscrowd": 1})]
    _write_json(tmp_path / "a.json", _coco(range(10), boxes + crowd))
    dataset = data.load(f"coco:{tmp_path / 'a.json'}")
    assert [len(p) for p in (dataset.train, dataset.validation, dataset.test)] == [
        7,
        1,
        2,
    ]
    assert dataset.notes == ("1 regions marked as crowds were left out.",)
    for rows in _all_targets(dataset).values():
        np.testing.assert_allclose(rows, [(0, 0, 1, 1, 0)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "no list 'images'"),
        ({"categories": [{"name": "cat"}]}, "entry of 'categories' has no valid 'id'"),
        ({"images": [{"id": 0}]}, "entry of 'images' has no valid 'width'"),
        ({"images": []}, "lists no images"),
        ({"annotations": [{"image_id": 0}]}, "'annotations' has no valid"),
        (
            {"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
            r"annotations\[0\]: image 9 or category 3 is not in the file",
        ),
        (
            {"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 90, 1]}]},
            r"bbox \[0, 0, 90, 1\] is no box inside an image of 40x20",
        ),
    ],
)
def test_bad_coco_is_one_line(tmp_path, change, message):
    _image(tmp_path / "0.png")
    _write_json(tmp_path / "a.json", {**_coco([0], []), **change})
    with pytest.raises(errors.DataError, match=message) as caught:
        data.load(f"coco:{tmp_path / 'a.json'}")
    assert "\n" not in str(caught.value) and "a.json" in str(caught.value)


def test_coco_that_is_not_there(tmp_path):
    with pytest.raises(errors.DataError, match="neither annotations/"):
        data.load(f"coco:{tmp_path}")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(errors.DataError, match="is not JSON"):
        data.load(f"coco:{tmp_path / 'a.json'}")
    _write_json(tmp_path / "a.json", _coco([5], []))
    with pytest.raises(errors.DataError, match=r"5\.png of .* is not found"):
        data.load(f"coco:{tmp_path / 'a.json'}")


@pytest.mark.skipif(not REAL, reason="TFSLIM_DATA is not set")
def test_real_coco_labels_as_yolo_and_as_coco_are_equal(tmp_path):
    root = Path(REAL) / "coco"
    as_yolo = data.load(f"yolo:{root}")
    assert as_yolo.class_names[0] == "person" and len(as_yolo.class_names) == 80
    files = sorted((root / "labels" / "val").glob("*.txt"))
    lines = [f.read_text().splitlines() for f in files]
    count = (as_yolo.test.targets[..., 4] >= 0).sum()
    assert count == sum(map(len, lines)) and len(as_yolo.test) >= len(files)
    images, annotations = [], []
    for image, file in enumerate(sorted((root / "images" / "val").iterdir())):
        width, height = Image.open(file).size
        images.append(
            {"id": image, "file_name": file.name, "width": width, "height": height}
        )
        label = root / "labels" / "val" / f"{file.stem}.txt"
        for line in label.read_text().splitlines() if label.exists() else []:
            c, x, y, w, h = map(float, line.split())
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append({"image_id": image, "category_id": int(c), "bbox": box})
    categories = [{"id": i, "name": n} for i, n in enumerate(as_yolo.class_names)]
    (tmp_path / "images").symlink_to(root / "images")
    _write_json(
        tmp_path / "annotations" / "instances_train.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    # The names say train; the pictures are those of val.
    (tmp_path / "train").symlink_to(root / "images" / "val")
    as_coco = data.load(f"coco:{tmp_path}", validation_fraction=0.0, test_fraction=0.0)
    np.testing.assert_allclose(as_coco.train.targets, as_yolo.test.targets, atol=1e-5)
