"""The same file in the programs that will run it."""

import dataclasses
import json

import numpy as np
import pytest

from tfslim import apps, consumers, errors, report, tflite, verify
from tfslim.consumers import process, samples, verdict
from tfslim.pipeline import proving
from tfslim.tflite import flatbuffer


def require(name):
    reason = consumers.CONSUMERS.get(name).missing()
    if reason:
        pytest.skip(f"{name} is not here: {reason}")


def test_the_interpreter_and_the_compiled_model_are_always_here():
    assert {"interpreter", "compiled"} <= set(consumers.available())


@pytest.mark.parametrize("recipe", ["float32", "float16", "dynamic_int8", "int8"])
def test_compiled_gives_what_keras_gives(classifier, recipe):
    outcome = consumers.run(
        classifier.files[recipe], classifier.inputs, name="compiled"
    )
    (found,) = outcome.outputs.values()
    assert outcome.is_fully_accelerated
    assert outcome.versions["ai-edge-litert"]
    same = (found.argmax(1) == classifier.answers.argmax(1)).mean()
    assert same == 1.0 if recipe == "float32" else same >= 0.97
    expected = tflite.run(classifier.files[recipe], classifier.inputs["image"][:1])
    np.testing.assert_allclose(found[:1], next(iter(expected.values())), atol=1e-6)


@pytest.mark.parametrize("name", ["gpu", "arm64", "arm64_a53", "mediapipe"])
def test_float_files_are_right_everywhere(classifier, name):
    require(name)
    inputs = {"image": classifier.x[:32]}
    rows = consumers.verify(classifier.files["float32"], inputs, names=[name])
    assert rows[name]["status"] == "right", rows[name]
    assert rows[name]["against"]["interpreter"]["max_abs_error"] < 1e-4


@pytest.mark.parametrize("name", ["arm64", "arm64_a53", "mediapipe"])
def test_int8_files_are_right_on_cpus(classifier, name):
    require(name)
    inputs = {"image": classifier.x[:32]}
    rows = consumers.verify(classifier.files["int8"], inputs, names=[name])
    assert rows[name]["status"] == "right", rows[name]


@pytest.mark.parametrize("recipe", ["float32", "float16", "dynamic_int8", "int8"])
def test_mediapipe_gives_keras_answer_to_every_picture(classifier, recipe):
    """The standard metadata carries the normalization, the labels and the scores."""
    require("mediapipe")
    content = classifier.files[recipe]
    outcome = consumers.run(content, classifier.inputs, name="mediapipe")
    (found,) = outcome.outputs.values()
    same = (found.argmax(1) == classifier.answers.argmax(1)).mean()
    assert same == 1.0 if recipe == "float32" else same >= 0.98
    assert outcome.conditions["labels"] == ["cat", "dog", "fox"]


def test_mediapipe_says_why_it_refuses_a_file(classifier):
    require("mediapipe")
    flat = flatbuffer.unpack(classifier.plain)
    flat.metadata = [e for e in flat.metadata if e.name != b"TFLITE_METADATA"]
    bare = flatbuffer.pack(flat)
    with pytest.raises(consumers.ConsumerError, match="NormalizationOptions"):
        consumers.run(bare, classifier.inputs, name="mediapipe")


def test_vela_says_what_it_leaves_to_the_cpu(classifier):
    require("vela")
    rows = consumers.verify(
        classifier.files["float32"], classifier.inputs, names=["vela"]
    )
    assert rows["vela"]["status"] == "compiled"
    assert rows["vela"]["is_fully_accelerated"] is False
    assert "CONV_2D x2 on the CPU" in rows["vela"]["fell_back"]
    done = consumers.run(classifier.files["int8"], classifier.inputs, name="vela")
    assert not any("CONV_2D" in text for text in done.fell_back)
    assert done.conditions["estimated_cycles"] > 0


def test_a_consumer_that_is_missing_is_one_line(monkeypatch, tmp_path, classifier):
    monkeypatch.setenv("TFSLIM_CONSUMERS", str(tmp_path))
    with pytest.raises(errors.ConfigError) as caught:
        consumers.verify(
            classifier.files["float32"], classifier.inputs, names=["mediapipe"]
        )
    assert "tfslim consumers --setup=mediapipe" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_consumer_has_its_nearest_name(classifier):
    with pytest.raises(errors.ConfigError, match="Did you mean 'gpu'"):
        consumers.verify(classifier.files["float32"], classifier.inputs, names=["gpus"])


def test_wrong_inputs_are_one_line(classifier):
    content = classifier.files["float32"]
    for inputs, message in (
        ({"picture": classifier.x}, "named picture"),
        ({"image": classifier.x[:, :5]}, r"takes \[24, 24, 3\]"),
        ({"image": classifier.x[:0]}, "above 0"),
    ):
        with pytest.raises(errors.ConfigError, match=message):
            consumers.run(content, inputs, name="compiled")


def test_a_program_that_dies_is_an_error_of_one_line(tmp_path):
    script = tmp_path / "dies.sh"
    script.write_text("#!/bin/sh\necho INFO: hello >&2\nkill -SEGV $$\n")
    script.chmod(0o755)
    with pytest.raises(consumers.ConsumerError, match="SIGSEGV: no reason given"):
        process.call([str(script)])
    with pytest.raises(consumers.ConsumerError, match="cannot be started"):
        process.call([str(tmp_path / "absent")])


def test_samples_of_a_batch_are_filled_up_and_cut_again():
    """Seven samples through a file that takes three at a time."""
    import tf_keras

    import tfslim

    model = tf_keras.Sequential(
        [tf_keras.layers.Dense(2, input_shape=(4,), batch_size=3)]
    )
    content = tfslim.convert_model(model).tflite
    (name,) = tflite.read(content).input_names
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    packed = samples.pack(tflite.read(content), {name: x})
    assert packed.arrays[0].shape == (3, 3, 4)
    for consumer in ("interpreter", "compiled"):
        (found,) = consumers.run(content, {name: x}, name=consumer).outputs.values()
        expected = x @ model.get_weights()[0] + model.get_weights()[1]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def _scores(seed, *, count=50):
    scores = np.random.default_rng(seed).uniform(size=(count, 4))
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s, ""),
        (lambda s: s + np.float32(1e-4), ""),
        (lambda s: np.roll(s, 1, axis=1), "another class"),
        (lambda s: np.full_like(s, 0.25), "another class"),
        (lambda s: s * np.float32(np.nan), "NaN"),
    ],
)
def test_verdicts(change, reason):
    truth = _scores(0)
    found = verdict.judge(
        {"y": truth}, {"y": change(truth)}, against="interpreter", classes=True
    )
    assert found.is_right == (not reason)
    assert reason in found.reason


def test_a_tie_between_two_classes_is_nobodys_fault():
    truth = np.tile(np.float32([[0.4, 0.4001, 0.1]]), (20, 1))
    truth[::2, 2] = 0.9
    other = truth.copy()
    other[:, :2] = truth[:, 1::-1]
    found = verdict.judge({"y": truth}, {"y": other}, against="x", classes=True)
    assert found.agreement == 1.0


def test_command(classifier, tmp_path, capsys):
    path, out = tmp_path / "int8.tflite", tmp_path / "out.json"
    path.write_bytes(classifier.files["int8"])
    argv = ["verify", str(path), "--in=compiled", f"--json={out}", "--num_samples=8"]
    assert verify.main(argv) == 0
    shown = capsys.readouterr().out
    assert "compiled" in shown and "right" in shown
    result = json.loads(out.read_text())
    assert result["num_samples"] == 8
    assert set(result["consumers"]) == {"interpreter", "compiled"}
    assert result["consumers"]["compiled"]["against"]["interpreter"]["agreement"] == 1


@pytest.fixture
def broken_gpu(monkeypatch):
    """A GPU that answers with the scores of other classes."""
    gpu, right = (consumers.CONSUMERS.get(name) for name in ("gpu", "compiled"))

    def run(content, inputs):
        outcome = right.run(content, inputs)
        moved = {n: np.roll(y, 1, axis=1) for n, y in outcome.outputs.items()}
        return dataclasses.replace(outcome, outputs=moved)

    fake = dataclasses.replace(gpu, missing=lambda: "", run=run)
    monkeypatch.setitem(consumers.CONSUMERS._entries, "gpu", fake)


def test_command_ends_with_1_where_a_consumer_is_wrong(
    broken_gpu, classifier, tmp_path, capsys
):
    path = tmp_path / "int8.tflite"
    path.write_bytes(classifier.files["int8"])
    np.save(tmp_path / "x.npy", classifier.x)
    argv = ["verify", str(path), "--in=gpu", f"--input={tmp_path / 'x.npy'}"]
    assert verify.main(argv) == 1
    captured = capsys.readouterr()
    assert "another class" in captured.out
    assert captured.err.splitlines()[-1].endswith("The GPU wants float16.")


def test_warnings_of_an_export_name_what_is_wrong(broken_gpu, classifier):
    content = classifier.files["int8"]
    found = consumers.matrix(
        {"int8": content}, classifier.inputs, names=["gpu", "compiled"]
    )
    (line,) = proving.warnings(found)
    assert line.startswith("int8 is wrong in gpu: ")
    assert line.endswith("Give the GPU float16.")
    assert "int8 | gpu | wrong" in report.consumers_to_markdown(found)


def test_command_without_a_model(capsys):
    assert verify.main(["verify"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_made_up_samples_are_pictures_after_preprocessing(classifier):
    found = consumers.made_up(classifier.files["float32"], count=3)["image"]
    assert found.shape == (3, 24, 24, 3)
    pixels = (found + 1) * 127.5
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)
    assert apps.read_about(classifier.files["float32"]).labels[0] == "cat"
