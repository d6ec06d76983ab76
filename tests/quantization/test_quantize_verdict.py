"""`python -m tfslim.quantize` refuses what is useless and says what is better."""

import json

import numpy as np
import pytest
import small_models

from tfslim import quantize, tflite

RANDOM = np.random.default_rng(0)


# What is tried to keep accuracy is not what is tested here.
QUICK = ("--calibration=minmax", "--rounding=nearest", "--bias_correction=none")


def run(*arguments):
    arguments = (*arguments[:1], *QUICK, "--noequalize", *arguments[1:])
    return quantize.main(["tfslim.quantize", *map(str, arguments)])


def write(folder, call, *shapes, types=None, names=None):
    import tensorflow as tf

    types = types or [tf.float32] * len(shapes)
    names = names or [None] * len(shapes)
    specs = [tf.TensorSpec(*spec) for spec in zip(shapes, types, names, strict=True)]
    path = folder / "net.tflite"
    path.write_bytes(small_models.convert_function(call, specs))
    return path


def npz(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return f"--data=npz:{folder / 'set.npz'}"


def report(folder):
    return json.loads((folder / "net_int8.json").read_text())


KERNEL = RANDOM.normal(size=(6, 3)).astype(np.float32)
XS = RANDOM.normal(size=(80, 6)).astype(np.float32)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_column_of_another_unit_is_refused(tmp_path, task, capsys):
    import tensorflow as tf

    unlike = KERNEL * np.float32([2000, 1, 1])
    path = write(tmp_path, lambda x: tf.matmul(tf.nn.relu(x), unlike), (1, 6))
    data = npz(tmp_path, x=XS)
    assert run(path, data, "--preprocessing=raw", f"--task={task}") == 1
    said = capsys.readouterr().err
    assert "columns 1, 2 of axis 1" in said and "--recipe=dynamic_int8 (" in said
    assert not list(tmp_path.glob("net_int8*"))
    # Untested it is written, as before.
    assert run(path, data, "--preprocessing=raw", "--eval_samples=0") == 0


def test_a_dead_head_is_refused(tmp_path, capsys):
    """The second output's range is one that a few odd samples made."""
    import tensorflow as tf

    def call(x):
        return tf.matmul(x, KERNEL), tf.matmul(x, 1e-3 * KERNEL) + 0.0

    path = write(tmp_path, call, (1, 6))
    odd = XS.copy()
    data = npz(tmp_path, x_train=odd, x_test=XS)
    flags = ("--preprocessing=raw", "--task=regression")
    assert run(path, data, *flags) == 0
    names = list(tflite.read(path).output_names)
    ranges = json.loads((tmp_path / "net_int8.ranges.json").read_text())
    for row in ranges["ranges"]:
        if row["tensor"] in [t.name for t in tflite.read(path).outputs[1:]]:
            row["min"], row["max"] = -1000.0, 1000.0
    (tmp_path / "wide.json").write_text(json.dumps(ranges))
    wide = (f"--ranges={tmp_path / 'wide.json'}", "--overwrite")
    capsys.readouterr()
    assert run(path, data, *flags, *wide) == 1
    assert f"output {names[1]} collapsed" in capsys.readouterr().err


def test_what_is_as_wrong_as_zeros_is_refused(tmp_path, capsys):
    """Wide values share a scale with the narrow ones that matter."""
    import tensorflow as tf

    pick = np.eye(6, 3, -3).astype(np.float32)

    def call(x):
        both = tf.concat([3000.0 * tf.matmul(x, KERNEL), tf.tanh(x[:, :3])], -1)
        return tf.matmul(both / (1.0 + tf.abs(both)), pick) + 0.0

    path = write(tmp_path, call, (1, 6))
    flags = (npz(tmp_path, x=XS), "--preprocessing=raw", "--task=regression")
    assert run(path, *flags) == 1
    said = capsys.readouterr().err
    assert "useless" in said and "Nothing is written" in said
    assert not list(tmp_path.glob("net_int8*"))


def test_poor_columns_have_a_better_recipe_named(tmp_path, capsys):
    """One column is 40 times the other: INT8 leaves it a few levels."""
    import tensorflow as tf

    unlike = KERNEL * np.float32([40, 1, 1])
    path = write(tmp_path, lambda x: tf.matmul(x, unlike), (1, 6))
    many = RANDOM.normal(size=(400, 6)).astype(np.float32)
    flags = (npz(tmp_path, x=many), "--preprocessing=raw", "--task=regression")
    assert run(path, *flags) == 0
    rows = report(tmp_path)
    assert rows["files"][1]["outputs"][0]["column"] in (1, 2)
    assert rows["files"][1]["sqnr_db"] < 15
    others = {row["name"]: row["sqnr_db"] for row in rows["alternatives"]}
    assert others["dynamic_int8"] > 25 and others["float16"] > 50
    assert "in its worst column" in capsys.readouterr().out
    # The bound of --max_drop holds for the worst column, too.
    assert run(path, *flags, "--max_drop=5", "--overwrite") == 0
    rows = report(tmp_path)
    least = rows["goal"]["least"]
    assert rows["files"][1]["sqnr_db"] >= least == pytest.approx(26.02, abs=0.01)


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    """Knows the four steps of a picture's brightness, of pixels 0..255."""
    import tensorflow as tf

    middles = np.float32([32, 96, 160, 224])

    def call(x):
        mean = tf.reduce_mean(x, (1, 2, 3))[:, None]
        return tf.nn.softmax(-tf.abs(mean - middles) / 4.0)

    return write(tmp_path_factory.mktemp("bright"), call, (1, 4, 4, 3))


def test_wrong_preprocessing_is_told_from_the_labels(brightness, tmp_path, capsys):
    labels = RANDOM.integers(0, 4, 300)
    noise = RANDOM.integers(0, 60, (300, 4, 4, 3))
    pixels = (labels[:, None, None, None] * 64 + noise).astype(np.uint8)
    data = npz(tmp_path, x=pixels, y=labels)
    out = f"--out={tmp_path / 'a.tflite'}"
    for wrong in ("unit", "symmetric"):
        assert run(brightness, data, out, f"--preprocessing={wrong}") == 1
        said = capsys.readouterr().err
        assert "The preprocessing is wrong" in said and "--preprocessing=raw" in said
        assert not list(tmp_path.glob("a.*"))
    assert run(brightness, data, out, "--preprocessing=raw") == 0
    assert "in doubt" not in capsys.readouterr().out
    # Of labels that are another thing's no preset makes sense.
    data = npz(tmp_path, x=pixels, y=RANDOM.permutation(labels))
    assert run(brightness, data, out, "--preprocessing=raw", "--overwrite") == 0
    assert "preprocessing or the labels are in doubt" in capsys.readouterr().out


def test_a_quantized_file_needs_no_preprocessing(tmp_path, capsys):
    import tensorflow as tf

    path = write(tmp_path, lambda x: tf.matmul(x, KERNEL), (1, 6))
    data = npz(tmp_path, x=XS)
    first, second = tmp_path / "a.tflite", tmp_path / "b.tflite"
    assert run(path, data, "--preprocessing=raw", f"--out={first}") == 0
    capsys.readouterr()
    assert run(first, data, f"--out={second}") == 0
    assert second.read_bytes() == first.read_bytes()
    assert "passed on" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["vector", "sequence", "tokens", "two"])
def test_synthetic_data_has_the_shape_of_the_file(tmp_path, kind, capsys):
    import tensorflow as tf

    table = RANDOM.normal(size=(9, 6)).astype(np.float32)

    def add(left, right):
        return tf.matmul(left, KERNEL) + tf.reduce_mean(right, (1, 2))

    call, shapes, types = {
        "vector": (lambda x: tf.matmul(x, KERNEL), [(1, 6)], None),
        "sequence": (lambda x: tf.matmul(x, KERNEL), [(1, 5, 6)], None),
        "tokens": (
            lambda x: tf.matmul(tf.gather(table, x), KERNEL),
            [(1, 4)],
            [tf.int32],
        ),
        "two": (add, [(1, 6), (1, 4, 4, 3)], None),
    }[kind]
    path = write(tmp_path, call, *shapes, types=types)
    assert run(path, "--data=synthetic") == 0
    assert "made up" in capsys.readouterr().out
    (first, *_) = report(tmp_path)["files"]
    assert first["top-1 agreement" if kind == "vector" else "sqnr_db"] in (1.0, 200.0)


def test_several_inputs_by_the_names_of_the_arrays(tmp_path, capsys):
    import tensorflow as tf

    def call(left, right):
        return tf.nn.softmax(tf.matmul(left, KERNEL) + tf.reduce_mean(right, (1, 2)))

    shapes = [(1, 6), (1, 4, 4, 3)]
    path = write(tmp_path, call, *shapes, names=["left", "right"])
    right = RANDOM.normal(size=(80, 4, 4, 3)).astype(np.float32)
    scores = XS @ KERNEL + right.mean((1, 2))
    data = npz(tmp_path, left=XS, right=right, y=scores.argmax(1))
    assert run(path, data) == 0
    before, after = report(tmp_path)["files"]
    assert before["accuracy"] == 1.0 and after["accuracy"] > 0.8
    for arrays, message in (
        ({"left": XS, "other": right}, "input 'right' has no array"),
        ({"x": XS}, r"2 inputs (left, right), npz:"),
        ({"left": XS, "right": right[..., :2]}, "'right' have shape [4, 4, 2]"),
    ):
        capsys.readouterr()
        assert run(path, npz(tmp_path, **arrays), "--overwrite") == 2
        assert message in capsys.readouterr().err
    assert run(path, data, "--preprocessing=unit", "--overwrite") == 2
    assert "taken as they are" in capsys.readouterr().err


def test_a_binary_classifier_has_an_accuracy(tmp_path, capsys):
    import tensorflow as tf

    path = write(tmp_path, lambda x: tf.sigmoid(tf.matmul(x, KERNEL[:, :1])), (1, 6))
    labels = (XS @ KERNEL[:, 0] > 0).astype(int)
    assert run(path, npz(tmp_path, x=XS, y=labels), "--preprocessing=raw") == 0
    before, after = report(tmp_path)["files"]
    assert before["accuracy"] == 1.0 and after["accuracy"] > 0.8
    others = np.random.default_rng(3).integers(0, 2, 80)
    data = npz(tmp_path, x=XS, y=others)
    assert run(path, data, "--preprocessing=raw", "--overwrite") == 0
    assert "labels are in doubt" in capsys.readouterr().out
