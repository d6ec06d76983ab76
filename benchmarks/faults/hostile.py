"""Model files whose authors mean harm: to write, to read, to fill the memory."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults import children, ledger, work

SECRET = "TOPSECRET-7F3A91"
# Beyond what TensorFlow has taken; a small model needs a fraction of it.
_MEMORY = 2 << 30
_SECONDS = 60

Build = Callable[[Path], Path]
_BUILDERS: dict[str, Build] = {}


def run(folder: Path, share: float) -> list[ledger.Row]:
    """Opens each hostile file; all are tried, whatever `share` is."""
    del share
    work.prepare(folder / "inputs")
    row = ledger.Row("hostile models")
    for name, build in _BUILDERS.items():
        place = folder / name
        shutil.copytree(folder / "inputs", place)
        (place / "secret.txt").write_text(f"first\n{SECRET}\n")
        made = children.call(_build, (build.__name__, place), place)
        if made.code != 0:
            row.add(f"{name}: not built: {made.stderr[-300:]}")
            continue
        done = children.call(
            _open, (place,), place, seconds=_SECONDS, limits={"AS": _MEMORY}
        )
        problem = done.problem
        if (place / "written").exists():
            problem = "a file was written"
        row.add(problem and f"{name}: {problem}")
    return [row]


def _build(name: str, place: Path) -> None:
    path = globals()[name](place)
    (place / "model_path").write_text(str(path))


def _open(place: Path) -> int:
    """Opens a file; 0: without harm, 1: refused; anything else is a loss."""
    import sys

    import numpy as np

    import tfslim

    try:
        model = tfslim.load_model((place / "model_path").read_text())
        x = [np.zeros((1, *t.shape[1:]), "float32") for t in model.inputs]
        answers = model.predict(x, verbose=0) if x else []
    except tfslim.TfslimError as error:
        sys.stderr.write(f"tfslim: error: {error}\n")
        return 1
    seen = [json.dumps(model.get_config(), default=str)]
    for layer in model.layers:
        if hasattr(layer, "get_vocabulary"):
            seen.append(str(layer.get_vocabulary()))
    arrays = [
        *model.get_weights(),
        *(answers if isinstance(answers, list) else [answers]),
    ]
    kept = b"".join(np.asarray(a).astype("uint8").tobytes() for a in arrays)
    kept += b"".join(np.asarray(a).tobytes() for a in arrays)
    is_read = SECRET.encode() in kept or any(SECRET in text for text in seen)
    return 3 if is_read else 0


def _hostile(build: Build) -> Build:
    _BUILDERS[build.__name__.strip("_")] = build
    return build


def _op(name: str, function: str, node: list[Any], kind: str = "TFOpLambda") -> dict:
    config = {"name": name, "function": function}
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": [node]}


def _h5(place: Path, layers: list[dict[str, Any]], output: str) -> Path:
    """Writes a functional model of Keras 2: one input of two numbers, and `layers`."""
    import h5py
    import numpy as np

    start = {
        "class_name": "InputLayer",
        "name": "in",
        "config": {"batch_input_shape": [None, 2], "name": "in", "dtype": "float32"},
        "inbound_nodes": [],
    }
    config = {
        "name": "m",
        "layers": [start, *layers],
        "input_layers": [["in", 0, 0]],
        "output_layers": [[output, 0, 0]],
    }
    path = place / "hostile.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        text = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["model_config"] = text
        group = file.create_group("model_weights")
        names = [layer["name"].encode() for layer in config["layers"]]
        group.attrs["layer_names"] = np.array(names)
        for layer in config["layers"]:
            inner = group.create_group(layer["name"])
            inner.attrs["weight_names"] = np.array([], "S1")
    return path


def _archive(source: Path, target: Path, **members: bytes) -> Path:
    """Copies a .keras with other members; `config` stands for config.json."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            key = "config" if name == "config.json" else "weights"
            replaced = members.get(key) if name != "metadata.json" else None
            new.writestr(name, old.read(name) if replaced is None else replaced)
    return target


def _keras2(layers: list[Any]) -> Any:
    import tf_keras

    return tf_keras.Sequential(layers)


def _call_of(function: str) -> Callable[[Path], Path]:
    def build(place: Path) -> Path:
        node = ["_CONSTANT_VALUE", -1, str(place / "written"), {"contents": "x"}]
        return _h5(place, [_op("w", function, node)], "w")

    return build


def _aliases() -> Iterator[tuple[str, Build]]:
    for symbol in (
        "compat.v1.write_file",
        "io.write_file",
        "raw_ops.WriteFile",
        "compat.v2.io.write_file",
        "compat.v1.io.write_file",
        "compat.v1.compat.v1.write_file",
    ):
        name = "_call_" + symbol.replace(".", "_")
        yield name, _call_of(symbol)


for _name, _function in _aliases():
    _function.__name__ = _name
    globals()[_name] = _function
    _hostile(_function)


@_hostile
def _print_to_file(place: Path) -> Path:
    stream = {"output_stream": f"file://{place / 'written'}"}
    return _h5(place, [_op("p", "print", ["_CONSTANT_VALUE", -1, "x", stream])], "p")


@_hostile
def _unconnected_layer(place: Path) -> Path:
    import tf_keras

    start = tf_keras.Input((2,))
    good = tf_keras.Model(start, tf_keras.layers.Dense(2)(start))
    good.save(place / "good.keras")
    with zipfile.ZipFile(place / "good.keras") as archive:
        config = json.loads(archive.read("config.json"))
    node = ["_CONSTANT_VALUE", -1, str(place / "written"), {"contents": "x"}]
    layer = _op("w", "io.write_file", node)
    layer["module"] = "tf_keras.src.layers.core.tf_op_layer"
    config["config"]["layers"].append(layer)
    text = json.dumps(config).encode()
    return _archive(place / "good.keras", place / "bad.keras", config=text)


@_hostile
def _reads_a_file(place: Path) -> Path:
    layers = [
        _op("text", "strings.as_string", ["in", 0, 0, {}]),
        _op(
            "path",
            "strings.regex_replace",
            ["text", 0, 0, {"pattern": ".*", "rewrite": str(place / "secret.txt")}],
        ),
        _op("first", "compat.v1.squeeze", ["path", 0, 0, {}]),
        _op("read", "io.read_file", ["first", 0, 0, {}]),
        _op("raw", "io.decode_raw", ["read", 0, 0, {"out_type": "uint8"}]),
        _op("number", "cast", ["raw", 0, 0, {"dtype": "float32"}]),
        _op("batch", "expand_dims", ["number", 0, 0, {"axis": 0}]),
    ]
    return _h5(place, layers, "batch")


@_hostile
def _old_op_layer(place: Path) -> Path:
    node = {
        "name": "w",
        "op": "WriteFile",
        "input": ["a", "b"],
        "attr": {},
    }
    config = {
        "name": "w",
        "dtype": "float32",
        "node_def": json.dumps(node),
        "constants": {"0": str(place / "written"), "1": "x"},
    }
    layer = {
        "class_name": "TensorFlowOpLayer",
        "name": "w",
        "config": config,
        "inbound_nodes": [[["in", 0, 0, {}]]],
    }
    return _h5(place, [layer], "w")


@_hostile
def _lambda_of_bytecode(place: Path) -> Path:
    import tf_keras

    path = str(place / "written")
    model = _keras2(
        [
            tf_keras.Input((2,)),
            tf_keras.layers.Lambda(lambda x: (Path(path).touch(), x)[1]),
        ]
    )
    for name in ("bad.h5", "bad.keras"):
        model.save(place / name)
    (place / "written").unlink(missing_ok=True)
    return place / "bad.h5"


@_hostile
def _lambda_of_keras3(place: Path) -> Path:
    import keras

    path = str(place / "written")
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(lambda x: (Path(path).touch(), x)[1])]
    )
    model.save(place / "bad.keras")
    (place / "written").unlink(missing_ok=True)
    return place / "bad.keras"


@_hostile
def _download(place: Path) -> Path:
    """Names keras.utils.get_file as a layer's activation."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.save(place / "good.keras")
    with zipfile.ZipFile(place / "good.keras") as archive:
        config = json.loads(archive.read("config.json"))
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Dense":
            layer["config"]["activation"] = {
                "module": "keras.utils",
                "class_name": "function",
                "config": "get_file",
                "registered_name": "get_file",
            }
    text = json.dumps(config).encode()
    return _archive(place / "good.keras", place / "bad.keras", config=text)


@_hostile
def _saved_model_initializer(place: Path) -> Path:
    import tensorflow as tf
    import tf_keras
    from tensorflow.python.trackable import resource

    target = str(place / "written")

    class Writer(resource.CapturableResource):
        def _create_resource(self) -> Any:
            return tf.raw_ops.HashTableV2(
                key_dtype=tf.string, value_dtype=tf.string, shared_name="table"
            )

        def _initialize(self) -> Any:
            tf.io.write_file(target, "x")
            return tf.no_op()

    model = _keras2([tf_keras.Input((2,)), tf_keras.layers.Dense(2)])
    model.extra = Writer()
    _ = model.extra.resource_handle
    model.save(place / "saved", save_format="tf")
    (place / "written").unlink(missing_ok=True)
    return place / "saved"


@_hostile
def _vocabulary_file(place: Path) -> Path:
    import h5py
    import tf_keras

    start = tf_keras.Input((1,), dtype="string")
    _keras2([start, tf_keras.layers.StringLookup(vocabulary=["a"])]).save(
        place / "bad.h5"
    )
    with h5py.File(place / "bad.h5", "a") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "StringLookup":
                layer["config"]["vocabulary"] = str(place / "secret.txt")
        file.attrs["model_config"] = json.dumps(config)
    return place / "bad.h5"


def _dense_h5(place: Path) -> tuple[Path, str]:
    """Writes a good .h5, and returns the name of its kernel."""
    import h5py
    import tf_keras

    dense = tf_keras.layers.Dense(4, use_bias=False)
    _keras2([tf_keras.Input((2,)), dense]).save(place / "bad.h5")
    names: list[str] = []
    with h5py.File(place / "bad.h5") as file:
        file.visit(names.append)
    (kernel,) = [name for name in names if name.endswith("kernel:0")]
    return place / "bad.h5", kernel


@_hostile
def _external_dataset(place: Path) -> Path:
    import h5py

    path, kernel = _dense_h5(place)
    (place / "secret.bin").write_bytes((SECRET * 4).encode()[:32])
    with h5py.File(path, "a") as file:
        del file[kernel]
        file.create_dataset(
            kernel, (2, 4), "float32", external=[(place / "secret.bin", 0, 32)]
        )
    return path


@_hostile
def _external_link(place: Path) -> Path:
    import h5py
    import numpy as np

    path, kernel = _dense_h5(place)
    values = np.frombuffer((SECRET * 4).encode()[:32], "float32").reshape(2, 4)
    with h5py.File(place / "private.h5", "w") as file:
        file["values"] = values
    with h5py.File(path, "a") as file:
        del file[kernel]
        file[kernel] = h5py.ExternalLink(str(place / "private.h5"), "/values")
    return path


@_hostile
def _virtual_dataset(place: Path) -> Path:
    import h5py
    import numpy as np

    path, kernel = _dense_h5(place)
    values = np.frombuffer((SECRET * 4).encode()[:32], "float32").reshape(2, 4)
    with h5py.File(place / "private.h5", "w") as file:
        file["values"] = values
    layout = h5py.VirtualLayout((2, 4), "float32")
    layout[:] = h5py.VirtualSource(str(place / "private.h5"), "values", (2, 4))
    with h5py.File(path, "a") as file:
        del file[kernel]
        file.create_virtual_dataset(kernel, layout)
    return path


@_hostile
def _shape_bomb(place: Path) -> Path:
    import h5py

    path, kernel = _dense_h5(place)
    with h5py.File(path, "a") as file:
        del file[kernel]
        file.create_dataset(kernel, (200_000, 200_000), "float32", chunks=(1000, 1000))
    return path


@_hostile
def _layer_bomb(place: Path) -> Path:
    """Declares a layer of 40 GB, with weights of a few bytes."""
    import h5py

    path, _ = _dense_h5(place)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1]["config"]["units"] = 5_000_000_000
        file.attrs["model_config"] = json.dumps(config)
    return path


@_hostile
def _zip_bomb(place: Path) -> Path:
    path = place / "bad.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", b'{"keras_version": "3.0.0"}')
        with archive.open("config.json", "w", force_zip64=True) as member:
            for _ in range(3000):
                member.write(b" " * (1 << 20))
        archive.writestr("model.weights.h5", b"")
    return path


@_hostile
def _endless_nodes(place: Path) -> Path:
    layers = [
        {
            "class_name": "Dense",
            "name": name,
            "config": {"name": name, "units": 2},
            "inbound_nodes": [[[other, 0, 0, {}]]],
        }
        for name, other in (("a", "b"), ("b", "a"))
    ]
    return _h5(place, layers, "b")


@_hostile
def _deep_nesting(place: Path) -> Path:
    path, _ = _dense_h5(place)
    import h5py

    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = '{"class_name":"Sequential","config":' * 900
    return path
