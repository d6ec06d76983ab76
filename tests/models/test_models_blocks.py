"""The shared blocks, by hand and after conversion."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from tfslim.models import blocks


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(0.1, 8), (8, 8), (11, 16), (11.2, 16), (19, 24), (20, 24), (35, 32), (48, 48)],
)
def test_make_divisible_by_hand(channels, rounded):
    # 11 would round down to 8, which takes 27%; 35 rounds to 32, which takes 8.6%.
    assert blocks.make_divisible(channels) == rounded


def test_hard_swish_is_the_papers_function():
    inputs = tf_keras.Input((9,))
    model = tf_keras.Model(inputs, blocks.hard_swish(inputs, name="act"))
    x = np.linspace(-4, 4, 9)[None]
    expected = [[0, 0, -1 / 3, -1 / 3, 0, 2 / 3, 5 / 3, 3, 4]]
    np.testing.assert_allclose(model(x).numpy(), expected, atol=1e-6)


def _ops_after_conversion(outputs, inputs):
    model = tf_keras.Model(inputs, outputs)
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    names = [op["op_name"] for op in interpreter._get_ops_details()]
    return [name for name in names if name != "DELEGATE"]


def test_hard_swish_converts_to_one_op():
    inputs = tf_keras.Input((4, 4, 3), batch_size=1)
    x = blocks.conv_bn(inputs, 8, kernel_size=3, name="conv", bn_name="bn")
    x = blocks.hard_swish(x, name="act")
    assert _ops_after_conversion(x, inputs) == ["CONV_2D", "HARD_SWISH"]


def test_squeeze_excite_converts_to_fused_ops():
    inputs = tf_keras.Input((4, 4, 16), batch_size=1)
    x = blocks.squeeze_excite(inputs, ratio=0.25, name="se")
    # ReLU and relu6(x + 3) are fused into the convolutions; 1/6 and the gate remain.
    assert _ops_after_conversion(x, inputs) == [
        "MEAN", "CONV_2D", "CONV_2D", "MUL", "MUL",
    ]  # fmt: skip
