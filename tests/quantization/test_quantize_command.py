"""`python -m tfslim.quantize` from end to end, in this process."""

import json
import sys

import numpy as np
import pytest
from small_models import convert

from tfslim import quantize, tflite
from tfslim.tflite import flatbuffer


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small network trained on digits, as a stranger's .tflite."""
    import tf_keras
    from tf_keras import layers

    from tfslim import data, preprocessing

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="softmax", name="answer")(x)
    model = tf_keras.Model(inputs, x)
    model.compile("adam", "sparse_categorical_crossentropy")
    train = data.load("digits").train
    prepare = preprocessing.preset("unit", (8, 8, 1))
    x_train = prepare.apply(train.inputs(np.arange(len(train))))
    model.fit(x_train, train.targets, epochs=5, verbose=0)
    fixed = tf_keras.Input((8, 8, 1), batch_size=1)
    path = tmp_path_factory.mktemp("model") / "net.tflite"
    path.write_bytes(convert(tf_keras.Model(fixed, model(fixed))))
    return path


def run(*arguments):
    return quantize.main(["tfslim.quantize", *map(str, arguments)])


COMMON = ("--data=digits", "--preprocessing=unit", "--eval_samples=200")


def test_it_quantizes_a_strangers_file(digits, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    assert run(digits, *COMMON, f"--out={out}", "--calibration=auto") == 0
    assert tflite.read(out).is_quantized
    report = json.loads((tmp_path / "net.json").read_text())
    before, after = report["files"]
    assert after["size_bytes"] == len(out.read_bytes()) < before["size_bytes"]
    assert after["top-1 agreement"] >= 0.98
    assert before["accuracy"] > 0.8
    assert {t["method"] for t in report["trials"]} >= {"minmax", "kl", "mse"}
    shown = capsys.readouterr().out
    assert "dB on held-out" in shown and str(out) in shown

    again = tmp_path / "again.tflite"
    ranges = tmp_path / "net.ranges.json"
    assert run(digits, *COMMON, f"--out={again}", f"--ranges={ranges}") == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Pictures in one folder: no labels."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos") / "all"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(60):
        pixels = rng.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return f"--data=folder:{folder.parent}"


@pytest.fixture(scope="module")
def two_headed(tmp_path_factory):
    """A reconstruction and, 1000 times as large, a sum."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 1), batch_size=1)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    small = layers.Conv2D(1, 3, padding="same", name="small")(x)
    large = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, name="sum")(x))
    large = layers.Dense(2, name="large")(layers.Rescaling(1000.0)(large))
    path = tmp_path_factory.mktemp("model") / "two.tflite"
    path.write_bytes(convert(tf_keras.Model(inputs, [small, large])))
    return path


def test_each_output_has_its_own_range_and_row(two_headed, tmp_path, capsys):
    out = tmp_path / "two.tflite"
    assert run(two_headed, *COMMON, f"--out={out}") == 0
    rows = json.loads((tmp_path / "two.json").read_text())["files"][1]["outputs"]
    assert len(rows) == 2
    sizes = sorted(row["rms"] for row in rows)
    assert sizes[1] > 300 * sizes[0]
    # One range for both would leave the smaller one a single level.
    assert min(row["sqnr_db"] for row in rows) > 20
    shown = [x for x in capsys.readouterr().out.splitlines() if "  output " in x]
    assert len(shown) == 2
    scales = [
        float(content.quantization.scale[0])
        for op in tflite.read(out).ops
        if op.name == "DEQUANTIZE"
        for content in [tflite.read(out).tensors[op.inputs[0]]]
    ]
    assert max(scales) > 100 * min(scales)


@pytest.mark.slow
def test_max_drop_without_labels_goes_by_agreement(
    digits, unlabelled, tmp_path, capsys
):
    out = tmp_path / "a.tflite"
    options = (unlabelled, "--preprocessing=unit", f"--out={out}", "--calibration=kl")
    assert run(digits, *options, "--max_drop=-1") == 1
    captured = capsys.readouterr()
    assert "--max_drop by top-1 agreement (the data has no labels" in captured.out
    assert "top-1 agreement 1.0100 (a drop" in captured.err
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["goal"]["least"] == pytest.approx(1.01)
    # All layers in float: nothing is left to disagree.
    assert report["fallback"][-1]["metric"] == 1.0
    assert "accuracy" not in report["files"][0]
    assert "no labels that fit" in captured.out


@pytest.mark.slow
def test_max_drop_of_what_does_not_classify_goes_by_error(
    two_headed, unlabelled, tmp_path, capsys
):
    out = tmp_path / "a.tflite"
    options = (unlabelled, "--preprocessing=unit", f"--out={out}", "--overwrite")
    assert run(two_headed, *options, "--max_drop=10") == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["goal"]["key"] == "sqnr_db"
    assert report["goal"]["least"] == pytest.approx(20.0)
    for row in report["files"][1]["outputs"]:
        assert row["rms_error"] < 0.1 * row["rms"]
    before = report["files"][1]["sqnr_db"]
    assert run(two_headed, *options, "--max_drop=0.2") == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert before < report["goal"]["least"] < report["files"][1]["sqnr_db"]
    assert len(report["fallback"]) > 1
    capsys.readouterr()
    assert run(two_headed, *options, "--max_drop=0") == 2
    assert "must be above 0" in capsys.readouterr().err


def test_a_quantized_file_goes_through(digits, tmp_path, capsys):
    first, second = tmp_path / "a.tflite", tmp_path / "b.tflite"
    assert run(digits, *COMMON, "--calibration=minmax", f"--out={first}") == 0
    capsys.readouterr()
    assert run(first, *COMMON, f"--out={second}") == 0
    assert second.read_bytes() == first.read_bytes()
    assert "quantized already and is passed on" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "b.json").read_text())["files"]
    assert row["name"] == "as given"
    assert not (tmp_path / "b.ranges.json").exists()
    code = run(first, *COMMON, "--max_drop=1", f"--out={tmp_path / 'c.tflite'}")
    assert code == 2
    assert "needs the float32 .tflite" in capsys.readouterr().err


def test_the_sensitivity_is_drawn(digits, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, picture = tmp_path / "a.tflite", tmp_path / "layers.svg"
    options = ("--calibration=minmax", f"--out={out}", "--overwrite")
    assert run(digits, *COMMON, *options, f"--sensitivity={picture}") == 0
    rows = json.loads((tmp_path / "a.json").read_text())["sensitivity"]
    assert {"first", "second", "answer"} <= {row["layer"] for row in rows}
    drawn = picture.read_text()
    places = [drawn.index(f">{row['layer']} ({row['op']})<") for row in rows]
    assert places == sorted(places)
    assert f"worst of {len(rows)} layers" in capsys.readouterr().out
    picture = tmp_path / "layers.png"
    assert run(digits, *COMMON, *options, f"--sensitivity={picture}") == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_it_says_so_first(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code = run(digits, *COMMON, f"--out={tmp_path}/a.tflite", "--sensitivity=a.png")
    assert code == 2
    assert "pip install 'tfslim[plots]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_data(digits, tmp_path):
    out = tmp_path / "a.tflite"
    assert run(f"--model={digits}", "--recipe=float16", f"--out={out}") == 0
    assert len(out.read_bytes()) < 0.7 * len(digits.read_bytes())


def test_max_drop_returns_layers_to_float(digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.tflite"
    # A drop of -100 points cannot be met: every layer is tried.
    code = run(digits, *COMMON, "--max_drop=-100", f"--out={out}")
    assert code == 1
    assert "cannot be met" in capsys.readouterr().err
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["fallback"][0]["layer"] == ""
    assert len(report["fallback"]) == len(report["sensitivity"]) + 1 > 3
    assert all(s["latency_us"] > 0 for s in report["fallback"])
    assert run(digits, *COMMON, "--max_drop=5", f"--out={out}", "--overwrite") == 0
    assert "fallback" not in json.loads((tmp_path / "a.json").read_text())


@pytest.mark.parametrize("out", ["new", "new/", "there", "dotted.v2/"])
def test_a_folder_as_out_gets_the_file_by_its_own_name(digits, tmp_path, out, capsys):
    (tmp_path / "there").mkdir()
    flags = ("--recipe=float16", f"--out={tmp_path}/{out}")
    assert run(digits, *flags) == 0
    made = tmp_path / out / f"{digits.stem}_float16.tflite"
    assert made.is_file() and f"{made} is written." in capsys.readouterr().out
    assert run(digits, *flags) == 2  # It stands there.


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04...."])
def test_a_keras_file_is_sent_to_export(tmp_path, content, capsys):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    assert run(path) == 1
    assert "`tfslim export` makes .tflite files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No model is given"),
        (("nosuch.tflite",), "Cannot read 'nosuch.tflite'"),
        (("MODEL", "--recipe=int9"), "Did you mean 'int8'"),
        (("MODEL", "--calibration=lk"), "Unknown calibration 'lk'"),
        (("MODEL", "--data=digits"), "Name it with --preprocessing"),
        (("MODEL",), "needs to see some"),
        (("MODEL", "--out=a.txt"), "must end with .tflite"),
        (("MODEL", "--out=MODEL"), "is the model itself"),
        (("MODEL", *COMMON, "--layers=first"), "has no recipe"),
        (("MODEL", *COMMON, "--layers=frist=float32"), "Did you mean 'first'"),
        (("MODEL", "--max_drop=1"), "--max_drop needs --data"),
        (("MODEL", "--recipe=float16", "--max_drop=1"), "Use --recipe=int8"),
        (("MODEL", *COMMON, "--rounding=gtpq"), "Did you mean 'gptq'"),
        (("MODEL", *COMMON, "--sensitivity=a.txt"), "name ending with .png"),
        (("MODEL", "--sensitivity=a.png"), "--sensitivity needs --data"),
        (("MODEL", *COMMON, "--max_drop=1", "--eval_samples=0"), "--eval_samples"),
        (("MODEL", "--nosuch=1"), "Unknown flag"),
        (("MODEL", *COMMON, "--seed=-1"), "--seed=-1"),
        (("MODEL", *COMMON, "--samples=0"), "--samples=0"),
        (("MODEL", *COMMON, "--eval_samples=-1"), "--eval_samples=-1"),
        (("MODEL", *COMMON, "--max_drop=nan"), "--max_drop"),
        (("MODEL", *COMMON, "--max_drop=inf"), "--max_drop"),
        (("MODEL", *COMMON, "--io=int4"), "Unknown io 'int4'"),
        (("MODEL", *COMMON, "--recipe=dynamic_int8", "--io=int8"), "a static recipe"),
        (("MODEL", *COMMON, "--task=reconstruction"), "reconstruction"),
        (("MODEL", *COMMON, "--preprocessing=cafe"), "Did you mean 'caffe'"),
    ],
)
def test_a_wrong_command_is_one_line(digits, tmp_path, capsys, arguments, message):
    words = [str(a).replace("MODEL", str(digits)) for a in arguments]
    if arguments and not any("--out" in word for word in words):
        words.append(f"--out={tmp_path / 'x.tflite'}")
    assert run(*words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.tflite", "a.json", "a.ranges.json", "layers.png"])
def test_no_file_is_replaced_unasked(digits, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"mine")
    options = (f"--out={tmp_path / 'a.tflite'}", f"--sensitivity={tmp_path}/layers.png")
    assert run(digits, *COMMON, *options) == 2
    assert f"{tmp_path / name} exists. Pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_read_is_never_replaced(digits, tmp_path, capsys):
    from tfslim.quantization.rules import recipe

    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(recipe.get("float16").rules))
    out = tmp_path / "mine.tflite"
    options = (f"--recipe={mine}", "--overwrite")
    assert run(digits, *options, f"--out={out}") == 2
    assert "would replace --recipe" in capsys.readouterr().err
    assert json.loads(mine.read_text()) and not out.exists()


def test_ranges_given_from_beside_the_output_stay(digits, tmp_path):
    out, ranges = tmp_path / "a.tflite", tmp_path / "a.ranges.json"
    assert run(digits, *COMMON, f"--out={out}", "--calibration=minmax") == 0
    before = out.read_bytes(), ranges.read_bytes()
    options = (f"--out={out}", f"--ranges={ranges}", "--overwrite")
    assert run(digits, *COMMON, *options) == 0
    assert (out.read_bytes(), ranges.read_bytes()) == before


def test_ranges_of_another_model_are_refused(digits, two_headed, tmp_path, capsys):
    out = tmp_path / "a.tflite"
    options = (*COMMON, "--calibration=minmax", "--eval_samples=0")
    assert run(two_headed, *options, f"--out={out}") == 0
    capsys.readouterr()
    other = tmp_path / "b.tflite"
    given = f"--ranges={tmp_path / 'a.ranges.json'}"
    assert run(digits, *options, given, f"--out={other}") == 2
    assert "ranges are of another model" in capsys.readouterr().err
    assert not other.exists()


@pytest.mark.parametrize("place", ["file/a.tflite", "folder.tflite"])
def test_what_cannot_be_written_is_refused_first(digits, tmp_path, capsys, place):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.tflite").mkdir()
    code = run(digits, *COMMON, f"--out={tmp_path / place}", "--overwrite")
    assert code == 2
    assert "cannot be written" in capsys.readouterr().err
    options = (f"--out={tmp_path}/b.tflite", f"--sensitivity={tmp_path}/file/b.png")
    assert run(digits, *COMMON, *options) == 2
    assert "--sensitivity" in capsys.readouterr().err
    assert not (tmp_path / "b.tflite").exists()


def test_the_report_is_strict_json(digits, tmp_path):
    out = tmp_path / "a.tflite"
    assert run(digits, *COMMON, f"--out={out}", "--calibration=minmax") == 0

    def refuse(text):
        raise AssertionError(text)

    text = (tmp_path / "a.json").read_text()
    report = json.loads(text, parse_constant=refuse)
    assert report["files"][0]["sqnr_db"] == 200.0


def test_an_existing_file_is_kept(digits, tmp_path, capsys):
    out = tmp_path / "a.tflite"
    out.write_bytes(b"mine")
    assert run(digits, "--recipe=float16", f"--out={out}") == 2
    assert "exists. Pass --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


def test_max_drop_is_met_by_the_file_that_is_written(two_headed, tmp_path, capsys):
    """With all layers in float the borders still have 256 levels."""
    out = tmp_path / "a.tflite"
    options = (*COMMON, f"--out={out}", "--io=uint8", "--task=regression")
    assert run(two_headed, *options, "--max_drop=0.01") == 1
    error = capsys.readouterr().err
    assert "float, but uint8 inputs and outputs, it is lower" in error
    report = json.loads((tmp_path / "a.json").read_text())
    last = report["fallback"][-1]["metric"]
    assert last == pytest.approx(report["files"][1]["sqnr_db"])
    assert last < report["goal"]["least"]


def test_flags_may_stand_before_the_file(digits, tmp_path):
    flags = ("--recipe=dynamic_int8", f"--out={tmp_path / 'out.tflite'}")
    assert run(*flags, digits) == 0
    before = (tmp_path / "out.tflite").read_bytes()
    assert run(digits, "--overwrite", *flags) == 0
    assert (tmp_path / "out.tflite").read_bytes() == before
    assert run(*flags, digits, "stray.tflite") == 2


def test_a_name_too_long_is_refused_before_the_work(digits, tmp_path, capsys):
    for length, code in ((250, 0), (256, 2)):
        out = tmp_path / ("n" * (length - 7) + ".tflite")
        assert run(digits, "--recipe=dynamic_int8", f"--out={out}") == code
        assert ("timing" in capsys.readouterr().err) == (code == 0)
        assert (code == 0) == (out.name in {path.name for path in tmp_path.iterdir()})


def test_names_that_are_no_text_are_quantized(digits, tmp_path):
    flat = flatbuffer.unpack(digits.read_bytes())
    for tensor in flat.subgraphs[0].tensors:
        tensor.name += b"\xe9"
    odd = tmp_path / "odd.tflite"
    odd.write_bytes(flatbuffer.pack(flat))
    out = tmp_path / "out.tflite"
    common = (*COMMON, "--samples=20", "--calibration=minmax")
    assert run(odd, *common, f"--out={out}") == 0
    x = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    (before,), (after,) = (tflite.run(p.read_bytes(), x).values() for p in (odd, out))
    assert abs(before - after).max() < 0.1


def test_a_damaged_file_is_one_line(digits, tmp_path, capsys):
    flat = flatbuffer.unpack(digits.read_bytes())
    flat.subgraphs[0].operators[0].inputs = flat.subgraphs[0].operators[0].inputs[:1]
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(flatbuffer.pack(flat))
    assert run(bad, "--recipe=dynamic_int8") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "bad.tflite" in said[0] and "CONV_2D" in said[0]
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tflite"}
