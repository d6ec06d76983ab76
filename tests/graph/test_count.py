"""Costs against arithmetic by hand and against published figures."""

from __future__ import annotations

import keras
import numpy as np
import tf_keras

from tests.graph import models
from tfslim.graph import count, ir
from tfslim.graph import keras as graph_keras


def test_by_hand():
    x = y = tf_keras.Input((8, 8, 3))
    y = tf_keras.layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(y)
    y = tf_keras.layers.BatchNormalization(name="norm")(y)
    y = tf_keras.layers.DepthwiseConv2D(3, name="depthwise", use_bias=False)(y)
    y = tf_keras.layers.Conv2D(6, 1, groups=2, name="grouped")(y)
    y = tf_keras.layers.Conv2DTranspose(5, 2, strides=2, name="transposed")(y)
    y = tf_keras.layers.SeparableConv2D(7, 3, name="separable")(y)
    y = tf_keras.layers.Dense(2, name="dense")(y)
    counts = count.count(graph_keras.read(tf_keras.Model(x, y)))
    rows = {row.name: row for row in counts.nodes}
    wanted = {  # params, trainable params, MACs
        "conv": (3 * 3 * 3 * 4 + 4, 112, 4 * 4 * 108),
        "norm": (16, 8, 0),
        "depthwise": (36, 36, 2 * 2 * 36),
        "grouped": (2 * 6 + 6, 18, 2 * 2 * 12),
        "transposed": (2 * 2 * 6 * 5 + 5, 125, 2 * 2 * 120),
        "separable": (45 + 35 + 7, 87, 2 * 2 * (45 + 35)),
        "dense": (14 + 2, 16, 2 * 2 * 14),
    }
    for name, numbers in wanted.items():
        row = rows[name]
        assert (row.params, row.trainable_params, row.macs) == numbers, name
    assert counts.params == sum(numbers[0] for numbers in wanted.values())
    assert counts.macs == sum(numbers[2] for numbers in wanted.values())
    assert counts.weight_bytes == 4 * counts.params
    assert counts.uncounted == ()


def test_shared_layer_is_paid_once_and_computed_twice():
    graph = graph_keras.read(models.nested(keras))
    shared = [row for row in count.count(graph).nodes if row.name == "shared"]
    assert [row.params for row in shared] == [72, 0]
    assert [row.macs for row in shared] == [64, 64]


def test_constants_are_no_parameters():
    model = models.tf_functions()
    assert count.count(graph_keras.read(model)).params == model.count_params()


def test_mobilenet_has_its_published_size():
    model = tf_keras.applications.MobileNet(weights=None)
    counts = count.count(graph_keras.read(model))
    assert counts.params == 4_253_864
    assert counts.macs == 568_740_352  # "569 million" in the paper's table 4.


def test_what_cannot_be_counted_is_named():
    layer = ir.Layer("attention", "Attention", weights={"scale": np.ones(3)})
    start = ir.Layer("x", "Input", {"batch_shape": [None, 4], "dtype": "float32"})
    graph = ir.Graph(
        "model",
        {"x": start, "attention": layer},
        (
            ir.Node("x", (), ((None, 4),)),
            ir.Node("attention", (ir.TensorRef(0),), ((None, 4),)),
        ),
        ir.TensorRef(0),
        ir.TensorRef(1),
    )
    assert count.count(graph).uncounted == ("attention",)
