"""Parameter counts that are known from the papers and from torchvision."""

import pytest
import tf_keras

import tfslim


def _trainable(model):
    return sum(tf_keras.backend.count_params(w) for w in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("alexnet", {}, 61_100_840),
        ("alexnet", {"alpha": 0.75}, 50_587_736),
        ("alexnet", {"alpha": 0.5}, 40_380_296),
        pytest.param("vgg16", {}, 138_357_544, marks=pytest.mark.slow),
        ("mobilenet_v1", {}, 4_253_864),
        ("mobilenet_v2", {}, 3_538_984),
        ("mobilenet_v3_small", {}, 2_554_968),
        ("mobilenet_v3_large", {}, 5_507_432),
        # By hand: kernels 36, 576, 576, 36; biases 4, 16, 4, 1; 4 x 25 of batch norm.
        ("autoencoder", {}, 1_349),
        ("mlp", {}, 4_001),
        # Darknet's yolov3.weights and yolov3-tiny.weights have 248,007,048 and
        # 35,434,956 bytes: 20 of header, then 4 a number.
        ("yolov3", {}, 62_001_757),
        pytest.param(
            *("yolov3", {"input_shape": (320, 608, 3)}, 62_001_757),
            marks=pytest.mark.slow,
        ),
        ("yolov3_tiny", {}, 8_858_734),
    ],
)
def test_total_params(name, options, params):
    assert tfslim.build_model(name, **options).count_params() == params


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("resnet18", {}, 11_689_512),
        ("resnet18", {"stem": "cifar", "num_classes": 10}, 11_173_962),
        # torchvision's vgg16_bn has 138,365,992 with its dense layers, of which fc1 and
        # fc2 have 119,545,856 and a classifier of 4096 inputs 3,584,000 more than ours.
        (
            "vgg16",
            {"batch_norm": True, "classifier": "gap"},
            138_365_992 - 119_545_856 - 3_584_000,
        ),
    ],
)
def test_trainable_params(name, options, params):
    assert _trainable(tfslim.build_model(name, **options)) == params
