"""What `tfslim doctor` finds, here and on machines where something is missing."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from packaging import specifiers

from tfslim import commands, doctor


@pytest.mark.parametrize(
    "limits", [">=2.3,<3", "==0.8.1", ">=1.4", "<2", "!=2.3", ">2.3,<=2.10.1", ""]
)
@pytest.mark.parametrize("version", ["2.3.0", "2.3", "3.0", "0.8.1", "2.10.1", "1.4"])
def test_limits_as_pip_reads_them(version, limits):
    expected = version in specifiers.SpecifierSet(limits)
    assert doctor.satisfies(version, limits) == expected


def test_here_the_base_works(capsys, tmp_path):
    out = tmp_path / "doctor.json"
    assert commands.main(["tfslim", "doctor", "--quick", f"--json={out}"]) == 0
    shown = capsys.readouterr().out
    rows = json.loads(out.read_text())["findings"]
    by_name = {row["name"]: row for row in rows}
    litert = importlib.metadata.version("ai-edge-litert")
    assert by_name["ai-edge-litert"]["text"] == litert
    assert by_name["litert"]["state"] == by_name["quantizer"]["state"] == "ok"
    for row in rows:
        assert row["name"] in shown
        assert (row["state"] == "ok") == (not row["mend"]), row
    for name in ("adb", "vela", "gpu", "arm64", "mediapipe", "compiled", "cpu"):
        assert name in by_name


def test_what_is_missing_has_its_command(monkeypatch):
    known = importlib.metadata.version

    def version(name):
        if name in ("tensorflow", "litert-quantizer"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "ai-edge-litert" else known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {f.name: f for f in doctor._packages()}
    assert found["tensorflow"].state == "missing"
    assert not found["tensorflow"].is_needed
    assert "pip install 'tfslim[tensorflow]'" in found["tensorflow"].mend
    assert found["litert-quantizer"].is_needed
    assert "pip install 'litert-quantizer" in found["litert-quantizer"].mend
    assert found["ai-edge-litert"].state == "broken"
    assert "1.0, >=2.3" in found["ai-edge-litert"].text.replace("<3,", "")


def test_without_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (found,) = doctor._adb()
    assert (found.state, found.is_needed) == ("missing", False)
    assert found.mend


def test_a_trial_that_fails_says_its_last_line():
    assert doctor._trial("x", "import no_such_module").state == "missing"
    found = doctor._trial("x", "raise ValueError('no\\nsuch luck')")
    assert (found.state, found.text) == ("broken", "such luck")
    assert doctor._trial("x", "print('1\\n2')").text == "2"


@pytest.mark.slow
def test_both_keras_and_tfmot_are_tried():
    found = {f.name: f for f in doctor._trials()}
    assert {name: f.state for name, f in found.items()} == {
        "keras2": "ok",
        "keras3": "ok",
        "tf-mot": "ok",
    }
    assert "Keras 2" in found["keras2"].text
    assert "Keras 3" in found["keras3"].text


@pytest.mark.parametrize("package", ["ai_edge_litert", "litert_quantizer", "numpy"])
def test_a_base_that_cannot_be_imported_is_a_line(package):
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from tfslim import doctor; sys.exit(doctor.main(['doctor', '--quick']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "does not work here without" in line
    assert f"import of {package}" in done.stdout
