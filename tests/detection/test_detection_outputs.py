"""Rewritten networks compute what they did, in one partition."""

import dataclasses

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import convert, errors, quantization, tflite
from tfslim.detection import (
    YOLOV3_HEADS,
    YOLOV3_TINY_HEADS,
    Head,
    decode,
    outputs,
    with_classes,
)
from tfslim.detection.deployment import prepare_deployment
from tfslim.graph import keras as graph_keras
from tfslim.graph.upsampling import tile_upsampling

SHAPE = (64, 96, 3)


def _image(seed=0, batch=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(batch, *SHAPE)).astype(np.float32)


def _tame(model, image=None):
    """Brings the maps of random weights to the size of a trained network's."""
    rng = np.random.default_rng(1)
    maps = model(_image(7) if image is None else image)
    maps = maps if isinstance(maps, list) else [maps]
    for layer, output in zip(model.output_names, maps, strict=True):
        kernel, bias = model.get_layer(layer).get_weights()
        bias = rng.normal(0, 1, bias.shape)
        model.get_layer(layer).set_weights([kernel / np.std(output), bias])
    return model


def _tiny(num_classes=3):
    options = {"input_shape": SHAPE, "num_classes": num_classes, "alpha": 0.25}
    model = _tame(tfslim.build_model("yolov3_tiny", **options))
    return model, with_classes(YOLOV3_TINY_HEADS, num_classes)


@pytest.fixture(scope="module")
def tiny():
    return _tiny()


@pytest.mark.parametrize("kind", ["tf_keras", "keras"])
def test_decoding_in_the_graph_is_that_of_numpy(tiny, kind):
    model, heads = tiny
    x = _image(batch=2)
    boxes, scores = decode([np.asarray(m) for m in model(x)], heads)
    graph = outputs.decode_heads(graph_keras.read(model), heads)
    found = graph_keras.write(graph, kind)(x)
    np.testing.assert_allclose(found[0], boxes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], scores, rtol=1e-5, atol=1e-6)


def test_decoding_in_a_file_of_three_heads():
    options = {"input_shape": SHAPE, "num_classes": 2, "alpha": 0.125}
    model = _tame(tfslim.build_model("yolov3", **options))
    heads = with_classes(YOLOV3_HEADS, 2)
    done = prepare_deployment(model, heads)
    content = convert.convert_model(done.model).tflite
    x = _image()
    found = tflite.run(content, x)
    assert list(found) == ["decode_boxes", "decode_scores"]
    boxes, scores = decode([np.asarray(m) for m in model(x)], heads)
    np.testing.assert_allclose(found["decode_boxes"], boxes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["decode_scores"], scores, rtol=1e-4, atol=1e-5)
    assert tflite.coverage(content).is_whole
    assert not [op.name for op in tflite.read(content).ops if op.is_custom]


def test_parts_come_together_bit_for_bit(tiny):
    model, heads = tiny
    x = _image(batch=2)
    graph = outputs.split_heads(graph_keras.read(model), heads)
    parts = [np.asarray(part) for part in graph_keras.write(graph)(x)]
    assert [part.shape[2] for part in parts] == [2, 2, 1, 3] * 2
    joined = outputs.join_parts(parts, heads, size=SHAPE[:2])
    for one, other in zip(model(x), joined, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(errors.ConfigError, match="parts of head 0"):
        outputs.join_parts(parts[::-1], heads, size=SHAPE[:2])


def test_int8_keeps_the_boxes_where_raw_maps_lose_them():
    """A class that never is must not take the resolution from all other numbers."""
    heads = (Head(((20, 30), (40, 25)), 16, 3),)
    inputs = tf_keras.Input(SHAPE)
    x = tf_keras.layers.Conv2D(64, 16, strides=16, activation="relu")(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(16, 1, name="out")(x))
    # Each cell has a colour of its own, so that cells differ.
    images = [
        np.repeat(np.repeat(_image(seed)[:, ::16, ::16], 16, 1), 16, 2)
        for seed in range(9)
    ]
    _tame(model, images[0])
    kernel, bias = model.get_layer("out").get_weights()
    bias[7] = -3000.0
    model.get_layer("out").set_weights([kernel, bias])
    *samples, x = images
    truth, _ = decode([model(x).numpy()], heads)
    errors_of = {}
    for kind in outputs.FORMATS:
        done = prepare_deployment(model, heads, outputs=kind)
        content = convert.convert_model(done.model).tflite
        quantized = quantization.quantize_tflite(
            content, "int8", samples=samples, layers=done.layers
        )
        assert tflite.coverage(quantized.tflite).is_whole
        found = list(tflite.run(quantized.tflite, x).values())
        if kind == "decoded":
            boxes = found[0]
        else:
            maps = found
            if kind == "split":
                maps = outputs.join_parts(found, heads, size=SHAPE[:2])
            boxes, _ = decode(maps, heads)
        errors_of[kind] = np.abs(boxes - truth).mean()
    assert errors_of["split"] < 0.1 * errors_of["raw"]
    assert errors_of["decoded"] < 0.1 * errors_of["raw"]


def test_decoding_stays_float_and_the_rest_is_int8(square_files):
    content = tflite.read(square_files["decoded_int8_float"])
    kinds = {
        (op.name, content.tensors[op.outputs[0]].dtype)
        for op in content.ops
        if op.name not in ("QUANTIZE", "DEQUANTIZE")
    }
    assert ("CONV_2D", "int8") in kinds
    floats = {name for name, dtype in kinds if dtype == "float32"}
    # The reshaping may be on either side. AVERAGE_POOL_2D is float by the policy.
    assert floats <= {"LOGISTIC", "EXP", "MUL", "ADD", "SUB", "CONCATENATION",
                      "RESHAPE", "AVERAGE_POOL_2D"}  # fmt: skip
    assert {"LOGISTIC", "EXP", "MUL", "ADD", "SUB", "CONCATENATION"} <= floats
    assert not {name for name, dtype in kinds if dtype == "int8"} & {"LOGISTIC", "EXP"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda heads: heads[:1], "2 outputs, and 1 heads"),
        (lambda heads: with_classes(heads, 4), "its head has 27 channels"),
    ],
)
def test_heads_that_do_not_fit_are_refused(tiny, change, message):
    model, heads = tiny
    with pytest.raises(errors.GraphError, match=message):
        prepare_deployment(model, change(heads))


def test_what_is_no_yolo_head_is_refused():
    inputs = tf_keras.Input((32, 32, 3))
    x = tf_keras.layers.Conv2D(6, 1, activation="sigmoid", name="out")(inputs)
    head = Head(((1, 1),), 1, 1)
    with pytest.raises(errors.GraphError, match="a YOLO head ends in a linear Conv2D"):
        prepare_deployment(tf_keras.Model(inputs, x), [head])
    with pytest.raises(errors.ConfigError, match="Did you mean 'decoded'"):
        prepare_deployment(tf_keras.Model(inputs, x), [head], outputs="decode")


def test_names_that_the_model_has_are_not_taken_twice(tiny):
    model, heads = tiny
    graph = outputs.split_heads(graph_keras.read(model), heads)
    again = dataclasses.replace(
        graph_keras.read(model),
        layers={
            name.replace("conv0_conv", "decode_0_low"): dataclasses.replace(
                layer, name=name.replace("conv0_conv", "decode_0_low")
            )
            for name, layer in graph_keras.read(model).layers.items()
        },
        nodes=tuple(
            dataclasses.replace(
                node, layer=node.layer.replace("conv0_conv", "decode_0_low")
            )
            for node in graph_keras.read(model).nodes
        ),
    )
    found = outputs.decode_heads(again, heads)
    assert {"decode_0_low", "decode_0_low_1"} <= set(found.layers)
    assert len(graph.output_refs) == 8


@pytest.mark.parametrize("kind", ["tf_keras", "keras"])
@pytest.mark.parametrize("size", [(2, 2), (3, 1), (1, 4), (2, 3)])
def test_tiled_upsampling_is_equal_bit_for_bit(kind, size):
    layers = {"tf_keras": tf_keras, "keras": keras}[kind].layers
    model = {"tf_keras": tf_keras, "keras": keras}[kind]
    inputs = model.Input((5, 7, 3))
    x = layers.UpSampling2D(size, name="up")(inputs)
    model = model.Model(inputs, layers.Conv2D(4, 3, name="conv")(x))
    graph, names = tile_upsampling(graph_keras.read(model))
    assert names == ("up",)
    x = np.random.default_rng(0).normal(size=(3, 5, 7, 3)).astype(np.float32)
    found = graph_keras.write(graph, kind)(x)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(model(x)))


def test_upsampling_of_other_kinds_is_left_alone():
    layers = tf_keras.layers
    open_sides = tf_keras.Input((None, None, 3))
    model = tf_keras.Model(open_sides, layers.UpSampling2D(2)(open_sides))
    assert tile_upsampling(graph_keras.read(model))[1] == ()
    inputs = tf_keras.Input((4, 4, 3))
    x = layers.UpSampling2D(2, interpolation="bilinear")(inputs)
    model = tf_keras.Model(inputs, x)
    assert tile_upsampling(graph_keras.read(model))[1] == ()


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_tiled_upsampling_keeps_a_file_in_one_partition(recipe):
    inputs = tf_keras.Input((8, 8, 4))
    x = tf_keras.layers.Conv2D(8, 3, padding="same")(inputs)
    x = tf_keras.layers.UpSampling2D(2)(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(4, 3)(x))
    samples = [np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32")]
    found = []
    graph, _ = tile_upsampling(graph_keras.read(model))
    for one in (model, graph_keras.write(graph)):
        content = convert.convert_model(one).tflite
        done = quantization.quantize_tflite(content, recipe, samples=samples)
        found.append((tflite.coverage(done.tflite), tflite.run(done.tflite, *samples)))
    (before, truth), (after, result) = found
    # The day that XNNPACK runs it, this pass has nothing to do any more.
    assert [op.name for op in before.outside] == ["RESIZE_NEAREST_NEIGHBOR"]
    assert after.is_whole
    for one, other in zip(truth.values(), result.values(), strict=True):
        np.testing.assert_array_equal(one, other)
