"""Files and folders appear whole or not at all."""

import pytest

from tfslim import files


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
