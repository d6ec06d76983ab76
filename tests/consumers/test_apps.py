"""What a file says of itself, the code made of it, and `tfslim run`."""

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tfslim
from tfslim import apps, run, tflite
from tfslim.apps import inputs as inputs_lib
from tfslim.preprocessing import Preprocessing, preset
from tfslim.tflite import metadata, standard_metadata


def _saved(folder, pixels, name="photo.png"):
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def test_the_standard_says_what_our_own_entry_says(classifier):
    content = classifier.files["int8"]
    standard = standard_metadata.get(content)
    assert standard.mean == standard.std == pytest.approx((127.5,))
    assert standard.labels == apps.read_about(content).labels
    assert standard.name == "little"
    # As other tools see it: without our entry.
    bare = metadata.put(content, {"tfslim": b"{}"})
    about = apps.read_about(bare)
    assert about.source == "TFLITE_METADATA"
    pixels = classifier.pixels[:4]
    np.testing.assert_allclose(
        about.preprocessing.apply(pixels), classifier.x[:4], atol=1e-6
    )


def test_metadata_survives_quantization(classifier):
    """What convert_model writes is in the files made of its file."""
    assert standard_metadata.get(classifier.plain) is not None
    done = tfslim.quantize_tflite(classifier.plain, "float16").tflite
    assert standard_metadata.get(done) == standard_metadata.get(classifier.plain)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("raw", (0.0,), (1.0,)),
        ("unit", (0.0,), (255.0,)),
        ("symmetric", (127.5,), (127.5,)),
        ("torch", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
)
def test_normalization_of_the_presets(name, mean, std):
    """Torch's figures are those that its users know."""
    from tfslim.apps.about import normalization

    found = normalization(preset(name, (8, 8, 3)))
    assert found[0] == pytest.approx(mean)
    assert found[1] == pytest.approx(std)


def test_users_may_write_anything_into_our_entry(classifier):
    for entry in ({"preprocessing": "none"}, {"labels": 3, "preprocessing": {}}):
        content = metadata.put_json(classifier.plain, entry)
        assert apps.write_standard(content) == content


def test_python_code_gives_the_files_answers(classifier, tmp_path):
    content = classifier.files["int8"]
    files = {f"{name}.tflite": file for name, file in classifier.files.items()}
    code = apps.app_code(files)
    (tmp_path / "int8.tflite").write_bytes(content)
    (tmp_path / "app_python.py").write_text(code["app_python.py"], encoding="utf-8")
    photo = _saved(tmp_path, np.tile(classifier.pixels[0], (2, 3, 1)))
    done = subprocess.run(
        [sys.executable, "app_python.py", str(photo)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()[1:]]
    about = apps.read_about(content)
    x = inputs_lib.samples_of(content, [inputs_lib.read_picture(photo)], about=about)
    (scores,) = tflite.run(content, x).values()
    best = np.argsort(-scores[0], kind="stable")
    assert [label for _, label in shown] == [about.labels[i] for i in best]
    expected = [float(scores[0, i]) for i in best]
    assert [float(s) for s, _ in shown] == pytest.approx(expected, abs=1e-4)


def test_code_for_phones_has_the_models_figures(classifier):
    files = {f"{name}.tflite": file for name, file in classifier.files.items()}
    code = apps.app_code(files)
    assert set(code) == {
        "app_python.py",
        "app_compiled.kt",
        "app_mediapipe.kt",
        "app_mediapipe.swift",
    }
    assert 'setModelAssetPath("int8.tflite")' in code["app_mediapipe.kt"]
    assert 'forResource: "int8"' in code["app_mediapipe.swift"]
    assert "($0.categoryName" in code["app_mediapipe.swift"]
    compiled = code["app_compiled.kt"]
    assert '"float16.tflite"' in compiled
    assert "class Little(" in compiled
    assert "const val WIDTH = 24" in compiled
    assert "(Color.red(pixel) - MEAN[0]) / STD[0]" in compiled
    assert (
        "listOf("
        + ", ".join(f'"{n}"' for n in apps.read_about(classifier.plain).labels)
        in compiled
    )


def test_odd_names_stay_within_their_literals(classifier):
    prepare = Preprocessing(
        input_shape=(24, 24, 3),
        mean=(1.0, 2.0, 3.0),
        channel_order="bgr",
    )
    labels = ['a"b', "$x", "back\\slash", "ö", "'''"]
    entry = {"name": '9 "*/', "labels": labels, "preprocessing": prepare.to_json()}
    content = metadata.put_json(classifier.plain, entry)
    code = apps.app_code({"float32.tflite": content})
    # MediaPipe takes no BGR.
    assert set(code) == {"app_python.py", "app_compiled.kt"}
    tree = ast.parse(code["app_python.py"])
    found = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(found["LABELS"]) == labels
    assert "class Model9(" in code["app_compiled.kt"]
    assert '"\\$x"' in code["app_compiled.kt"]
    assert (
        "values[place * CHANNELS + 0] = (Color.blue(pixel)" in code["app_compiled.kt"]
    )


def test_no_code_for_a_model_of_no_image(classifier):
    content = metadata.put_json(classifier.plain, {"labels": ["a"]})
    content = metadata.put(content, {"TFLITE_METADATA": b""})
    assert apps.app_code({"float32.tflite": content}) == {}


def test_run_names_what_it_sees(classifier, tmp_path, capsys):
    path, out = tmp_path / "int8.tflite", tmp_path / "out.json"
    path.write_bytes(classifier.files["int8"])
    photos = [_saved(tmp_path, classifier.pixels[i], f"{i}.png") for i in range(3)]
    listed = ",".join(map(str, photos))
    argv = ["run", str(path), f"--input={listed}", "--top=2", f"--json={out}"]
    assert run.main(argv) == 0
    shown = capsys.readouterr().out
    labels = apps.read_about(classifier.plain).labels
    result = json.loads(out.read_text())
    for index, sample in enumerate(result["samples"]):
        assert len(sample["classes"]) == 2
        best = sample["classes"][0]
        assert best["label"] == labels[best["index"]]
        assert best["label"] in shown
        (scores,) = tflite.run(
            classifier.files["int8"], classifier.x[index : index + 1]
        ).values()
        assert best["score"] == pytest.approx(float(scores.max()))
    assert result["latency_us"]["p50"] > 0
    assert "metadata: tfslim" in shown


def test_run_says_what_it_needs(classifier, tmp_path, capsys):
    bare = metadata.put(classifier.plain, {"tfslim": b"{}", "TFLITE_METADATA": b""})
    path = tmp_path / "bare.tflite"
    path.write_bytes(bare)
    photo = _saved(tmp_path, classifier.pixels[0])
    for argv, message in (
        ([str(path)], "an input are needed"),
        ([str(path), f"--input={photo}"], "--preprocessing"),
        ([str(path), f"--input={photo}", "--preprocessing=symetric"], "symmetric"),
    ):
        assert run.main(["run", *argv]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and message in captured.err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert run.main(["run", str(path), f"--input={broken}"]) == 1
    assert "is no picture" in capsys.readouterr().err
    argv = [str(path), f"--input={photo}", "--preprocessing=symmetric"]
    assert run.main(["run", *argv]) == 0
