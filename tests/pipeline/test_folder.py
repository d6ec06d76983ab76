"""The folder of an export: one writer, nothing stale, whatever kills it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tfslim import errors, manifest
from tfslim.pipeline import folder as folder_lib


def _names(path):
    return sorted(p.name for p in path.iterdir())


def _export(path, variants, *, overwrite=False, stop_before=None):
    """Writes as `export_model` does, or stops in the middle as a kill would."""
    with folder_lib.taken(path, overwrite, variants=variants) as own:
        own.start()
        steps = ["model.keras", *(f"{v}.tflite" for v in variants), "report.md"]
        for name in [*steps, "result.json"]:
            if name == stop_before:
                raise KeyboardInterrupt
            own.write_bytes(name, f"{name} of {variants}".encode())
        own.finish()


def test_a_whole_run_has_a_manifest_and_nothing_else(tmp_path):
    _export(tmp_path / "out", ["float32", "int8"])
    manifest.verify(tmp_path / "out")
    assert _names(tmp_path / "out") == [
        *("float32.tflite", "int8.tflite", "manifest.json", "model.keras"),
        *("report.md", "result.json"),
    ]


@pytest.mark.parametrize(
    "moment", ["model.keras", "float32.tflite", "int8.tflite", "report.md"]
)
def test_nothing_of_a_killed_run_stays_after_the_next_one(tmp_path, moment):
    """Of three runs the second is killed, and the third makes fewer files."""
    _export(tmp_path, ["float32", "float16"])
    (tmp_path / "mine.tflite").write_bytes(b"the user's own")
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path, ["float32", "int8"], overwrite=True, stop_before=moment)
    with pytest.raises(errors.VerificationError):
        manifest.verify(tmp_path)
    with pytest.raises(errors.ConfigError, match=r"did not end.*--overwrite"):
        _export(tmp_path, ["float32"])
    _export(tmp_path, ["float32"], overwrite=True)
    manifest.verify(tmp_path)
    tflite = {name for name in _names(tmp_path) if name.endswith(".tflite")}
    assert tflite == {"float32.tflite", "mine.tflite"}
    assert not [name for name in _names(tmp_path) if name.startswith(".")]


def test_old_manifest_goes_after_the_files_that_it_names(tmp_path, monkeypatch):
    _export(tmp_path, ["float32", "int8"])
    removed, unlink = [], folder_lib.Path.unlink

    def spied(path, **options):
        removed.append(path.name)
        unlink(path, **options)

    monkeypatch.setattr(folder_lib.Path, "unlink", spied)
    with folder_lib.taken(tmp_path, True, variants=["float32"]) as own:
        own.start()
    assert removed[-1] == "manifest.json"
    assert {"int8.tflite", "float32.tflite", "report.md"} < set(removed)


def test_results_without_a_manifest_are_known_by_their_result(tmp_path):
    """Folders of earlier versions have none."""
    (tmp_path / "int8.tflite").write_bytes(b"")
    variants = {"variants": [{"file": "int8.tflite"}]}
    (tmp_path / "result.json").write_text(json.dumps(variants))
    _export(tmp_path, ["float32"], overwrite=True)
    assert "int8.tflite" not in _names(tmp_path)


def test_a_variant_that_is_not_made_again_does_not_stay(tmp_path):
    """Of a folder that says nothing of what it holds: killed in an earlier version."""
    (tmp_path / "int8.tflite").write_bytes(b"old")
    (tmp_path / "mine.tflite").write_bytes(b"the user's own")
    with folder_lib.taken(tmp_path, True, variants=["float32", "int8"]) as own:
        own.start()
        own.write_bytes("float32.tflite", b"new")  # int8 could not be made.
        own.finish()
    assert _names(tmp_path) == ["float32.tflite", "manifest.json", "mine.tflite"]


def test_a_file_that_no_plan_named_goes_with_its_run(tmp_path):
    """As the variant that a step trained does."""
    with pytest.raises(KeyboardInterrupt):
        with folder_lib.taken(tmp_path, False, variants=["float32"]) as own:
            own.start()
            own.write_bytes("int8_qat.tflite", b"")
            raise KeyboardInterrupt
    _export(tmp_path, ["float32"], overwrite=True)
    assert "int8_qat.tflite" not in _names(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(tmp_path):
    (tmp_path / "int8.tflite").mkdir()
    with pytest.raises(errors.ConfigError, match=r"has a folder called int8\.tflite"):
        with folder_lib.taken(tmp_path, True, variants=["int8"]):
            raise AssertionError
    assert _names(tmp_path) == ["int8.tflite"]


@pytest.mark.parametrize("name", ["manifest.json", ".tfslim-export.json"])
def test_a_kill_while_the_folder_keeps_its_own_books(tmp_path, monkeypatch, name):
    """Nothing is left beside the results, whatever is cut off."""
    replace = folder_lib.Path.replace

    def killed(path, target):
        if folder_lib.Path(target).name == name:
            monkeypatch.setattr(folder_lib.Folder, "clean", lambda own: None)
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(folder_lib.Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _export(tmp_path, ["float32"])
    monkeypatch.undo()
    _export(tmp_path, ["float32"], overwrite=True)
    assert not [found for found in _names(tmp_path) if found.startswith(".")]


def test_a_second_writer_is_refused(tmp_path):
    with folder_lib.taken(tmp_path / "out", False, variants=["int8"]) as own:
        with pytest.raises(errors.ConfigError, match=r"Another export.*out'") as caught:
            with folder_lib.taken(tmp_path / "out", True, variants=["int8"]):
                raise AssertionError
        assert "\n" not in str(caught.value)
        own.write_bytes("model.keras", b"")
    # The lock went with the first.
    with folder_lib.taken(tmp_path / "out", True, variants=["int8"]):
        pass


def test_what_another_job_wrote_meanwhile_stays(tmp_path):
    folder_lib.claim(tmp_path, overwrite=False)
    _export(tmp_path, ["int8"])
    with pytest.raises(errors.ConfigError, match="already holds"):
        _export(tmp_path, ["float32"])
    manifest.verify(tmp_path)


_HOLDS = """
import pathlib, sys, time
from tfslim.pipeline import folder
with folder.taken(pathlib.Path(sys.argv[1]), True, variants=["int8"]) as own:
    own.start()
    own.write_bytes("int8.tflite", b"half")
    with own.writing("model.keras") as path:
        path.write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock_and_no_scratch(tmp_path):
    command = [sys.executable, "-c", _HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(errors.ConfigError, match="Another export"):
            _export(tmp_path, ["float32"], overwrite=True)
        os.kill(process.pid, signal.SIGKILL)
    _export(tmp_path, ["float32"], overwrite=True)
    assert "int8.tflite" not in _names(tmp_path)
    assert not [name for name in _names(tmp_path) if name.startswith(".")]


def test_a_full_disk_names_the_file(tmp_path):
    with folder_lib.taken(tmp_path, False, variants=["int8"]) as own:
        for error in (OSError(28, "No space left on device"), OSError("Can't write")):
            with pytest.raises(OSError, match=f"'{tmp_path}/model.keras'"):
                with own.writing("model.keras"):
                    raise error
    assert _names(tmp_path) == []


def test_names_too_long_are_told_before_the_work(tmp_path):
    with pytest.raises(errors.ConfigError, match="cannot be written to"):
        with folder_lib.taken(tmp_path, False, variants=["n" * 300]):
            raise AssertionError


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(errors.ConfigError, match="cannot be written to"):
        with folder_lib.taken(tmp_path, False, variants=["int8"]):
            raise AssertionError


def test_a_job_that_wrote_nothing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path / "new", ["int8"], stop_before="model.keras")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path / "mine", ["int8"], stop_before="model.keras")
    assert _names(tmp_path / "mine") == []


def test_what_a_killed_job_left_is_known_after_one_that_wrote_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path, ["int8"], stop_before="report.md")
    with (
        pytest.raises(KeyError),
        folder_lib.taken(tmp_path, True, variants=["float32"]),
    ):
        raise KeyError  # As a training that fails.
    with pytest.raises(errors.ConfigError, match="did not end"):
        _export(tmp_path, ["float32"])
    _export(tmp_path, ["float32"], overwrite=True)
    assert "int8.tflite" not in _names(tmp_path)
