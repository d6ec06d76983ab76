"""Every model of the zoo, built."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors, models
from tfslim.models.registry import MODELS, model_spec

# Small enough to run in a second.
SMALL = {
    "alexnet": {"input_shape": (63, 71, 3), "num_classes": 4},
    "autoencoder": {"input_shape": (12, 8, 2)},
    "mlp": {},
    "vgg16": {"input_shape": (32, 32, 3), "num_classes": 4, "classifier": "gap"},
    "yolov3": {"input_shape": (32, 64, 1), "num_classes": 4, "alpha": 0.25},
    "yolov3_tiny": {"input_shape": (32, 64, 1), "num_classes": 4, "alpha": 0.25},
}
PLAIN_LAYERS = {
    "Activation",
    "Add",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "InputLayer",
    "LeakyReLU",
    "MaxPooling2D",
    "Multiply",
    "ReLU",
    "Rescaling",
    "UpSampling2D",
    "ZeroPadding2D",
}
each_model = pytest.mark.parametrize("name", MODELS.names())


def _small(name):
    return SMALL.get(name, {"input_shape": (33, 35, 1), "num_classes": 4})


@functools.cache
def _built(name):
    return tfslim.build_model(name, batch_size=2, **_small(name))


@each_model
def test_output_shape_and_range(name):
    options = _small(name)
    spec = model_spec(name, **options)
    model = _built(name)
    assert model.name == name
    assert model.input_shape == (2, *spec.input_shape)
    x = np.random.default_rng(0).normal(size=(2, *spec.input_shape))
    y = model(x.astype(np.float32))
    if spec.task == "detection":
        # Coarse first; three anchors of four sides, objectness and four classes.
        strides = (32, 16, 8) if name == "yolov3" else (32, 16)
        height, width = spec.input_shape[:2]
        shapes = [(2, height // s, width // s, 3 * (5 + 4)) for s in strides]
        assert [tuple(part.shape) for part in y] == shapes
        return
    y = y.numpy()
    if spec.task == "classification":
        assert y.shape == (2, 4)
        np.testing.assert_allclose(y.sum(axis=1), 1.0, atol=1e-5)
    elif spec.task == "reconstruction":
        assert y.shape == x.shape
        assert y.min() >= 0.0
    else:
        assert y.shape == (2, 1)


@each_model
def test_plain_layers_only(name):
    layers = _built(name).layers
    assert {type(layer).__name__ for layer in layers} <= PLAIN_LAYERS
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"tf_keras"}


@each_model
def test_building_twice_gives_the_same_model(name):
    first, second = _built(name), tfslim.build_model(name, batch_size=2, **_small(name))
    assert first.to_json() == second.to_json()
    assert not any("/" in layer.name for layer in first.layers)  # As Keras 3 demands.


@each_model
def test_the_config_survives_a_round_trip(name):
    config = _built(name).to_json()
    assert tf_keras.models.model_from_json(config).to_json() == config


@pytest.mark.slow
def test_saved_models_load_where_tfslim_is_unknown(tmp_path):
    names = ["autoencoder", "mlp", "mobilenet_v3_small", "resnet18", "vgg16"]
    for name in names:
        model = _built(name)
        model.save(tmp_path / f"{name}.keras")
        x = np.random.default_rng(1).normal(size=model.input_shape)
        np.savez(tmp_path / f"{name}.npz", x=x, y=model(x).numpy())
    code = (
        "import pathlib, sys, numpy as np, tf_keras\n"
        "for path in sorted(pathlib.Path().glob('*.keras')):\n"
        "    model = tf_keras.models.load_model(path)\n"
        "    data = np.load(path.with_suffix('.npz'))\n"
        "    np.testing.assert_array_equal(model(data['x']).numpy(), data['y'])\n"
        "    print(path.stem)\n"
        "assert 'tfslim' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == names


@pytest.mark.parametrize("name", ["mlp", "mobilenet_v1", "vgg16"])
def test_logits_are_what_softmax_gets(name):
    options = _small(name) | {"num_classes": 4}
    model = tfslim.build_model(name, **options)
    bare = tfslim.build_model(
        name, model_name="bare", classifier_activation=None, **options
    )
    assert bare.name == "bare"
    assert bare.output_shape == (None, 4)
    bare.set_weights(model.get_weights())
    x = np.random.default_rng(2).normal(size=(1, *model.input_shape[1:]))
    logits = bare(x).numpy()
    assert abs(logits.sum() - 1) > 1e-3
    exp = np.exp(logits - logits.max())
    np.testing.assert_allclose(model(x).numpy(), exp / exp.sum(), rtol=1e-4)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "vgg16"])
def test_alpha_scales_convolutions_and_not_dense_layers(name):
    full, half = _built(name), tfslim.build_model(name, alpha=0.5, **_small(name))
    for a, b in zip(full.layers, half.layers, strict=True):
        if isinstance(a, tf_keras.layers.Conv2D):
            assert b.filters == a.filters / 2, a.name
        elif isinstance(a, tf_keras.layers.Dense):
            assert b.units == a.units, a.name


def test_autoencoder_has_the_layers_of_the_paper():
    model = tfslim.build_model("autoencoder")
    shapes = [
        layer.output_shape[1:] for layer in model.layers if layer.name.endswith("relu")
    ]
    assert shapes == [(14, 14, 4), (7, 7, 16), (14, 14, 4), (28, 28, 1)]


def test_mlp_can_learn_the_sum_with_one_unit():
    # The paper's optimum: one hidden unit, all weights 1, biases 0.
    model = tfslim.build_model("mlp", hidden=(1,))
    model.set_weights([np.ones((2, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    x = np.array([[0.25, 0.5], [1.0, 0.0]])
    np.testing.assert_array_equal(model(x).numpy(), [[0.75], [1.0]])


@pytest.mark.parametrize(
    ("shape", "hidden", "outputs"),
    [((2,), (), {"num_outputs": 3}), ((4, 4, 3), (7, 5), {"num_classes": 10})],
)
def test_mlp_takes_any_rank(shape, hidden, outputs):
    model = tfslim.build_model("mlp", input_shape=shape, hidden=hidden, **outputs)
    assert model.output_shape == (None, *outputs.values())
    units = [layer.units for layer in model.layers if hasattr(layer, "units")]
    assert units == [*hidden, *outputs.values()]


def test_minimalistic_has_neither_squeeze_excite_nor_hard_swish():
    model = tfslim.build_model("mobilenet_v3_large", minimalistic=True)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert "Multiply" not in kinds
    kernels = {
        layer.kernel_size
        for layer in model.layers
        if "depthwise" in layer.name and hasattr(layer, "kernel_size")
    }
    assert kernels == {(3, 3)}


def test_options_can_be_asked_for():
    assert models.takes_option("resnet18", "stem")
    assert models.takes_option("mlp", "num_classes")
    assert models.takes_option("mlp", "weights")
    assert not models.takes_option("autoencoder", "num_classes")
    assert not models.takes_option("mlp", "inputs")
    with pytest.raises(errors.ConfigError, match="Did you mean 'mlp'"):
        models.takes_option("mpl", "hidden")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilnet_v2", {}, "Unknown model 'mobilnet_v2'. Did you mean 'mobilenet_v2'"),
        ("mobilenet_v2", {"aplha": 1}, "Unknown option of mobilenet_v2 'aplha'. Did you"
         " mean 'alpha'"),
        ("autoencoder", {"num_classes": 10}, "Unknown option of autoencoder"),
        ("mobilenet_v1", {"alpha": 0}, "alpha of mobilenet_v1 .* got 0"),
        ("mobilenet_v1", {"alpha": -0.5}, "alpha of mobilenet_v1 .* got -0.5"),
        ("mobilenet_v1", {"alpha": "half"}, "alpha of mobilenet_v1 .* got 'half'"),
        ("mobilenet_v1", {"alpha": float("nan")}, "alpha of mobilenet_v1 .* got nan"),
        ("mobilenet_v1", {"alpha": None}, "alpha of mobilenet_v1 .* got None"),
        ("vgg16", {"num_classes": 0}, "num_classes of vgg16 .* got 0"),
        ("vgg16", {"num_classes": 2.5}, "num_classes of vgg16 .* got 2.5"),
        ("vgg16", {"num_classes": True}, "num_classes of vgg16 .* got True"),
        ("vgg16", {"classifier": "gpa"}, "classifier of vgg16 'gpa'. Did you mean"),
        ("vgg16", {"batch_norm": "yes"}, "batch_norm of vgg16 must be True or False"),
        ("vgg16", {"dropout_rate": 1}, "dropout_rate of vgg16 .* got 1"),
        ("resnet18", {"stem": "cifar10"}, "stem of resnet18 'cifar10'. Did you mean"),
        ("alexnet", {"classifier_activation": "sofmax"}, "classifier_activation of"),
        ("alexnet", {"batch_size": 0}, "batch_size must be"),
        ("mlp", {"hidden": (0,)}, r"hidden of mlp .* got \(0,\)"),
        ("mlp", {"hidden": 1000}, "hidden of mlp .* got 1000"),
        ("mlp", {"num_classes": 2, "num_outputs": 2}, "not both"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_clear_line(name, options, message):
    with pytest.raises(errors.ConfigError, match=message) as caught:
        tfslim.build_model(name, **options)
    assert "\n" not in str(caught.value)
