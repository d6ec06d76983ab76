"""Files made to run, read, fill the memory or never end: one line, and nothing done."""

import inspect
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from keras.src.ops.operation import Operation
from stranger_files import INPUT, change_archive, layer, write_h5
from tensorflow.python.util import tf_export

import tfslim
from tfslim import errors
from tfslim.loading import allowed, reasons

KERAS = {"tf_keras": tf_keras, "keras": keras}
BYTECODE = ["4wEAAAAAAAAAAAAAAAEAAAADAAAA8wQAAAB8AFMA\n", None, None]
LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "evil", "function": BYTECODE, "function_type": "lambda"},
}
# Layers that are none by themselves.
ABSTRACT = {"AbstractRNNCell", "Layer"}
# Operations of Keras 3 that are given a function to call.
CALLERS = {
    "AssociativeScan",
    "Cond",
    "ForiLoop",
    "Function",
    "JVP",
    "Map",
    "Scan",
    "Switch",
    "VectorizedMap",
    "WhileLoop",
}


@pytest.mark.parametrize("package", KERAS)
def test_every_layer_is_judged(package):
    layers = KERAS[package].layers
    names = {name for name in dir(layers) if inspect.isclass(getattr(layers, name))}
    assert names - allowed.LAYERS - reasons.RUNS_CODE.keys() - ABSTRACT == set()


def test_every_operation_of_keras3_is_judged():
    found, waiting = set(), [Operation]
    while waiting:
        waiting = [sub for kind in waiting for sub in kind.__subclasses__()]
        found |= {
            kind.__name__
            for kind in waiting
            if kind.__module__.startswith("keras.src.ops.")
        }
    assert len(found) > 300
    assert found - allowed.OPS == CALLERS & found


def test_no_allowed_function_is_one_that_reaches_out():
    symbols = tf_export._NAME_TO_SYMBOL_MAPPING
    reaching = {
        id(function)
        for name, function in symbols.items()
        if set(name.split("."))
        & {"io", "gfile", "summary", "saved_model", "data", "train", "raw_ops"}
        or name.rpartition(".")[2].startswith(("write", "read", "load", "print", "py_"))
    }
    known = {
        name: symbols[name]
        for name in symbols
        if name.removeprefix("compat.v1.") in allowed.SYMBOLS
    }
    assert len(known) > 800
    # Decoding bytes and numbers written as text stay inside.
    harmless = {"strings.to_number", "sparse.to_dense", "compat.v1.sparse_to_dense"}
    bad = {name for name, function in known.items() if id(function) in reaching}
    assert bad <= harmless | {f"compat.v1.{name}" for name in harmless}


@pytest.mark.parametrize(
    "symbol",
    [
        "compat.v1.write_file",
        "compat.v2.io.write_file",
        "raw_ops.PrintV2",
        "print",
        "compat.v1.io.read_file",
        "debugging.enable_dump_debug_info",
        "map_fn",
        "function",
        "keras.utils.get_file",
        "no.such.symbol",
        None,
        ["math.add"],
    ],
)
def test_unknown_functions_are_not_called(tmp_path, symbol):
    target = str(tmp_path / "written")
    node = ["_CONSTANT_VALUE", -1, target, {"contents": "by the model"}]
    evil = layer("TFOpLambda", "w", {"function": symbol}, node)
    path = write_h5(tmp_path / "m.h5", [evil], "w")
    with pytest.raises(errors.ConfigError, match="not known to be harmless"):
        tfslim.load_model(path)
    assert not (tmp_path / "written").exists()


OPERATION = {
    "class_name": "TFOpLambda",
    "config": {"name": "evil", "function": "io.write_file"},
}


@pytest.mark.parametrize("evil", [OPERATION, LAMBDA], ids=["operation", "lambda"])
@pytest.mark.parametrize(
    "outer",
    [
        lambda evil: layer("TimeDistributed", "t", {"layer": evil}, INPUT),
        lambda evil: layer("RNN", "t", {"cell": evil}, INPUT),
        lambda evil: layer(
            "Bidirectional",
            "t",
            {
                "layer": {"class_name": "LSTM", "config": {"units": 2}},
                "backward_layer": evil,
            },
            INPUT,
        ),
        lambda evil: layer(
            "RNN",
            "t",
            {"cell": {"class_name": "StackedRNNCells", "config": {"cells": [evil]}}},
            INPUT,
        ),
        lambda evil: layer(
            "Dense",
            "t",
            {
                "units": 2,
                "bias_initializer": evil | {"__passive_serialization__": True},
            },
            INPUT,
        ),
        lambda evil: layer("Dense", "t", {"units": 2}, ["in", 0, 0, {"x": evil}]),
        lambda evil: layer("Functional", "t", {"layers": [evil]}, INPUT),
    ],
)
def test_wherever_it_hides(tmp_path, outer, evil):
    path = write_h5(tmp_path / "m.h5", [outer(evil)], "t", shape=(3, 2))
    with pytest.raises(errors.ConfigError, match=r"layer 'evil'.*--allow_unsafe"):
        tfslim.load_model(path)


def test_a_lambda_of_a_known_function_with_code_beside_it(tmp_path):
    config = {
        "function": "relu",
        "function_type": "function",
        "module": "keras.activations",
        "output_shape": BYTECODE,
        "output_shape_type": "lambda",
    }
    path = write_h5(tmp_path / "m.h5", [layer("Lambda", "t", config, INPUT)], "t")
    with pytest.raises(errors.ConfigError, match="bytecode"):
        tfslim.load_model(path, custom_objects={"relu": lambda x: x})


def _dense(package, folder, change):
    library = KERAS[package]
    model = library.Sequential([library.Input((4,)), library.layers.Dense(3)])
    model.save(folder / "m.keras")
    return change_archive(
        folder / "m.keras", lambda config: change(config["config"]["layers"][1])
    )


def _function(module, name, registered):
    return {
        "class_name": "function",
        "module": module,
        "config": name,
        "registered_name": registered,
    }


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize(
    "function",
    [
        _function("keras.models", "load_model", None),
        # Keras looks for the second name where it does not find the first.
        _function("keras.models", "cast", "load_model"),
        _function("builtins", "eval", "relu"),
        _function("keras.src.saving.saving_lib", "relu", "load_model"),
        {"class_name": "__lambda__", "config": {"value": BYTECODE}},
        {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"},
        {"class_name": 5, "config": {}},
    ],
)
@pytest.mark.parametrize("argument", ["activation", "kernel_initializer"])
def test_functions_of_other_modules(tmp_path, package, function, argument):
    path = _dense(
        package, tmp_path, lambda dense: dense["config"].update({argument: function})
    )
    with pytest.raises(errors.TfslimError) as error:
        tfslim.load_model(path)
    assert str(error.value).isprintable()


@tf_keras.saving.register_keras_serializable("hostile")
class Harmless(tf_keras.layers.Layer):
    """Stands for whatever the user's process has registered."""


def test_a_registered_name_vouches_for_no_other_class(tmp_path):
    evil = layer("TFOpLambda", "w", {"function": "io.write_file"}, INPUT)
    path = write_h5(
        tmp_path / "m.h5", [evil | {"registered_name": "hostile>Harmless"}], "w"
    )
    with pytest.raises(errors.ConfigError, match=r"calls tf\.io\.write_file"):
        tfslim.load_model(path)


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
@pytest.mark.parametrize("key", ["vocabulary", "idf_weights"])
@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_vocabulary_is_no_file(tmp_path, kind, key, is_bytes):
    secret = tmp_path / "secret"
    secret.write_text("1\n2\n")
    value = {"class_name": "__bytes__", "value": str(secret)}
    config = {"vocabulary": [1, 2], key: value if is_bytes else str(secret)}
    for outer in (
        layer(kind, "t", config, INPUT),
        layer("TimeDistributed", "t", {"layer": layer(kind, "u", config)}, INPUT),
    ):
        path = write_h5(tmp_path / "m.h5", [outer], "t", shape=(1,), dtype="string")
        with pytest.raises(errors.ConfigError, match=f"reads its {key} from the file"):
            tfslim.load_model(path)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("ClassMethod", ("RaggedTensor", "__init__"), "calls '__init__'"),
        ("ClassMethod", ("io.gfile.GFile", "from_row_splits"), "tf.io.gfile.GFile"),
        ("InstanceMethod", "__reduce_ex__", "reads '__reduce_ex__'"),
        ("InstanceProperty", "_keras_history", "reads '_keras_history'"),
    ],
)
def test_methods_and_attributes(tmp_path, kind, config, message):
    names = ("cls_symbol", "method_name") if len(config) == 2 else ("attr_name",)
    values = config if len(config) == 2 else (config,)
    evil = layer(kind, "t", dict(zip(names, values, strict=True)), INPUT)
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.load_model(write_h5(tmp_path / "m.h5", [evil], "t"))


def _node(name, *inputs, **config):
    return layer("Dense", name, {"units": 2, **config}, *([list(i)] for i in inputs))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("layers", "output", "message"),
    [
        ([_node("a", ["b", 0, 0]), _node("b", ["a", 0, 0])], "b", "none of them gives"),
        ([_node("a", ["a", 0, 0])], "a", "none of them gives"),
        ([_node("a", ["in", 0, 5])], "a", "an output that a layer does not have"),
        ([_node("a", ["in", 0, -1])], "a", "output -1 of layer 'in'"),
        ([_node("a", ["in", 3, 0])], "a", "node 3, output 0 of layer 'in'"),
        ([_node("a", ["in", "0", 0])], "a", "node '0'"),
        ([_node("a", ["gone", 0, 0])], "a", "a layer 'gone', which is not in it"),
        ([_node("a", ["in", 0, 0])], "gone", "the model's output names a layer 'gone'"),
        ([_node("a", ["in", 0, 0])] * 2, "a", "two layers are called 'a'"),
        ([_node(5, ["in", 0, 0])], "in", "has 5 for a name"),
        ([_node("a", ["_CONSTANT_VALUE", -1, [[1.0]]])], "a", "applied to nothing"),
    ],
)
def test_nodes_that_do_not_exist(tmp_path, layers, output, message):
    names = [str(part["name"]) for part in layers]
    path = write_h5(tmp_path / "m.h5", [], "in")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"] += layers
        config["config"]["output_layers"] = [[output, 0, 0]]
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights"].attrs["layer_names"] = np.array(["in", *names], "S")
        for name in dict.fromkeys(names):
            part = file["model_weights"].create_group(name)
            part.attrs["weight_names"] = np.array(["w"], "S1")
            part["w"] = np.zeros((2, 2), "f4")
    with pytest.raises(errors.DataError, match=message):
        tfslim.load_model(path)


@pytest.mark.timeout(60)
def test_an_argument_that_never_comes(tmp_path):
    node = ["in", 0, 0, {"y": ["in", 0, 5]}]
    add = layer("TFOpLambda", "o", {"function": "math.add"}, node)
    with pytest.raises(errors.DataError, match="none of them gives"):
        tfslim.load_model(write_h5(tmp_path / "m.h5", [add], "o"))


def _change_nodes(config, history):
    node = config["config"]["layers"][2]["inbound_nodes"][0]
    node["args"][0]["config"]["keras_history"] = history


@pytest.mark.parametrize(
    "history",
    [["gone", 0, 0], ["a", 5, 0], ["a", 0, 5], ["b", 0, 0], ["a", "0", 0], 5, ["a", 0]],
)
def test_nodes_of_keras3_that_do_not_exist(tmp_path, history):
    x = keras.Input((4,), name="x")
    a, b = keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")
    keras.Model(x, b(a(x))).save(tmp_path / "m.keras")
    change_archive(tmp_path / "m.keras", lambda config: _change_nodes(config, history))
    with pytest.raises(errors.DataError) as error:
        tfslim.load_model(tmp_path / "m.keras")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Dense", {"units": 10**9}),
        ("LSTM", {"units": 10**6}),
        ("MultiHeadAttention", {"key_dim": 10**9}),
    ],
)
def test_more_weights_than_the_file_holds(tmp_path, package, name, config):
    library = KERAS[package]
    x = library.Input((3, 4))
    arguments = (2, 2) if name == "MultiHeadAttention" else (2,)
    made = getattr(library.layers, name)(*arguments, name="big")
    library.Model(x, made(x, x) if len(arguments) == 2 else made(x)).save(
        tmp_path / "m.keras"
    )

    def change(whole):
        whole["config"]["layers"][1]["config"].update(config)

    change_archive(tmp_path / "m.keras", change)
    with pytest.raises(errors.DataError, match=r"declares a model of .* holds \d+:"):
        tfslim.load_model(tmp_path / "m.keras")
    # And nothing of it waits to be made by the next model.
    library.Sequential([library.Input((2,)), library.layers.Dense(1)])


def test_more_weights_than_an_h5_holds(tmp_path):
    weights = {"a": {"kernel:0": np.ones((2, 2), "f4"), "bias:0": np.ones(2, "f4")}}
    for units, fails in ((2, False), (10**9, True)):
        big = _node("a", ["in", 0, 0], units=units)
        path = write_h5(tmp_path / "m.h5", [big], "a", weights=weights)
        if not fails:
            found = tfslim.load_model(path)
            np.testing.assert_array_equal(found(np.ones((1, 2))), [[3.0, 3.0]])
            continue
        with pytest.raises(errors.DataError, match="at least 2,000,000,000 weights"):
            tfslim.load_model(path)


def test_larger_arrays_than_the_model_has(tmp_path):
    """Not empty but packed, so that the file could well hold them."""
    noise = np.random.default_rng(0).integers(0, 255, 2 * 10**6, np.uint8)
    weights = {"a": {"kernel:0": np.ones((2, 2), "f4"), "bias:0": np.ones(2, "f4")}}
    path = write_h5(tmp_path / "m.h5", [_node("a", ["in", 0, 0])], "a", weights=weights)
    with h5py.File(path, "a") as file:
        file["noise"] = noise
        del file["model_weights/a/kernel:0"]
        file["model_weights/a"].create_dataset(
            "kernel:0", data=np.zeros((4000, 4000), "f4"), compression="gzip"
        )
    with pytest.raises(errors.DataError, match="arrays of up to 16,000,000 numbers"):
        tfslim.load_model(path)


@pytest.mark.parametrize(
    ("kind", "config", "node", "message"),
    [
        ("TFOpLambda", {"function": "split"}, {"num_or_size_splits": 10**8}, "outputs"),
        ("TFOpLambda", {"function": "unstack"}, {"num": 10**8}, "outputs"),
        ("TextVectorization", {"vocabulary": ["a"], "ngrams": 10**9}, {}, "ngrams"),
        ("StringLookup", {"vocabulary": ["a"], "num_oov_indices": 10**9}, {}, "oov"),
        ("LocallyConnected1D", {"implementation": 3}, {}, "implementation 3"),
    ],
)
def test_counts_that_nothing_bounds(tmp_path, kind, config, node, message):
    evil = layer(kind, "t", config, ["in", 0, 0, node])
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.load_model(write_h5(tmp_path / "m.h5", [evil], "t"))


def test_a_type_that_is_an_array(tmp_path):
    value = {"value": 0, "dtype": "(100000,100000)f4"}
    constant = {"class_name": "__numpy__", "config": value}
    initializer = {
        "class_name": "Constant",
        "module": "keras.initializers",
        "config": {"value": constant},
    }
    path = _dense(
        "keras",
        tmp_path,
        lambda dense: dense["config"].update(kernel_initializer=initializer),
    )
    with pytest.raises(errors.ConfigError, match="for a type of numbers"):
        tfslim.load_model(path)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("InstanceProperty", {"attr_name": ["shape"]}),
        ("Lambda", {"function": "f", "output_shape_type": ["raw"]}),
        ("Dense", {"units": 2, "function": []}),
        ("Dense", {"x": {"class_name": "__numpy__", "config": {"dtype": ["f4"]}}}),
        ("Dense", {"x": {"class_name": "TypeSpec", "type_spec": {}}}),
        ("StringLookup", {"vocabulary": {"class_name": ["a"]}}),
    ],
)
def test_lists_where_texts_belong(tmp_path, kind, config):
    evil = layer(kind, "t", config, INPUT)
    with pytest.raises(errors.TfslimError) as error:
        tfslim.load_model(write_h5(tmp_path / "m.h5", [evil], "t"))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "config", [{"dim_ordering": ["tf"]}, {"nb_row": 3}, {"mode": [1], "name": "m"}]
)
@pytest.mark.parametrize("kind", ["Convolution2D", "Merge"])
def test_damaged_configs_of_keras1(tmp_path, kind, config):
    whole = {"class_name": "Sequential", "config": [layer(kind, "a", config)]}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["keras_version"] = "1.2.2"
        file.attrs["model_config"] = json.dumps(whole)
    with pytest.raises(errors.TfslimError) as error:
        tfslim.load_model(tmp_path / "m.h5")
    assert str(error.value).isprintable()


def test_nested_too_deep(tmp_path):
    deep = 1
    for _ in range(300):
        deep = {"a": deep}
    path = write_h5(tmp_path / "m.h5", [_node("a", ["in", 0, 0], extra=deep)], "a")
    with pytest.raises(errors.DataError, match="levels deep"):
        tfslim.load_model(path)


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize("part", ["config.json", "metadata.json"])
@pytest.mark.parametrize("text", ["[]", "5", "{", "null", "[" * 50_000, '"\xff"'])
def test_archives_with_other_texts(tmp_path, package, part, text):
    path = _dense(package, tmp_path, lambda dense: None)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = text.encode("latin-1")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(errors.DataError, match="is damaged"):
        tfslim.load_model(path)


@pytest.mark.parametrize("version", [3, [3, 15], {"major": 3}, None])
def test_a_version_that_is_no_text(tmp_path, version):
    path = _dense("keras", tmp_path, lambda dense: None)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(errors.DataError, match="for the version of Keras"):
        tfslim.load_model(path)


def test_names_cannot_move_the_cursor(tmp_path):
    evil = layer("\x1b[2J\nEvil", "\x1b]0;x\x07", {}, INPUT)
    with pytest.raises(errors.ConfigError) as error:
        tfslim.load_model(write_h5(tmp_path / "m.h5", [evil], "in"))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("wrapper", "advice"),
    [
        ("PruneLowMagnitude", "strip_pruning"),
        ("ClusterWeights", "strip_clustering"),
        ("QuantizeWrapperV2", "quantize_model"),
    ],
)
def test_wrappers_of_the_optimization_toolkit(tmp_path, wrapper, advice):
    inner = {"class_name": "Dense", "config": {"units": 2}}
    wrapped = layer(wrapper, "w", {"layer": inner}, INPUT)
    with pytest.raises(errors.ConfigError, match=advice):
        tfslim.load_model(write_h5(tmp_path / "m.h5", [wrapped], "w"))


def test_allow_unsafe_says_what_it_opens(tmp_path, caplog):
    x = tf_keras.Input((3,))
    y = tf_keras.layers.Lambda(lambda x: x + 1, name="plus")(x)
    tf_keras.Model(x, y).save(tmp_path / "m.h5")
    tfslim.load_model(tmp_path / "m.h5", allow_unsafe=True)
    assert "layer 'plus' (Lambda), which holds Python bytecode" in caplog.text


def test_allow_unsafe_says_that_weights_come_from_elsewhere(tmp_path, caplog):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = kernel
    model = tf_keras.Sequential(
        [tf_keras.Input((2,)), tf_keras.layers.Dense(3, use_bias=False, name="d")]
    )
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        del file["model_weights/d/d/kernel:0"]
        file["model_weights/d/d/kernel:0"] = h5py.ExternalLink("other.h5", "/kernel")
    with pytest.raises(errors.DataError, match="is a link"):
        tfslim.load_model(tmp_path / "m.h5")
    found = tfslim.load_model(tmp_path / "m.h5", allow_unsafe=True)
    np.testing.assert_array_equal(found.get_weights()[0], kernel)
    assert "takes from other files" in caplog.text
