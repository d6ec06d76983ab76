"""Model files as a stranger could write them."""

import json
import zipfile

import h5py
import numpy as np

INPUT = ["in", 0, 0, {}]


def layer(kind, name, config, *nodes):
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": [[node] if node == INPUT else node for node in nodes],
    }


def write_h5(path, layers, output, *, shape=(2,), dtype="float32", weights=None):
    """Writes an `.h5` of tf.keras 2.15: an input, these layers and their weights."""
    start = layer("InputLayer", "in", {"batch_input_shape": [None, *shape]})
    start["config"]["dtype"] = dtype
    config = {
        "name": "m",
        "layers": [start, *layers],
        "input_layers": [["in", 0, 0]],
        "output_layers": [[output, 0, 0]],
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Functional", "config": config}
        )
        group = file.create_group("model_weights")
        group.attrs["keras_version"] = b"2.15.0"
        group.attrs["backend"] = b"tensorflow"
        names = [part["name"] for part in config["layers"]]
        group.attrs["layer_names"] = np.array(names, "S")
        for name in dict.fromkeys(names):
            arrays = (weights or {}).get(name, {})
            part = group.create_group(name)
            part.attrs["weight_names"] = np.array(list(arrays), "S9")
            for key, array in arrays.items():
                part[key] = array
    return path


def change_archive(path, change):
    """Passes the config inside a `.keras` file through `change`, and returns it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path
