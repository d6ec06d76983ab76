"""`.keras` files of Keras 2.13 and 2.14, whose weights stand under other names."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import tf_keras

import tfslim

layers = tf_keras.layers
OLD = "_layer_checkpoint_dependencies"


def nested():
    tf_keras.utils.set_random_seed(0)
    inner = tf_keras.Sequential([layers.Dense(4, name="a"), layers.Dense(3, name="b")])
    x = tf_keras.Input((5,))
    return tf_keras.Model(x, layers.Dense(2, name="end")(inner(layers.Dense(5)(x))))


def by_class(group):
    """Renames today's groups to those of Keras 2.13, at all depths."""
    for child in list(group.values()):
        if isinstance(child, h5py.Group):
            by_class(child)
    if "layers" in group:
        group.move("layers", OLD)


def by_name(group, model):
    """As `by_class`, with the layers' own names."""
    group.create_group("vars")
    for layer in model.layers:
        own = group.create_group(f"{OLD}/{layer.name}")
        if hasattr(layer, "layers"):
            by_name(own, layer)
            continue
        values = own.create_group("vars")
        for number, weight in enumerate(layer.get_weights()):
            values.create_dataset(str(number), data=weight)


@pytest.mark.parametrize("kind", ["class", "name"])
def test_opens_with_its_weights(kind, tmp_path):
    model = nested()
    model.save(tmp_path / "new.keras")
    new = zipfile.ZipFile(tmp_path / "new.keras")
    weights = io.BytesIO(new.read("model.weights.h5") if kind == "class" else b"")
    with h5py.File(weights, "r+" if kind == "class" else "w") as file:
        by_class(file) if kind == "class" else by_name(file, model)
        assert OLD in file and "layers" not in file
    config = new.read("config.json").decode().replace('"tf_keras', '"keras')
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        old.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
        old.writestr("config.json", config)
        old.writestr("model.weights.h5", weights.getvalue())
    opened = tfslim.load_model(tmp_path / "old.keras")
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(opened(x), model(x), rtol=1e-6)
