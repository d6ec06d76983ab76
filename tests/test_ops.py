"""The table of ops against both Keras and the schema, and that there is no other."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops

ROOT = Path(__file__).parents[1] / "tfslim"
BUILTIN = {name for name in vars(schema.BuiltinOperator) if name.isupper()} | {
    name for name in vars(schema.BuiltinOperator) if name[0].isupper()
}
LAYERS = {
    name
    for package in (tf_keras.layers, keras.layers)
    for name, thing in vars(package).items()
    if inspect.isclass(thing)
}
# Of the graph's own vocabulary, and of keras.applications.
OWN = {"Constant", "LayerScale"}


def test_every_row_is_an_op():
    assert ops.TFLITE.keys() <= BUILTIN
    functions = ops.keras("function", "activation")
    assert ops.KERAS.keys() - functions - OWN <= LAYERS
    assert all(row.tflite <= ops.TFLITE.keys() for row in ops.KERAS.values())


def test_unknown_trait_is_named():
    with pytest.raises(KeyError, match=r"'wieghted'.*homogeneous"):
        ops.tflite("wieghted")


@pytest.mark.parametrize("package", [tf_keras, keras], ids=["tf_keras", "keras"])
@pytest.mark.parametrize("name", [n for n, row in ops.KERAS.items() if row.kernels])
def test_kernels_count_output_channels_along_their_axes(package, name):
    make = getattr(package.layers, name)
    if name == "Dense":
        layer, rank = make(7), 0
    else:
        rank = int(name.split("Conv")[1][0])
        layer = make(**({} if "Depthwise" in name else {"filters": 7}), kernel_size=3)
    layer.build((None, *[8] * rank, 5))
    for weight, axes in ops.KERAS[name].kernels.items():
        kernel = getattr(layer, weight, None)
        kernel = layer.kernel if kernel is None else kernel  # Keras 3, depthwise.
        count = np.prod([kernel.shape[axis] for axis in axes])
        assert count == (5 if "depthwise" in weight else 7)


def _instances(trait):
    options = {
        **{f"Cropping{n}D": {"cropping": 1} for n in (1, 2, 3)},
        **{f"SpatialDropout{n}D": {"rate": 0.5} for n in (1, 2, 3)},
        **{f"{kind}Dropout": {"rate": 0.5} for kind in ("", "Alpha", "Gaussian")},
        "GaussianNoise": {"stddev": 0.5},
        "Permute": {"dims": (2, 1, 3)},
        "Reshape": {"target_shape": (-1,)},
        **{
            f"Random{kind}": {"factor": 0.5}
            for kind in ("Brightness", "Contrast", "Rotation")
        },
        "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
        "RandomZoom": {"height_factor": 0.5},
        **{
            f"Adaptive{kind}Pooling{n}D": {"output_size": 2}
            for kind in ("Average", "Max")
            for n in (1, 2, 3)
        },
    }
    for name in sorted(ops.keras(trait) & LAYERS):
        package = tf_keras if hasattr(tf_keras.layers, name) else keras
        yield name, getattr(package.layers, name)(**options.get(name, {}))


def _images(name, channels=3):
    rank = next((int(n) for n in "123" if f"{n}D" in name), 2)
    shape = (2, *[6] * rank, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_idle_layers_pass_everything_on_in_inference():
    for name, layer in _instances("idle"):
        x = _images(name)
        assert np.array_equal(np.asarray(layer(x, training=False)), x), name


@pytest.mark.parametrize(
    "trait",
    ["pooling", "cropping", "padding", "upsampling", "moving", "homogeneous"],
)
def test_homogeneous_layers_scale_with_their_input(trait):
    for name, layer in _instances(trait):
        x = _images(name)
        one, three = (
            [value, value] if name == "Concatenate" else value for value in (x, 3 * x)
        )
        np.testing.assert_allclose(
            np.asarray(layer(three)), 3 * np.asarray(layer(one)), rtol=1e-5, atol=1e-6
        )


def test_elementwise_layers_take_every_element_by_itself():
    for name, layer in _instances("elementwise"):
        x = _images(name)
        backward = np.asarray(layer(x[..., ::-1]))[..., ::-1]
        assert np.array_equal(np.asarray(layer(x)), backward), name


def _is_plain(value):
    """A number or a name, or several: an answer, not something to do or to say."""
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        return all(map(_is_plain, value.elts))
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return " " not in value.value
    return isinstance(value, ast.Constant)


def _listed(node):
    """The names in a set, tuple or list, in a text of names, or the keys of answers."""
    if isinstance(node, ast.Dict):
        items = node.keys if all(map(_is_plain, node.values)) else []
    elif isinstance(node, ast.Set | ast.Tuple | ast.List):
        items = node.elts
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = node.value.split()
        known = [word for word in words if word in LAYERS | BUILTIN]
        return known if len(known) > len(words) / 2 else []
    else:
        return []
    texts = [item.value for item in items if isinstance(item, ast.Constant)]
    return [text for text in texts if text in LAYERS | BUILTIN]


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_other_module_lists_ops(path):
    """What a module does with each op stays its own: rules, and dicts of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = _listed(node)
        assert len(names) < 3, f"line {node.lineno}: ask tfslim.ops, not {names}"


def test_the_search_finds_lists_of_ops():
    found = [
        _listed(ast.parse(text, mode="eval").body)
        for text in (
            '{"Dense", "Conv2D", "Add"}',
            '"CONV_2D ADD MUL"',
            '{"CONV_2D": (0, 1), "ADD": (1, 2), "MUL": 3}',
            '{"CONV_2D": convolve, "ADD": add, "MUL": multiply}',
        )
    ]
    assert [len(names) for names in found] == [3, 3, 3, 0]
