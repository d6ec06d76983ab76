"""Weights from files, and the one line where they cannot be had."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from PIL import Image
from random_weights import randomize

import tfslim
from tfslim import errors

OPTIONS = {"alpha": 0.25, "input_shape": (32, 32, 3), "num_classes": 4}


@pytest.fixture(scope="module")
def trained():
    model = tfslim.build_model("mobilenet_v1", **OPTIONS)
    randomize(model)
    return model


def _save(model, path):
    if path.suffix == ".npz":
        np.savez(path, *model.get_weights())
    elif path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)


def _assert_equal_weights(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["w.npz", "w.h5", "w.weights.h5", "w.keras"])
def test_a_saved_model_comes_back(trained, tmp_path, name):
    _save(trained, tmp_path / name)
    model = tfslim.build_model("mobilenet_v1", weights=str(tmp_path / name), **OPTIONS)
    _assert_equal_weights(model.get_weights(), trained.get_weights())


@pytest.mark.parametrize("name", ["w.npz", "w.h5", "w.weights.h5", "w.keras"])
def test_another_number_of_classes_keeps_the_features(trained, tmp_path, caplog, name):
    _save(trained, tmp_path / name)
    options = OPTIONS | {"num_classes": 6}
    model = tfslim.build_model("mobilenet_v1", weights=tmp_path / name, **options)
    _assert_equal_weights(model.get_weights()[:-2], trained.get_weights()[:-2])
    kernel, bias = model.get_weights()[-2:]
    assert kernel.shape[-1] == 6
    assert not bias.any()
    assert f"{name}': 4 classes, and mobilenet_v1 has 6" in caplog.text
    assert "starts at random" in caplog.text


def test_weights_without_a_head(trained, tmp_path, caplog):
    np.savez(tmp_path / "w.npz", *trained.get_weights()[:-2])
    model = tfslim.build_model("mobilenet_v1", weights=tmp_path / "w.npz", **OPTIONS)
    _assert_equal_weights(model.get_weights()[:-2], trained.get_weights()[:-2])
    assert "no classifier" in caplog.text


def test_weights_from_a_model_of_keras3(trained, tmp_path):
    tfslim.to_keras3(trained).save(tmp_path / "w.keras")
    model = tfslim.build_model("mobilenet_v1", weights=tmp_path / "w.keras", **OPTIONS)
    _assert_equal_weights(model.get_weights(), trained.get_weights())


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_weights_files_that_name_other_files(trained, tmp_path, name):
    _save(trained, tmp_path / name)
    with h5py.File(tmp_path / name, "a") as file:
        file["more"] = h5py.ExternalLink(str(tmp_path / "private.h5"), "/")
    with pytest.raises(errors.DataError, match="is a link"):
        tfslim.build_model("mobilenet_v1", weights=tmp_path / name, **OPTIONS)


def test_h5_of_tf_keras_applications(tmp_path):
    reference = tf_keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=4
    )
    randomize(reference)
    reference.save_weights(tmp_path / "reference.h5")
    model = tfslim.build_model(
        "mobilenet_v3_small",
        input_shape=(32, 32, 3),
        num_classes=4,
        weights=tmp_path / "reference.h5",
    )
    _assert_equal_weights(model.get_weights(), reference.get_weights())


def test_the_wrong_options_are_named(trained, tmp_path):
    path = tmp_path / "w.npz"
    _save(trained, path)
    options = OPTIONS | {"alpha": 0.5}
    with pytest.raises(errors.ConfigError, match=r"conv1/kernel:0.*Build it with"):
        tfslim.build_model("mobilenet_v1", weights=path, **options)
    with pytest.raises(errors.ConfigError, match="137 arrays, but mobilenet_v2 has"):
        tfslim.build_model("mobilenet_v2", weights=path, **OPTIONS)


def test_a_classifier_of_other_features_does_not_pass_as_other_classes(tmp_path):
    options = {"hidden": (3,), "num_classes": 2}
    model = tfslim.build_model("mlp", **options)
    arrays = model.get_weights()
    arrays[2:] = [np.zeros((5, 4)), np.zeros(4)]
    np.savez(tmp_path / "w.npz", *arrays)
    with pytest.raises(errors.ConfigError, match="predictions/kernel:0"):
        tfslim.build_model("mlp", weights=tmp_path / "w.npz", **options)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("absent.npz", None, errors.ConfigError, "'imagenet' or the path of a file"),
        ("w.txt", b"x", errors.ConfigError, "ending in .npz, .h5 or .keras"),
        ("w.npz", b"no archive", errors.DataError, "cannot be read"),
        ("w.h5", b"no archive", errors.DataError, "cannot be read"),
        ("w.weights.h5", b"no archive", errors.DataError, "cannot be read"),
        ("w.keras", b"no archive", errors.DataError, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path, name, content, error, message
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        tfslim.build_model("mlp", weights=str(path))
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(errors.DataError, match=r"cannot be read.*allow_pickle"):
        tfslim.build_model("mlp", weights=path)


def test_named_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", kernel=np.zeros(3))
    with pytest.raises(errors.DataError, match="must hold arr_0"):
        tfslim.build_model("mlp", weights=tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {}, "no ImageNet weights for resnet18"),
        ("vgg16", {"batch_norm": True, "classifier": "gap"}, "vgg16 without batch"),
        ("mobilenet_v2", {"alpha": 0.3}, "exist for alpha 0.35, .* got 0.3"),
        (
            "mobilenet_v3_small",
            {"alpha": 0.75, "minimalistic": True},
            "minimalistic exist for alpha 1.0, got 0.75",
        ),
        ("mobilenet_v1", {"input_shape": (32, 32, 1)}, "3 channels, got 1"),
    ],
)
def test_imagenet_weights_that_do_not_exist(name, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.build_model(name, weights="imagenet", **options)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    # Nothing listens on port 9 here, so the download really fails.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    with pytest.raises(
        errors.DataError, match="mobilenet_v1 cannot be downl"
    ) as caught:
        tfslim.build_model("mobilenet_v1", weights="imagenet", alpha=0.25)
    assert "\n" not in str(caught.value)


def test_published_weights_classify_photos():
    root = os.environ.get("TFSLIM_DATA")
    if not root:
        pytest.skip("TFSLIM_DATA is not set: no ImageNet photos")
    file = "models/weights/mobilenet_v1_0.75_224_imagenet.get_weights.npz"
    model = tfslim.build_model("mobilenet_v1", alpha=0.75, weights=Path(root) / file)
    photos = sorted(Path(root, "imagenet/val").glob("*.jpg"))[::4]
    assert len(photos) >= 60
    images = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in photos])
    labels = [int(path.name.split("_")[0]) for path in photos]
    outputs = model.predict(images.astype(np.float32) / 127.5 - 1, verbose=0)
    assert np.mean(outputs.argmax(axis=1) == labels) >= 0.55
