"""Models that leave sizes open, or take integers, sequences or whole batches."""

import json

import numpy as np
import pytest
from small_models import convert, convert_function, samples

from tfslim import errors, quantize, quantize_tflite, tflite
from tfslim.quantization import quantize_accurately, round_weights


def run(*arguments):
    return quantize.main(["tfslim.quantize", *map(str, arguments)])


@pytest.fixture(scope="module")
def sizes():
    """One network, with its sizes open and at 20 x 17."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    first = layers.Conv2D(8, 3, 2, "same", activation="relu", name="first")
    second = layers.DepthwiseConv2D(3, padding="valid", name="second")
    answer = layers.Dense(4, name="answer")

    def build(height, width):
        x = inputs = tf_keras.Input((height, width, 3), batch_size=1)
        x = layers.GlobalAveragePooling2D()(second(first(x)))
        return convert(tf_keras.Model(inputs, answer(x)))

    return build(None, None), build(20, 17)


def test_open_sizes_quantize_like_fixed_ones(sizes):
    opened, _ = sizes
    assert tflite.read(opened).inputs[0].shape == (1, 1, 1, 3)
    xs = samples((1, 20, 17, 3), count=40)
    done, truth = (quantize_accurately(m, samples=xs) for m in sizes)
    assert done.steps == pytest.approx(truth.steps)
    assert done.taken == truth.taken
    file = done.quantized.tflite
    inputs = tflite.read(file).inputs[0]
    assert (inputs.shape, inputs.shape_signature) == (
        (1, 20, 17, 3),
        (1, -1, -1, 3),
    )
    for x in xs:
        (a,), (b,) = (tflite.run(m, x).values() for m in (file, truth.quantized.tflite))
        np.testing.assert_array_equal(a, b)
    # And what it takes is still open.
    (other,) = samples((1, 31, 9, 3), count=1)
    truth = tflite.sized_for(opened, other)
    (a,), (b,) = (tflite.run(m, other).values() for m in (file, truth))
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_samples_of_different_sizes(sizes):
    opened, _ = sizes
    xs = [x for n in range(20) for x in samples((1, 12 + n, 30 - n, 3), count=1)]
    done = quantize_accurately(opened, samples=xs)
    assert done.steps["plain"] > 15
    assert max(done.steps.values()) >= done.steps["plain"]


def test_a_size_that_does_not_fit_is_refused(sizes):
    with pytest.raises(errors.ConfigError, match=r"takes \[1, \?, \?, 3\]"):
        quantize_tflite(sizes[0], samples=samples((1, 9, 9, 1)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    def save(name, x, classes=4):
        path = tmp_path_factory.mktemp("data") / f"{name}.npz"
        y = np.arange(len(x)) % classes
        np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
        return f"--data=npz:{path}"

    return save


def test_the_command_takes_open_sizes_from_the_data(sizes, archive, tmp_path):
    opened, fixed = sizes
    pixels = np.random.default_rng(0).integers(0, 256, (60, 20, 17, 3), np.uint8)
    options = (archive("images", pixels), "--preprocessing=unit")
    reports = []
    for name, content in (("opened", opened), ("fixed", fixed)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        assert run(path, *options) == 0
        reports.append(json.loads((tmp_path / f"{name}_int8.json").read_text()))
    assert reports[0]["outputs"] == pytest.approx(reports[1]["outputs"])
    found, truth = (report["files"][1]["sqnr_db"] for report in reports)
    assert found == pytest.approx(truth)


def test_photos_of_many_sizes_need_one(sizes, tmp_path, capsys):
    from PIL import Image

    path = tmp_path / "net.tflite"
    path.write_bytes(sizes[0])
    rng = np.random.default_rng(0)
    for index in range(30):
        (tmp_path / "photos" / "all").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (12 + index, 15, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "all" / f"{index}.png")
    options = (f"--data=folder:{tmp_path / 'photos'}", "--preprocessing=unit")
    assert run(path, *options) == 2
    error = capsys.readouterr().err
    assert "[?, ?, 3]" in error and "--input_shape=224,224,3" in error
    for wrong in ("16,16", "16,16,1", "a,16,3", "0,16,3", "16;16;3"):
        assert run(path, *options, f"--input_shape={wrong}") == 2
        assert "without the batch" in capsys.readouterr().err
    assert run(path, *options, "--input_shape=16,12,3") == 0
    written = tflite.read(tmp_path / "net_int8.tflite").inputs[0]
    assert written.shape == (1, 16, 12, 3)


def _model(function, shape, dtype):
    import tensorflow as tf

    return convert_function(function, [tf.TensorSpec(shape, dtype)])


def _pixels():
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)

    def call(x):
        x = tf.cast(x, tf.float32) / 255.0
        return tf.reduce_mean(tf.nn.conv2d(x, kernel, 1, "VALID"), [1, 2])

    pixels = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), np.uint8)
    return _model(call, (1, 8, 8, 3), tf.uint8), pixels


def _tokens():
    import tensorflow as tf

    random = np.random.default_rng(0)
    table = random.normal(size=(50, 16)).astype(np.float32)
    kernel = random.normal(size=(16, 4)).astype(np.float32)

    def call(x):
        return tf.reduce_mean(tf.gather(table, x), 1) @ kernel

    return _model(call, (1, 12), tf.int32), random.integers(0, 50, (60, 12))


def _sequences():
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(6, 4)).astype(np.float32)

    def call(x):
        return tf.reduce_mean(tf.nn.relu(tf.reshape(x, (-1, 6)) @ kernel), 0)[None]

    xs = random.normal(size=(60, 12, 6)).astype(np.float32)
    return _model(call, (1, 12, 6), tf.float32), xs


def _batches():
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(6, 4)).astype(np.float32)
    xs = random.normal(size=(62, 6)).astype(np.float32)
    return _model(lambda x: tf.nn.softmax(x @ kernel), (4, 6), tf.float32), xs


@pytest.mark.parametrize("make", [_pixels, _tokens, _sequences, _batches])
def test_the_command_feeds_what_the_model_takes(make, archive, tmp_path):
    content, xs = make()
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    assert run(path, archive("data", xs), "--preprocessing=raw") == 0
    before, after = json.loads((tmp_path / "net_int8.json").read_text())["files"]
    assert before["top-1 agreement"] == 1.0
    assert after["top-1 agreement"] >= 0.85 and after["sqnr_db"] > 20
    # The figures are of the first 20, whatever the file's batch.
    size = tflite.read(content).inputs[0].shape[0]
    inputs = xs.astype(tflite.read(content).inputs[0].dtype)
    chosen = [
        np.concatenate(
            [
                next(iter(tflite.run(m, inputs[i : i + size]).values())).argmax(-1)
                for i in range(0, 20, size)
            ]
        )
        for m in (content, (tmp_path / "net_int8.tflite").read_bytes())
    ]
    assert after["top-1 agreement"] == pytest.approx((chosen[0] == chosen[1]).mean())


def test_numbers_that_the_input_cannot_hold(archive, tmp_path, capsys):
    content, xs = _pixels()
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    options = (archive("data", xs), "--preprocessing=symmetric")
    assert run(path, *options) == 1
    assert "takes uint8, the preprocessed examples" in capsys.readouterr().err


def test_samples_may_be_one_array(sizes):
    xs = samples((1, 20, 17, 3), count=8)
    whole = quantize_tflite(sizes[1], samples=np.concatenate(xs))
    assert whole.tflite == quantize_tflite(sizes[1], samples=xs).tflite


@pytest.mark.parametrize("odd", [[None], "abc", [np.float32(1.0)], [[0.0]]])
def test_odd_samples_are_refused(sizes, odd):
    with pytest.raises(errors.ConfigError, match=r"Input '[a-z_0-9]+' (is|has)"):
        quantize_tflite(sizes[1], samples=odd)


def test_no_samples_at_all(sizes):
    file = quantize_tflite(sizes[1], "dynamic_int8").tflite
    with pytest.raises(errors.ConfigError, match="no calibration samples"):
        round_weights(file, sizes[1], samples=[])
    with pytest.raises(errors.ConfigError, match="no calibration samples"):
        quantize_tflite(sizes[1], samples=[])


@pytest.mark.parametrize("odd", [None, 3, np.zeros(9)])
def test_a_model_is_bytes(odd):
    with pytest.raises(errors.ConfigError, match="Expected the bytes"):
        quantize_tflite(odd, "dynamic_int8")


def _twice(x):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    scores = tf.nn.relu(x @ kernel)
    return {"a": scores, "b": scores}


def _number(x):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    return tf.reduce_sum(tf.nn.relu(x @ kernel))


def _class_number(x):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    return tf.argmax((x @ kernel)[0], -1)


@pytest.mark.parametrize("call", [_twice, _number, _class_number])
def test_odd_outputs(call, archive, tmp_path):
    import tensorflow as tf

    content = _model(call, (1, 6), tf.float32)
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    xs = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)
    assert run(path, archive("data", xs), "--preprocessing=raw") == 0
    report = json.loads((tmp_path / "net_int8.json").read_text())
    assert report["steps"]["plain"] > 20
    found = tflite.run((tmp_path / "net_int8.tflite").read_bytes(), xs[:1])
    truth = tflite.run(content, xs[:1])
    for a, b in zip(truth.values(), found.values(), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype


def test_labels_are_of_the_output_that_has_the_classes(archive, tmp_path, capsys):
    import tensorflow as tf

    random = np.random.default_rng(0)
    first = random.normal(size=(6, 16)).astype(np.float32)
    second = random.normal(size=(16, 4)).astype(np.float32)

    def call(x):
        features = tf.nn.relu(x @ first)
        return features, tf.nn.softmax(features @ second)

    content = _model(call, (1, 6), tf.float32)
    shapes = [t.shape[-1] for t in tflite.read(content).outputs]
    assert sorted(shapes) == [4, 16]
    xs = random.normal(size=(60, 6)).astype(np.float32)
    place = shapes.index(4)
    chosen = [list(tflite.run(content, x[None]).values())[place] for x in xs]
    labels = np.concatenate(chosen).argmax(-1)
    data = archive("data", xs)
    with np.load(data.partition("npz:")[2]) as arrays:
        kept = dict(arrays)
    kept |= {"y_train": labels, "y_test": labels[:20]}
    np.savez(data.partition("npz:")[2], **kept)
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    assert run(path, data, "--preprocessing=raw") == 0
    before, after = json.loads((tmp_path / "net_int8.json").read_text())["files"]
    assert before["accuracy"] == 1.0 and after["accuracy"] > 0.8
    name = list(tflite.read(content).output_names)[place]
    assert f"labels are those of output {name}" in capsys.readouterr().out


def test_outputs_as_long_as_they_have_to_be(archive, tmp_path):
    """As those of non-maximum suppression."""
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)

    def call(x):
        scores = tf.matmul(x, kernel)[0]
        return tf.where(scores > 0.0)[:, 0], scores

    content = _model(call, (1, 6), tf.float32)
    assert any(t.shape_signature == (-1,) for t in tflite.read(content).outputs)
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    xs = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)
    assert run(path, archive("data", xs), "--preprocessing=raw") == 0
    report = json.loads((tmp_path / "net_int8.json").read_text())
    assert "accuracy" not in report["files"][0]
