"""A folder is one whole result, or it is not."""

import hashlib
import json

import pytest

from tfslim import errors, manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"one")
    (tmp_path / "report.md").write_text("two")
    manifest.write(tmp_path, ["report.md", "a.tflite"])
    return tmp_path


def test_content_by_hashlib(folder):
    content = json.loads((folder / "manifest.json").read_text())
    assert content["version"] == 1
    assert content["files"]["a.tflite"] == {
        "sha256": hashlib.sha256(b"one").hexdigest(),
        "size_bytes": 3,
    }
    assert list(content["files"]) == ["a.tflite", "report.md"]
    (folder / "mine.txt").write_text("the user's own")
    manifest.verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "a.tflite").write_bytes(b"One"), "a.tflite is not the file"),
        (lambda f: (f / "report.md").unlink(), "report.md is missing"),
        (lambda f: (f / "manifest.json").unlink(), "no readable manifest.json"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_text('{"files"'), "no readable"),
    ],
)
def test_what_is_not_whole_is_named(folder, change, message):
    change(folder)
    with pytest.raises(errors.VerificationError, match=message):
        manifest.verify(folder)


def test_names_that_lead_out_of_the_folder_are_left_out(tmp_path):
    entry = {"sha256": "0", "size_bytes": 0}
    names = ["../x", "/etc/passwd", "..", "a.tflite"]
    (tmp_path / "manifest.json").write_text(
        json.dumps({"version": 1, "files": dict.fromkeys(names, entry)})
    )
    assert set(manifest.read(tmp_path)) <= {"..", "a.tflite"}
