"""What is known of a model before TensorFlow is imported."""

import subprocess
import sys

import pytest

from tfslim import errors
from tfslim.models import MODELS, ModelSpec, model_spec

NAMES = [
    "alexnet",
    "autoencoder",
    "mlp",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "vgg16",
    "yolov3",
    "yolov3_tiny",
]


def test_the_zoo_is_complete():
    assert {*NAMES} <= {*MODELS.names()}


def test_reading_the_table_brings_no_tensorflow():
    code = (
        "import sys; from tfslim.models import MODELS, model_spec\n"
        "[model_spec(name) for name in MODELS.names()]\n"
        "print({'tensorflow', 'tf_keras', 'keras', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "options", "facts"),
    [
        ("autoencoder", {}, ("reconstruction", "unit", (28, 28, 1))),
        ("mlp", {}, ("regression", "raw", (2,))),
        (
            "mlp",
            {"num_classes": 10, "input_shape": [8, 8, 1]},
            ("classification", "unit", (8, 8, 1)),
        ),
        ("vgg16", {}, ("classification", "torch", (224, 224, 3))),
        (
            "vgg16",
            {"weights": "imagenet"},
            ("classification", "caffe", (224, 224, 3)),
        ),
        ("mobilenet_v3_small", {}, ("classification", "raw", (224, 224, 3))),
        (
            "mobilenet_v3_large",
            {"include_preprocessing": False},
            ("classification", "symmetric", (224, 224, 3)),
        ),
    ],
)
def test_options_change_the_facts(name, options, facts):
    spec = model_spec(name, **options)
    assert (spec.task, spec.preprocessing, spec.input_shape) == facts


def test_the_cifar_stem_takes_smaller_images():
    assert model_spec("resnet18", input_shape=(8, 9, 1), stem="cifar").min_size == 8
    with pytest.raises(errors.ConfigError, match="at least 32x32 pixels, got 31x64"):
        model_spec("resnet18", input_shape=(31, 64, 3))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alexnet", (62, 224, 3), "at least 63x63 pixels, got 62x224"),
        ("vgg16", (224, 31, 3), "at least 32x32 pixels, got 224x31"),
        ("mobilenet_v2", (8, 8, 1), "at least 32x32 pixels, got 8x8"),
        ("autoencoder", (30, 28, 1), "divisible by 4, got 30x28.*size is 32x28"),
        ("mobilenet_v1", (224, 224), r"must be \(height, width, channels\)"),
        ("mobilenet_v1", (224, None, 3), "positive whole numbers"),
        ("mobilenet_v1", (224, 224, 0), "positive whole numbers"),
        ("mobilenet_v1", (224.0, 224, 3), "positive whole numbers"),
        ("mlp", (), "positive whole numbers"),
        ("mlp", "28", "positive whole numbers"),
        ("mlp", 28, "positive whole numbers"),
    ],
)
def test_a_shape_that_cannot_be_is_one_clear_line(name, shape, message):
    with pytest.raises(errors.ConfigError, match=message) as caught:
        model_spec(name, input_shape=shape)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_an_unknown_name_has_a_suggestion():
    with pytest.raises(errors.ConfigError, match="Did you mean 'resnet18'"):
        model_spec("resnet19")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="registered twice"):
        MODELS.register("mlp")(ModelSpec(name="mlp", builder="a:b"))
