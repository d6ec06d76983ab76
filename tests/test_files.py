"""Files and folders appear whole or not at all."""

import json

import numpy as np
import pytest

from tfslim import errors, files


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert path.read_text() == '{\n  "a": 2\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "folder"
    with files.whole_folder(path) as building:
        (building / "first").write_text("1")
    with pytest.raises(RuntimeError), files.whole_folder(path) as building:
        (building / "second").write_text("2")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["first"]
    with files.whole_folder(path) as building:
        (building / "third").write_text("3")
    assert [p.name for p in path.iterdir()] == ["third"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_has_no_infinity(tmp_path):
    value = {"a": [1.0, float("inf"), (float("nan"), 2)], "b": np.float64("-inf")}
    files.write_json(tmp_path / "a.json", value)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found == {"a": [1.0, None, [None, 2]], "b": None}


def test_require_writable(tmp_path):
    files.require_writable(tmp_path / "new" / "a", "--out")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(errors.ConfigError, match=r"--out .* cannot be written"):
            files.require_writable(path, "--out")
