"""Which layer an op computes, told by weights: each kernel is in one op alone."""

import dataclasses
import importlib

import numpy as np
import pytest

import tfslim
from tfslim import quantize_tflite, tflite
from tfslim.graph import ir, keras_probe
from tfslim.quantization import calibrate, map_layers, put_layers, rank_layers
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.layers.match_tensors import SharedValues
from tfslim.tflite import metadata

KERAS = ("tf_keras", "keras")
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def randomize(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name else -0.4
        weight.assign(rng.uniform(low, low + 1.0, weight.shape))
    return model


def nested(package):
    """Layers of one name in two nested models, fused chains and a gate."""
    keras = importlib.import_module(package)
    layers = keras.layers

    def block(name):
        inputs = keras.Input((8, 8, 4))
        x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
        x = layers.BatchNormalization(name="bn")(x)
        return keras.Model(inputs, layers.ReLU(name="act")(x), name=name)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv", activation="relu")(inputs)
    x = layers.Add(name="join")([block("a")(x), block("b")(x)])
    x = layers.Dropout(0.2, name="drop")(x)
    x = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name="deep")(x)
    x = layers.BatchNormalization(name="deep_bn")(x)
    x = layers.Activation("swish" if package == "tf_keras" else "silu", name="swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(4, 1, activation="hard_sigmoid", name="gate")(gate)
    x = layers.Multiply(name="scale")([x, gate])
    x = layers.Dense(5, name="logits")(layers.Flatten(name="flat")(x))
    return randomize(keras.Model(inputs, layers.Softmax(name="odds")(x)))


@pytest.fixture(scope="module", params=KERAS)
def both(request):
    model = nested(request.param)
    return model, tfslim.convert_model(model).tflite


def correlated(one, other):
    """Whether two sets of weights are the same but for a factor for each channel."""
    one, other = (np.asarray(a, np.float64).reshape(-1) for a in (one, other))
    return one.shape == other.shape and abs(np.corrcoef(one, other)[0, 1]) > 0.999


def test_every_op_is_mapped_to_what_its_weights_are_of(both):
    model, data = both
    found = map_layers(data, *keras_probe.probe(model))
    content = tflite.read(data)
    assert found.unknown_ops == ()
    # Dropout computes nothing, and says so.
    assert list(found.unmapped) == ["drop"]
    assert "hands its input on" in found.unmapped["drop"]
    by_layer = {}
    for op in content.ops:
        names = found.ops[content.tensors[op.outputs[0]].name]
        by_layer.setdefault(names[0], []).append(op.name)
        assert names[0] not in ("bn", "act", "deep_bn")  # The weights come first.
    assert by_layer["conv"] == by_layer["a_conv"] == by_layer["b_conv"] == ["CONV_2D"]
    assert by_layer["deep"] == ["DEPTHWISE_CONV_2D"]
    assert by_layer["gate"][0] == "CONV_2D"
    assert by_layer["swish"] == ["LOGISTIC", "MUL"]
    assert by_layer["logits"] == ["FULLY_CONNECTED"]
    assert by_layer["odds"] == ["SOFTMAX"]
    graph, _ = keras_probe.probe(model)
    for op in content.ops:
        if op.name not in _WEIGHTED:
            continue
        layer = found.ops[content.tensors[op.outputs[0]].name][0]
        kernel = next(iter(graph.layers[layer].weights.values()))
        ours = content.tensors[op.inputs[1]].data
        first, last = ours.shape[0], ours.shape[-1]
        axes = {"CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}
        ours = ours.transpose(axes.get(op.name, (1, 2, 3, 0)))
        channel = ours.shape[-1] if op.name == "CONV_2D" else None
        if op.name == "DEPTHWISE_CONV_2D":
            pairs = [(ours[:, :, i], kernel[:, :, i]) for i in range(last)]
        elif channel:
            pairs = [(ours[..., i], kernel[..., i]) for i in range(first)]
        else:
            pairs = [(ours, kernel)]
        assert all(correlated(*pair) for pair in pairs)


def test_it_is_kept_in_the_file_and_used_by_name(both):
    model, data = both
    mapped = put_layers(data, map_layers(data, *keras_probe.probe(model)))
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    for one, other in zip(
        tflite.run(data, x).values(), tflite.run(mapped, x).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    xs = [np.random.default_rng(i).normal(size=x.shape) for i in range(10)]
    xs = [x.astype(np.float32) for x in xs]
    for pattern in ("b_conv", "b/conv", "b_bn", "b/act"):
        done = quantize_tflite(
            mapped, "int8", samples=xs, layers={pattern: "float32"}
        ).tflite
        content = tflite.read(done)
        (kept,) = (
            op
            for op in content.ops
            if op.name == "CONV_2D" and content.tensors[op.inputs[1]].dtype == "float32"
        )
        kernel = content.tensors[kept.inputs[1]].data
        graph, _ = keras_probe.probe(model)
        wanted = graph.layers["b_conv"].weights["kernel"].transpose(3, 0, 1, 2)
        assert all(correlated(kernel[i], wanted[i]) for i in range(4))
    ranked = rank_layers(mapped, calibrate(mapped, xs), samples=xs[:4])
    assert {"a_conv", "b_conv", "deep", "logits"} <= {row.layer for row in ranked}
    with pytest.raises(tfslim.TfslimError, match="Did you mean 'a_conv'"):
        quantize_tflite(mapped, "int8", samples=xs, layers={"a_comv": "float32"})


def test_names_do_not_matter(both):
    model, data = both
    flat = tflite.flatbuffer.unpack(data)
    for index, tensor in enumerate(flat.subgraphs[0].tensors):
        tensor.name = b"%d" % index
    anonymous = tflite.flatbuffer.pack(flat)
    probe = keras_probe.probe(model)
    assert list(map_layers(anonymous, *probe).ops.values()) == list(
        map_layers(data, *probe).ops.values()
    )


def test_other_entries_of_the_file_stay(both):
    model, data = both
    noted = metadata.put_json(data, {"labels": ["a"]})
    entry = metadata.get_json(
        put_layers(noted, map_layers(noted, *keras_probe.probe(model)))
    )
    assert entry["labels"] == ["a"]
    assert ["logits"] in entry["layers"].values()


def test_another_model_maps_to_nothing(both):
    model, data = both
    graph, run = keras_probe.probe(model)

    def other(inputs):
        return {
            ref: value if graph.nodes[ref.node].layer.startswith("input") else value**3
            for ref, value in run(inputs).items()
        }

    found = map_layers(data, graph, other)
    assert len(found.ops) == 0
    assert len(found.unknown_ops) == len(tflite.read(data).ops)
    assert found.unmapped["logits"].startswith("No op writes its values")


def test_layers_that_are_silent_are_told_by_their_place():
    from tf_keras import Input, Model, layers

    x = inputs = Input((6, 6, 2))
    for name in ("one", "two", "three"):
        x = layers.Conv2D(2, 3, padding="same", name=name)(x)
        x = layers.ReLU(name=f"{name}_act")(x)
    model = randomize(Model(inputs, layers.Conv2D(2, 3, name="four")(x)))
    for name in ("one", "two"):  # All zero, for every input.
        kernel, _ = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([0.0 * kernel, np.array([-1.0, -2.0])])
    data = tfslim.convert_model(model).tflite
    found = map_layers(data, *keras_probe.probe(model))
    names = [
        found.ops[content.tensors[op.outputs[0]].name]
        for content in [tflite.read(data)]
        for op in content.ops
        if op.name == "CONV_2D"
    ]
    assert names[-2:] == [("three", "three_act"), ("four",)]
    # A constant layer may be folded; what is left is in order.
    assert names[:-2] in (
        [],
        [("two", "two_act")],
        [("one", "one_act"), ("two", "two_act")],
    )


def test_both_halves_of_a_separable_convolution():
    from tf_keras import Input, Model, layers

    inputs = Input((6, 6, 2))
    x = layers.SeparableConv2D(3, 3, name="both", activation="relu")(inputs)
    model = randomize(Model(inputs, layers.ZeroPadding2D(name="pad")(x)))
    data = tfslim.convert_model(model).tflite
    found = map_layers(data, *keras_probe.probe(model))
    ops = [
        (op.name, t.name)
        for op in tflite.read(data).ops
        for t in [tflite.read(data).tensors[op.outputs[0]]]
    ]
    named = {name: found.ops[tensor][0] for name, tensor in ops}
    assert named == {"DEPTHWISE_CONV_2D": "both", "CONV_2D": "both", "PAD": "pad"}


@pytest.mark.parametrize("package", KERAS)
def test_shared_layers_several_inputs_and_outputs(package):
    keras = importlib.import_module(package)
    layers = keras.layers
    left, right = (
        keras.Input((6, 6, 2), name="left"),
        keras.Input((6, 6, 2), name="right"),
    )
    shared = layers.Conv2D(3, 3, name="shared", activation="relu")
    joined = layers.Concatenate(name="both")([shared(left), shared(right)])
    small = layers.Dense(2, name="small")(layers.GlobalMaxPooling2D(name="top")(joined))
    model = randomize(
        keras.Model([left, right], [small, layers.ReLU(name="r")(joined)])
    )
    data = tfslim.convert_model(model).tflite
    found = map_layers(data, *keras_probe.probe(model))
    content = tflite.read(data)
    by_op = [
        (op.name, found.ops[content.tensors[op.outputs[0]].name][0])
        for op in content.ops
        if op.name in ("CONV_2D", "CONCATENATION", "FULLY_CONNECTED", "REDUCE_MAX")
    ]
    assert by_op.count(("CONV_2D", "shared")) == 2
    assert {("CONCATENATION", "both"), ("FULLY_CONNECTED", "small")} <= set(by_op)
    assert ("REDUCE_MAX", "top") in by_op


def test_the_probe_shows_what_keras_computes(both):
    model, _ = both
    graph, run = keras_probe.probe(model)
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    values = run([x])
    assert set(values) == {
        ir.TensorRef(number, port)
        for number, node in enumerate(graph.nodes)
        for port in range(len(node.shapes))
    }
    (end,) = graph.output_refs
    np.testing.assert_allclose(values[end], np.asarray(model(x)), rtol=1e-5, atol=1e-6)
    opened = dict(zip((n.layer for n in graph.nodes), range(99), strict=False))
    conv, act = (values[ir.TensorRef(opened[name])] for name in ("a_conv", "act"))
    assert conv.min() < 0 <= act.min()


def test_shared_values_by_hand():
    first, second = ir.TensorRef(0), ir.TensorRef(1)
    near, zeros = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    shared = SharedValues(
        {7: [near], 8: [near * 1.1], 9: [zeros]},
        {first: [near[None] * (1 + 5e-5)], second: [zeros]},
    )
    assert list(shared.shared()) == [([7], [first])]
    assert shared.is_shared(first) and not shared.is_shared(second)
    assert shared.number(ir.TensorRef(5)) is None


def test_names_alone_are_a_hint():
    tensors = tuple(
        tflite.Tensor(i, name, (1, 4), (1, 4), "float32", None, None, False)
        for i, name in enumerate(["x", "m/bn/FusedBatchNormV3;m/c2/Conv2D1"])
    )
    op = tflite.Op(0, "CONV_2D", (0,), (1,), False, None)
    graph = tflite.Graph(tensors, (op,), tensors[:1], tensors[1:])
    content = tflite.TfliteModel((graph,), (), {}, 0)
    assert LayerNames(content).first(op) == "c2"
    known = dataclasses.replace(
        content,
        metadata={"tfslim": metadata.encode({"layers": {tensors[1].name: ["a", "b"]}})},
    )
    assert LayerNames(known).of(op) == ("a", "b")
    names = LayerNames(known)
    assert op in names.fitting("b*") and op not in names.fitting("c2")
