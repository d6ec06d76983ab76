"""The command line on the host."""

import json
import os

import pytest
import tf_keras

from tfslim import convert
from tfslim.benchmark import __main__ as command
from tfslim.tflite import flatbuffer


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small file and one with 64 times the work, in a folder with a space."""
    folder = tmp_path_factory.mktemp("a b")
    for name, filters in (("small", 4), ("large", 256)):
        inputs = tf_keras.Input((32, 32, 8))
        outputs = tf_keras.layers.Conv2D(filters, 3, activation="relu")(inputs)
        outputs = tf_keras.layers.GlobalAveragePooling2D()(outputs)
        file = convert.convert_model(tf_keras.Model(inputs, outputs)).tflite
        (folder / f"{name}.tflite").write_bytes(file)
    return folder


def _run(*arguments):
    quick = ("--num_runs=60", "--rounds=10", "--warmup_secs=0.01")
    return command.main(["x", *quick, *map(str, arguments)])


def test_table_threads_profile_and_files(models, tmp_path, capsys):
    out, page = tmp_path / "out.json", tmp_path / "out.md"
    code = _run(
        models / "small.tflite",
        models / "large.tflite",
        "--num_threads=1,2",
        "--profile",
        f"--out={out},{page}",
    )
    assert code == 0
    rows = json.loads(out.read_text())["rows"]
    seen = [
        (row["result"]["name"], row["result"]["options"]["num_threads"]) for row in rows
    ]
    assert seen == [
        (name, threads)
        for threads in (1, 2)
        for name in ("small.tflite", "large.tflite")
    ]
    assert [row["comparison"] is None for row in rows] == [True, False, True, False]
    assert rows[1]["comparison"]["verdict"] == "slower"
    ops = rows[0]["result"]["ops"]
    assert [op["op"] for op in ops] == ["CONV_2D", "MEAN"]
    assert all(op["latency_us"] > 0 for op in ops)
    terminal = capsys.readouterr().out
    for text in (terminal, page.read_text()):
        assert "not a phone" in text and "slower" in text and "CONV_2D" in text
        assert "cut into a file of its own" in text


@pytest.mark.slow
def test_gate(models, tmp_path, capsys):
    small, large = models / "small.tflite", models / "large.tflite"
    assert _run(large, f"--baseline={small}", "--max_regression=5%") == 1
    assert "takes" in capsys.readouterr().err
    assert _run(small, f"--baseline={large}") == 0
    old = tmp_path / "old.json"
    assert _run(small, f"--json={old}") == 0
    assert _run(large, f"--baseline={old}", "--max_regression=0.5") == 1
    assert _run(small, f"--baseline={old}", "--max_regression=900%") == 0
    assert "earlier run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No file was given"),
        (("m.tflite", "--out=a.txt"), "--out must end with .json or .md"),
        (("none.tflite",), "'none.tflite' cannot be read"),
        (("{small}", "{small}"), "given twice"),
        (("{small}", "--num_threads=two"), "whole numbers"),
        (("{small}", "--num_threads=0"), "num_threads must be at least 1"),
        (("{small}", "--min_secs=nan"), "min_secs"),
        (("{small}", "--delegate=gpu"), "The host has no delegate 'gpu'"),
        (("{small}", "--delegate=gpus"), "Did you mean 'gpu'?"),
        (("{small}", "--max_regression=fast"), "such as 5%"),
        (("{small}", "--confidence=99"), "between 0 and 1"),
        (("{small}", "--baseline=none.json"), "cannot be read"),
        (("{small}", "--basline=x"), "Did you mean '--baseline'?"),
    ],
)
def test_wrong_usage_is_one_line(models, capsys, arguments, message):
    filled = [a.format(small=models / "small.tflite") for a in arguments]
    assert _run(*filled) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1


def _damaged(data):
    """The file with a stride of 0."""
    flat = flatbuffer.unpack(data)
    flat.subgraphs[0].operators[0].builtinOptions.strideH = 0
    return flatbuffer.pack(flat)


def test_good_files_are_timed_beside_a_bad_one(models, tmp_path, capsys):
    bad = tmp_path / "bad\x1b[31m.tflite"
    bad.write_bytes(_damaged((models / "small.tflite").read_bytes()))
    assert _run(models / "small.tflite", bad, models / "large.tflite") == 1
    said = capsys.readouterr()
    rows = [
        line.split()[0]
        for line in said.out.splitlines()
        if " MB " in line or " kB " in line
    ]
    assert rows == ["small.tflite", "large.tflite"]
    assert "'bad\\x1b[31m.tflite'" in said.err and "strideH 0" in said.err
    assert "\x1b" not in said.out + said.err


def test_nothing_is_held_against_a_bad_baseline(models, tmp_path, capsys):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(_damaged((models / "small.tflite").read_bytes()))
    assert _run(models / "small.tflite", f"--baseline={bad}") == 1
    said = capsys.readouterr()
    assert said.out == "" and "bad.tflite" in said.err
    assert _run(bad) == 1


@pytest.mark.parametrize("flag", ["--json", "--markdown"])
def test_what_cannot_be_written_is_refused_before_the_work(models, capsys, flag):
    assert _run(models / "small.tflite", f"{flag}={'n' * 256}") == 2
    said = capsys.readouterr()
    assert said.out == "" and f"{flag} 'nnn" in said.err


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_files_are_timed(tmp_path, capsys, kind):
    path = tmp_path / "a.tflite"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert _run(path) == 2
    assert f"{kind}, not a file" in capsys.readouterr().err
