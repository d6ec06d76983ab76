"""The whole search, on digits."""

import json

import pytest

from tfslim import optimize
from tfslim.export import main as export


@pytest.mark.slow
def test_a_family_that_export_makes_again(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.setenv("TFSLIM_COSTS", str(tmp_path / "costs"))
    out = tmp_path / "out"
    flags = ["--config.training.epochs=2", "--brief_epochs=1", "--epochs=1"]
    flags += ["--config.benchmark.num_runs=10", "--config.benchmark.rounds=5"]
    command = ["optimize", "mlp", "--data=digits", f"--out={out}", "--family=2"]
    assert optimize.main([*command, *flags]) == 0
    found = json.loads((out / "optimize.json").read_text())
    names = [row["candidate"]["name"] for row in found["trials"]]
    assert len(names) == len(set(names)) >= 2
    assert 1 <= len(found["final"]) <= 2
    base = found["baseline"]["float32"]
    trials = {row["candidate"]["name"]: row for row in found["trials"]}
    for row in found["final"]:
        # Trained longer, or the trial itself where that was no better.
        assert row["quality"] >= trials[row["candidate"]["name"]]["quality"]
        assert row["params"] <= base["params"]
        folder = out / row["folder"]
        again = tmp_path / "again" / row["folder"]
        recipe = row["candidate"]["recipe"]
        flags = [f"--config={folder / 'config.json'}", f"--out={again}"]
        assert export(["export", *flags]) == 0
        first = (folder / f"{recipe}.tflite").read_bytes()
        assert (again / f"{recipe}.tflite").read_bytes() == first
    # The same command goes on: no trial is made twice.
    before = (out / "trials").stat().st_mtime_ns, sorted((out / "trials").iterdir())
    assert optimize.main([*command, "--epochs=1", "--brief_epochs=1"]) == 0
    after = (out / "trials").stat().st_mtime_ns, sorted((out / "trials").iterdir())
    assert after == before
    # A budget that cannot be met is said without a trial.
    capsys.readouterr()
    small = ["optimize", "mlp", "--data=digits", f"--out={tmp_path / 'small'}"]
    code = optimize.main([*small, "--max_size=300", "--config.training.epochs=1"])
    said = capsys.readouterr().err
    assert code == 1
    assert "The budget cannot be met" in said and "300 asked for" in said
    assert not (tmp_path / "small" / "trials").exists()
