"""Darknet's files: read, computed and written as Darknet does."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.detection import darknet_reference
from tfslim import errors
from tfslim.detection import YOLOV3_HEADS, YOLOV3_TINY_HEADS, Head, darknet
from tfslim.detection.darknet import cfg as cfg_lib
from tfslim.detection.darknet import sections, weights
from tfslim.detection.darknet.to_graph import to_graph
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras

SMALL = Path(__file__).with_name("small.cfg")
DATA = os.environ.get("TFSLIM_DATA")
real = pytest.mark.skipif(DATA is None, reason="TFSLIM_DATA is not set")
YOLOV3_BYTES = 248_007_048


def _cfg(name):
    return Path(DATA or "", "coco/cfg", name)


def _random_weights(network, seed=1, seen=7):
    """Returns the bytes of a `.weights` with numbers that tell every array apart."""
    rng = np.random.default_rng(seed)
    numbers = []
    for op, shape in weights.kernel_shapes(network):
        n = op.filters
        numbers.append(rng.normal(0, 0.3, n))  # Biases, then scales, mean, variance.
        if op.batch_normalize:
            numbers += [rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n)]
            numbers.append(rng.uniform(0.01, 2, n))
        numbers.append(rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).ravel())
    header = np.array([0, 2, 5], "<i4").tobytes() + np.int64(seen).tobytes()
    return header + np.concatenate(numbers).astype("<f4").tobytes()


def _with_zeros(name):
    network = sections.build(cfg_lib.parse(_cfg(name).read_text()))
    data = weights.Header().encode() + bytes(4 * weights.num_params(network))
    return darknet.Darknet(network, weights.decode(data, network)[1])


@pytest.fixture
def small(tmp_path):
    network = sections.build(cfg_lib.parse(SMALL.read_text()))
    path = tmp_path / "small.weights"
    path.write_bytes(_random_weights(network))
    return darknet.read_darknet(SMALL, path), path


@pytest.mark.parametrize("kind", ["tf_keras", "keras"])
def test_keras_computes_what_darknet_does(small, kind):
    _, path = small
    model, heads = darknet.load_darknet(SMALL, path, keras=kind)
    assert isinstance(model, {"tf_keras": tf_keras, "keras": keras}[kind].Model)
    assert heads == (
        Head(((10, 12), (20, 16)), 8, 2),
        Head(((4, 5), (6, 7)), 4, 2),
    )
    image = np.random.default_rng(3).normal(size=(3, 32, 48)).astype(np.float32)
    wanted = darknet_reference.forward(SMALL.read_text(), path.read_bytes(), image)
    outputs = model(image.transpose(1, 2, 0)[None])
    assert len(wanted) == len(outputs) == 2
    for truth, found in zip(wanted, outputs, strict=True):
        assert np.abs(truth).max() > 0.1
        np.testing.assert_allclose(
            np.asarray(found)[0].transpose(2, 0, 1), truth, atol=2e-5
        )


def test_files_and_model_come_back_bit_for_bit(small, tmp_path):
    found, path = small
    assert found.header == weights.Header((0, 2, 5), 7)
    assert found.weights_bytes() == path.read_bytes()
    model, heads = darknet.load_darknet(SMALL, path)
    again = darknet.save_darknet(
        model, heads, cfg=tmp_path / "b.cfg", weights_file=tmp_path / "b.w"
    )
    # All but the header: a model does not know how many images it saw.
    assert (tmp_path / "b.w").read_bytes()[20:] == path.read_bytes()[20:]
    read = darknet.read_darknet(tmp_path / "b.cfg", tmp_path / "b.w")
    assert read.network == again.network
    image = np.random.default_rng(4).normal(size=(3, 32, 48))
    text = (tmp_path / "b.cfg").read_text()
    for a, b in zip(
        darknet_reference.forward(SMALL.read_text(), path.read_bytes(), image),
        darknet_reference.forward(text, (tmp_path / "b.w").read_bytes(), image),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_other_classes_keep_what_is_known_of_boxes(small):
    found, path = small
    more = found.with_classes(5)
    assert [head.num_classes for head in more.heads] == [5, 5]
    assert [head.anchors for head in more.heads] == [h.anchors for h in found.heads]
    image = np.random.default_rng(3).normal(size=(3, 32, 48))
    old = darknet_reference.forward(SMALL.read_text(), path.read_bytes(), image)
    new = darknet_reference.forward(more.cfg(), more.weights_bytes(), image)
    for before, after in zip(old, new, strict=True):
        shape = before.shape[1:]
        boxes = before.reshape(2, 7, *shape)[:, :5]
        np.testing.assert_allclose(after.reshape(2, 10, *shape)[:, :5], boxes)
    model, heads = darknet.load_darknet(SMALL, path, num_classes=5)
    assert heads == more.heads
    assert [out.shape[-1] for out in model.outputs] == [20, 20]


def test_classes_cannot_be_changed_behind_a_batch_norm():
    text = SMALL.read_text()
    last = text.rindex("[convolutional]\n") + len("[convolutional]\n")
    text = text[:last] + "batch_normalize=1\n" + text[last:]
    network = sections.build(cfg_lib.parse(text))
    normed = darknet.Darknet(network, weights.random(network))
    with pytest.raises(errors.GraphError, match="without batch norm"):
        normed.with_classes(5)


@real
def test_full_yolov3_byte_for_byte():
    network = sections.build(cfg_lib.parse(_cfg("yolov3.cfg").read_text()))
    assert weights.num_params(network) == 62_001_757
    rng = np.random.default_rng(0)
    body = rng.integers(0, 256, YOLOV3_BYTES - 20, np.uint8).tobytes()
    # The header of the published file: version 0.2.0, 32,013,312 images.
    data = np.array([0, 2, 0], "<i4").tobytes() + (32_013_312).to_bytes(8, "little")
    data += body
    assert len(data) == YOLOV3_BYTES
    header, arrays = weights.decode(data, network)
    assert header == weights.Header(seen=32_013_312)
    assert weights.encode(header, arrays) == data
    model = darknet.Darknet(network, arrays, header)
    through = darknet.Darknet.from_graph(model.to_graph(), model.heads, header)
    assert through.network == network
    assert through.weights_bytes() == data


@real
@pytest.mark.parametrize("name", ["yolov3.cfg", "yolov3-tiny.cfg"])
def test_written_sections_are_those_of_the_file(name):
    text = _cfg(name).read_text()
    again = darknet_reference.read_cfg(_with_zeros(name).cfg())
    original = darknet_reference.read_cfg(text)
    assert [kind for kind, _ in again] == [kind for kind, _ in original]
    for (kind, ours), (_, theirs) in zip(again[1:], original[1:], strict=True):
        training = {"jitter", "ignore_thresh", "truth_thresh", "random"}
        theirs = {k: v for k, v in theirs.items() if k not in training}
        assert ours == theirs, kind


def _unnamed(graph):
    """Returns what the nodes compute, from the outputs back, without their names."""
    order, found = [], {}

    def visit(ref):
        if ref in found:
            return found[ref]
        node = graph.nodes[ref.node]
        inputs = tuple(visit(x) for x in node.inputs)
        layer = graph.layer_of(node)
        keys = ("kernel_size strides padding negative_slope epsilon pool_size size "
                "use_bias axis").split()  # fmt: skip
        facts = {k: layer.config[k] for k in keys if k in layer.config}
        if layer.op == "BatchNormalization":
            facts["axis"] = -1
        if layer.op == "LeakyReLU":  # tf_keras keeps it in float32.
            facts["negative_slope"] = round(layer.config["negative_slope"], 6)
        order.append((layer.op, inputs, facts, node.shapes))
        found[ref] = len(order) - 1
        return found[ref]

    return [visit(ref) for ref in graph.output_refs], order


@real
@pytest.mark.parametrize(
    ("name", "cfg", "heads"),
    [
        ("yolov3", "yolov3.cfg", YOLOV3_HEADS),
        ("yolov3_tiny", "yolov3-tiny.cfg", YOLOV3_TINY_HEADS),
    ],
)
def test_builders_are_the_cfgs(name, cfg, heads):
    found = _with_zeros(cfg)
    assert found.heads == heads
    model = tfslim.build_model(name, input_shape=found.network.input_shape)
    assert _unnamed(graph_keras.read(model)) == _unnamed(found.to_graph())


@real
@pytest.mark.slow
def test_keras_model_of_full_yolov3_writes_the_same_file(tmp_path):
    network = sections.build(cfg_lib.parse(_cfg("yolov3.cfg").read_text()))
    data = _random_weights(network)
    (tmp_path / "a.weights").write_bytes(data)
    model, heads = darknet.load_darknet(_cfg("yolov3.cfg"), tmp_path / "a.weights")
    assert model.count_params() == 62_001_757
    darknet.save_darknet(
        model, heads, cfg=tmp_path / "b.cfg", weights_file=tmp_path / "b.weights"
    )
    assert (tmp_path / "b.weights").stat().st_size == YOLOV3_BYTES
    assert (tmp_path / "b.weights").read_bytes()[20:] == data[20:]


def _randomized(model):
    rng = np.random.default_rng(0)
    values = []
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "variance" in weight.name or "gamma" in weight.name:
            values.append(rng.uniform(0.5, 1.5, shape))
        else:
            values.append(rng.normal(0, 0.2, shape))
    model.set_weights([v.astype(np.float32) for v in _in_layer_order(model, values)])
    return model


def _in_layer_order(model, values):
    by_id = {id(w): v for w, v in zip(model.weights, values, strict=True)}
    return [by_id[id(w)] for layer in model.layers for w in layer.weights]


@pytest.mark.slow
def test_a_cut_model_has_files_of_its_own(tmp_path):
    options = {"input_shape": (32, 64, 3), "num_classes": 2, "alpha": 0.25}
    model = _randomized(tfslim.build_model("yolov3", **options))
    for layer in model.layers:
        # Dead channels that are constants, which folding moves into the bias of the
        # 1x1 convolution that follows.
        if layer.name.startswith("head") and layer.name.endswith(("_1_bn", "_3_bn")):
            gamma, *rest = layer.get_weights()
            gamma[::2] = 0.0
            layer.set_weights([gamma, *rest])
    scoring = tfslim.Scoring(criterion="bn_scale")
    smaller, report = tfslim.prune_channels(
        model,
        criterion=scoring,
        budget=tfslim.Budget(pruning_ratio=0.5, divisor=1),
    )
    assert report.folding.folded
    heads = tfslim.detection.with_classes(YOLOV3_HEADS, 2)
    paths = tmp_path / "cut.cfg", tmp_path / "cut.weights"
    found = darknet.save_darknet(smaller, heads, cfg=paths[0], weights_file=paths[1])
    whole = darknet.Darknet.from_graph(graph_keras.read(model), heads)
    assert len(found.network.layers) == len(whole.network.layers)
    sizes = [weights.num_params(d.network) for d in (whole, found)]
    assert sizes[1] < 0.3 * sizes[0]
    assert paths[1].stat().st_size == 20 + 4 * sizes[1]
    again, read_heads = darknet.load_darknet(*paths)
    assert read_heads == heads
    x = np.random.default_rng(0).uniform(size=(1, 32, 64, 3)).astype(np.float32)
    for a, b in zip(smaller(x), again(x), strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(b, a, atol=1e-5 * scale)


def test_norms_and_biases_that_darknet_has_not():
    # A bias before the batch norm, another epsilon, no scale, and a fused activation.
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization(epsilon=1e-2, scale=False)(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(4, 1, activation="relu")(x)
    y = layers.Conv2D(4, 1, activation="linear")(x)
    x = layers.ReLU()(layers.Add()([y, x]))
    model = _randomized(tf_keras.Model(inputs, layers.Conv2D(6, 1)(x)))
    found = darknet.Darknet.from_graph(graph_keras.read(model), [Head(((1, 1),), 1, 1)])
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    again = graph_keras.write(found.to_graph())(x)
    np.testing.assert_allclose(again, model(x), atol=1e-5)
    text, data = found.cfg(), found.weights_bytes()
    [truth] = darknet_reference.forward(text, data, x[0].transpose(2, 0, 1))
    np.testing.assert_allclose(again[0], truth.transpose(1, 2, 0), atol=1e-5)


def _one_layer(layer, shape=(8, 8, 4)):
    inputs = tf_keras.Input(shape)
    return tf_keras.Model(inputs, tf_keras.layers.Conv2D(6, 1)(layer(inputs)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: tf_keras.layers.Conv2D(4, 3, dilation_rate=2), "a dilation"),
        (lambda: tf_keras.layers.Conv2D(4, (3, 1)), "kernel_size 3x1"),
        (lambda: tf_keras.layers.Conv2D(4, 3, strides=2, padding="same"), "zeros"),
        (lambda: tf_keras.layers.Conv2D(4, 3, activation="tanh"), "tanh"),
        (lambda: tf_keras.layers.LeakyReLU(0.2), "slope of 0.2"),
        (lambda: tf_keras.layers.BatchNormalization(), "no convolution before it"),
        (lambda: tf_keras.layers.AveragePooling2D(1), "no section in Darknet"),
        (lambda: tf_keras.layers.ZeroPadding2D(1), "stride 1"),
    ],
)
def test_what_darknet_has_not_is_refused_by_name(layer, message):
    model = _one_layer(layer())
    with pytest.raises(errors.GraphError, match=message):
        darknet.Darknet.from_graph(graph_keras.read(model), [Head(((1, 1),), 1, 1)])


def test_a_padding_that_differs_by_side_is_refused():
    # 'same' pads 8 pixels behind only, 9 on both sides.
    model = _one_layer(tf_keras.layers.MaxPooling2D(3, 2, padding="same"), (8, 9, 4))
    with pytest.raises(errors.GraphError, match="a padding that is not Darknet's"):
        darknet.Darknet.from_graph(graph_keras.read(model), [Head(((1, 1),), 2, 1)])


def test_heads_must_be_those_of_the_model():
    graph = darknet.read_darknet(SMALL).to_graph()
    assert isinstance(graph, ir.Graph)
    with pytest.raises(errors.GraphError, match="and 1 heads were given"):
        darknet.Darknet.from_graph(graph, [Head(((1, 1),), 8, 2)])
    with pytest.raises(errors.GraphError, match="stride 8 and 7 channels"):
        darknet.Darknet.from_graph(graph, [Head(((1, 1),), 8, 2)] * 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[maxpool]", "[maxpol]", "Line 47 .*Unknown section 'maxpol'. Did you"),
        ("[maxpool]", "[crop]", "Line 47 of the .cfg: Unknown section 'crop'"),
        ("size=3", "size=three", r"\[convolutional\] in line 10: size must be 1 fi"),
        ("size=3", "size=0", "size must be a whole number of at least 1, got '0'"),
        ("size=3", "size=1e999", "size must be"),
        ("size=3", "size=2.5", "size must be a whole number"),
        ("size=2\nstride=2\npad", "size=9\nstride=2\npad", "leaves nothing of"),
        ("size=3", "sise=3", "has sise=3, which tfslim does not know"),
        ("leaky", "leeky", "Unknown activation 'leeky'. Did you mean 'leaky'"),
        ("groups = 3", "groups = 5", "5 groups"),
        ("from = -3", "from = -9", "from -9 is no layer"),
        ("from = -3", "from = -4", "they must be equal"),
        ("from = -3", "alpha = 2", "only alpha=1"),
        ("layers=-1,-2,9", "layers=-1,5", "joins outputs of other heights"),
        ("group_id=1", "group_id=2", "group_id 2 of 2 groups"),
        ("layers=-3", "layers=14", r"14 is a \[yolo\]"),
        ("[route]\nlayers=-3\n", "", r"reads a \[yolo\]"),
        ("classes=2", "classes=3", "needs 16 filters, and has 14"),
        ("num=4", "num=5", "anchors must be 10 finite"),
        ("mask=2,3", "mask=2,4", "the mask 2,4"),
        ("num=4", "num=4\nscale_x_y=1.1", "only scale_x_y=1"),
        ("width=48", "width=50", "do not divide the image of 32x50"),
        ("width=48", "", "must have width, height and channels"),
        ("[net]", "[network", "Line 1 of the .cfg is"),
        ("[net]", "[convolutional]", "must begin with a .net. section"),
        ("stride=4", "stride=", "expected .section. or key=value"),
    ],
)  # fmt: skip
def test_a_wrong_cfg_is_one_clear_line(tmp_path, old, new, message):
    text = SMALL.read_text()
    assert old in text
    (tmp_path / "bad.cfg").write_text(text.replace(old, new, 1))
    with pytest.raises(errors.GraphError, match=message) as caught:
        darknet.read_darknet(tmp_path / "bad.cfg")
    assert "bad.cfg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cfg_cut_anywhere_is_never_read_as_another():
    """Every prefix fails, or describes a network that ends in a whole [yolo]."""
    lines = SMALL.read_text().splitlines()
    whole = [n for n, line in enumerate(lines) if line.startswith("num=")]
    for end in range(len(lines)):
        try:
            network = sections.build(cfg_lib.parse("\n".join(lines[:end])))
        except errors.GraphError:
            continue
        assert network.heads
        assert end > whole[0]


def test_wrong_weights_are_refused(small, tmp_path):
    _, path = small
    data = path.read_bytes()
    bad = tmp_path / "bad.weights"
    for content, message in (
        (b"", "0 bytes, less than its header"),
        (data[:17], "17 bytes"),
        (data[:-1], "cut off"),
        (data[:-4], "cut off"),
        (data + b"\0", "too long"),
        (data * 2, "too long"),
    ):
        bad.write_bytes(content)
        with pytest.raises(errors.GraphError, match=message) as caught:
            darknet.read_darknet(SMALL, bad)
        assert "bad.weights" in str(caught.value)
    with pytest.raises(errors.ConfigError, match=r"nothing\.weights.*No such file"):
        darknet.read_darknet(SMALL, tmp_path / "nothing.weights")
    with pytest.raises(errors.ConfigError, match="it is a folder, not a file"):
        darknet.read_darknet(tmp_path)


def test_old_headers_have_four_bytes_less(small):
    found, path = small
    data = path.read_bytes()
    old = np.array([0, 1, 0, 99], "<i4").tobytes() + data[20:]
    header, arrays = weights.decode(old, found.network)
    assert header == weights.Header((0, 1, 0), 99)
    assert weights.encode(header, arrays) == old


@pytest.mark.parametrize("kind", ["dropout", "empty", "silence"])
def test_sections_that_do_nothing_count_as_layers(kind):
    conv = "[convolutional]\nfilters={}\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    head = "[yolo]\nmask=0\nanchors=4,4\nclasses=1\nnum=1\n"
    start = "[net]\nwidth=8\nheight=8\nchannels=3\n" + conv.format(4) + conv.format(2)
    end = conv.format(6) + head
    option = "probability=.1\n" if kind == "dropout" else ""
    texts = (
        f"{start}[{kind}]\n{option}[route]\nlayers=-1,-3\n{end}",
        f"{start}[route]\nlayers=-1,-2\n{end}",
    )
    x = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)
    found = []
    for text in texts:
        network = sections.build(cfg_lib.parse(text))
        graph = to_graph(network, weights.random(network, 0), name="small")
        found.append(np.asarray(graph_keras.write(graph)(x)))
    np.testing.assert_array_equal(found[0], found[1])
