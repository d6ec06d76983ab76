"""Groups, ties and frozen layers of small models whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tests import numpy_executor
from tests.graph import models
from tfslim import errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels, surgery
from tfslim.pruning.labels import FIXED, Labels
from tfslim.pruning.rules import base

L = tf_keras.layers


def _analyze(build, **options):
    x = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(x, build(x))
    return channels.analyze(graph_keras.read(model), **options)


def _sizes(found):
    return {group.name: len(group) for group in found.groups}


def _head(y):
    return L.Dense(2, name="head")(L.GlobalAveragePooling2D()(y))


def _conv(filters, name, kernel=1, **options):
    return L.Conv2D(filters, kernel, padding="same", name=name, **options)


def test_chain():
    found = _analyze(lambda x: _head(_conv(5, "b")(_conv(4, "a")(x))))
    assert _sizes(found) == {"a": 4, "b": 5}
    assert found.skipped == {"head": "is an output of the model"}


def test_residual_trunk_is_one_group():
    def build(x):
        y = _conv(4, "a")(x)
        y = L.Add()([y, _conv(4, "c")(_conv(6, "b")(y))])
        return _head(L.Add()([y, _conv(4, "d")(y)]))

    found = _analyze(build)
    assert _sizes(found) == {"a": 4, "b": 6}
    assert found.by_name["a"].producers == ("a", "c", "d")


def test_depthwise_norm_and_prelu_follow():
    def build(x):
        y = L.DepthwiseConv2D(3, name="depthwise")(_conv(4, "a")(x))
        y = L.PReLU(name="prelu")(L.BatchNormalization(name="norm")(y))
        return _head(y)

    found = _analyze(build)
    members = {(m.layer, m.weight, m.axis) for m in found.members(found.groups[0])}
    assert members == {
        ("a", "kernel", 3),
        ("a", "bias", 0),
        ("depthwise", "depthwise_kernel", 2),
        ("depthwise", "bias", 0),
        *(("norm", n, 0) for n in ("gamma", "beta", "moving_mean", "moving_variance")),
        ("prelu", "alpha", 2),
    }


def test_grouped_conv_ties_equal_places_of_its_groups():
    found = _analyze(lambda x: _head(_conv(4, "b", 3, groups=2)(_conv(6, "a")(x))))
    # 6 inputs in 2 groups of 3, 4 outputs in 2 groups of 2.
    assert _sizes(found) == {"a": 3, "b": 2}
    keep = {"a": [True, False, True], "b": [False, True]}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    assert cut.layers["a"].weights["kernel"].shape == (1, 1, 3, 4)
    assert cut.layers["b"].weights["kernel"].shape == (3, 3, 2, 2)
    kernel = found.graph.layers["a"].weights["kernel"]
    np.testing.assert_array_equal(
        cut.layers["a"].weights["kernel"], kernel[..., [0, 2, 3, 5]]
    )


def test_conv_with_a_group_per_channel_is_depthwise():
    found = _analyze(lambda x: _head(_conv(12, "b", 3, groups=6)(_conv(6, "a")(x))))
    assert _sizes(found) == {"a": 6}
    keep = {"a": np.arange(6) < 2}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    assert cut.layers["b"].config["groups"] == 2
    assert cut.layers["b"].config["filters"] == 4


def test_gate_of_one_channel_is_spread_and_a_full_gate_is_tied():
    def build(x):
        y = _conv(4, "a")(x)
        one = _conv(1, "one", activation="sigmoid")(y)
        full = L.GlobalAveragePooling2D(keepdims=True)(y)
        full = _conv(4, "full", activation="sigmoid")(_conv(2, "squeeze")(full))
        return _head(L.Multiply()([L.Multiply()([y, one]), full]))

    found = _analyze(build)
    assert _sizes(found) == {"a": 4, "squeeze": 2}
    assert found.by_name["a"].producers == ("a", "full")
    assert "single channel" in found.skipped["one"]


def test_concatenation_keeps_groups_apart():
    def build(x):
        y = L.Concatenate()([_conv(4, "a")(x), x, _conv(3, "b")(x)])
        return _head(_conv(5, "c")(y))

    found = _analyze(build)
    assert _sizes(found) == {"a": 4, "b": 3, "c": 5}
    keep = {"a": [1, 0, 0, 1], "b": [0, 1, 0]}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    kernel = found.graph.layers["c"].weights["kernel"]
    np.testing.assert_array_equal(
        cut.layers["c"].weights["kernel"], kernel[:, :, [0, 3, 4, 5, 6, 8]]
    )


def test_added_to_the_input_stays():
    found = _analyze(lambda x: _head(L.Add(name="add")([x, _conv(3, "a")(x)])))
    assert _sizes(found) == {}
    assert found.skipped["a"].startswith("'add' (Add) joins it with channels")


def test_split_halves_that_are_added_fall_together():
    def build(x):
        y = _conv(6, "a")(x)
        return _head(L.Add()([y[..., :3], y[..., 3:]]))

    assert _sizes(_analyze(build)) == {"a": 3}


def test_split_halves_apart_are_two_groups_of_one_layer():
    def build(x):
        y = _conv(6, "a")(x)
        return _head(L.Concatenate()([L.ReLU()(y[..., 4:]), y[..., :4]]))

    found = _analyze(build)
    assert _sizes(found) == {"a": 4, "a:1": 2}
    keep = {"a": [True, False, False, True]}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    shapes = [node.shapes[0] for node in cut.nodes if "getitem" in node.layer]
    assert [shape[-1] for shape in shapes] == [2, 2]


def test_flatten_and_dense_drop_every_position_of_a_channel():
    found = _analyze(lambda x: L.Dense(2, name="head")(L.Flatten()(_conv(3, "a")(x))))
    keep = {"a": [True, False, True]}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    kernel = found.graph.layers["head"].weights["kernel"].reshape(8, 8, 3, 2)
    np.testing.assert_array_equal(
        cut.layers["head"].weights["kernel"], kernel[:, :, [0, 2]].reshape(128, 2)
    )


def test_dense_reshaped_to_an_image_loses_whole_channels():
    def build(x):
        y = L.Dense(4 * 4 * 5, name="dense")(L.Flatten()(x))
        return _head(_conv(2, "a")(L.Reshape((4, 4, 5), name="image")(y)))

    found = _analyze(build)
    assert _sizes(found) == {"dense": 5, "a": 2}
    keep = {"dense": [False, True, True, False, True]}
    cut, _ = surgery.cut_channels(found.graph, keep, channels=found)
    assert cut.layers["dense"].config["units"] == 48
    assert cut.layers["image"].config["target_shape"] == [4, 4, 3]


def test_shuffle_keeps_its_groups_equal():
    def build(x):
        y = _conv(6, "a")(x)
        y = L.Permute((1, 2, 4, 3))(L.Reshape((8, 8, 2, 3))(y))
        return _head(L.Reshape((8, 8, 6))(y))

    assert _sizes(_analyze(build)) == {"a": 3}


def test_shared_layer_ties_what_goes_into_it():
    def build(x):
        shared = _conv(5, "shared")
        a, b = shared(_conv(4, "a")(x)), shared(_conv(4, "b")(x))
        return _head(L.Concatenate()([a, b]))

    found = _analyze(build)
    assert sorted(_sizes(found).values()) == [4, 5]
    assert {"a", "b"} in [set(group.producers) for group in found.groups]


@pytest.mark.parametrize(
    "layer, why",
    [
        (L.LayerNormalization(name="x"), "takes its statistics over the channels"),
        (L.GroupNormalization(2, name="x"), "over groups of channels"),
        (L.Softmax(name="x"), "compares channels"),
        (L.Lambda(lambda t: t, name="x"), "has no rule"),
        (L.TimeDistributed(L.Dense(3), name="x"), "has no rule"),
        (L.Activation(lambda t: t, name="x"), "a function of the user"),
    ],
    ids=["layer_norm", "group_norm", "softmax", "lambda", "wrapper", "function"],
)
def test_what_cannot_be_cut_is_left_whole_and_says_why(layer, why):
    found = _analyze(lambda x: _head(_conv(3, "b")(layer(_conv(4, "a")(x)))))
    assert _sizes(found) == {"b": 3}
    assert why in found.skipped["a"] and "'x'" in found.skipped["a"]


def test_layer_norm_is_cut_if_asked():
    def build(x):
        return _head(L.LayerNormalization(name="norm")(_conv(4, "a")(x)))

    found = _analyze(build, cut_layer_norms=True)
    assert _sizes(found) == {"a": 4}
    graph = graph_keras.read(models.randomize(graph_keras.write(found.graph)))
    keep = {"a": np.array([True, False, True, True])}
    found = channels.analyze(graph, cut_layer_norms=True)
    cut, _ = surgery.cut_channels(graph, keep, channels=found)
    assert cut.layers["norm"].weights["gamma"].shape == (3,)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    masked = surgery.mask_channels(graph, keep, channels=found)
    wanted = numpy_executor.execute(masked, [x])
    got = numpy_executor.execute(cut, [x])
    assert surgery.relative_error(wanted, got) < 1e-6
    assert surgery.relative_error(numpy_executor.execute(graph, [x]), got) > 1e-2


def test_group_norm_by_channel_is_cut():
    def build(x):
        return _head(L.GroupNormalization(4, name="norm")(_conv(4, "a")(x)))

    found = _analyze(build)
    assert _sizes(found) == {"a": 4}
    cut, _ = surgery.cut_channels(found.graph, {"a": [1, 0, 1, 0]}, channels=found)
    assert cut.layers["norm"].config["groups"] == 2


def test_channels_first():
    x = tf_keras.Input((3, 8, 8))
    y = L.Conv2D(4, 3, data_format="channels_first", name="a")(x)
    y = L.BatchNormalization(axis=1, name="norm")(y)
    y = L.GlobalAveragePooling2D(data_format="channels_first")(y)
    graph = graph_keras.read(tf_keras.Model(x, L.Dense(2)(y)))
    cut, _ = surgery.cut_channels(graph, {"a": [1, 1, 0, 0]})
    assert cut.layers["norm"].weights["gamma"].shape == (2,)
    assert cut.nodes[2].shapes == ((None, 2, 6, 6),)


def test_ignored_layers_stay_whole():
    found = _analyze(
        lambda x: _head(_conv(5, "b2")(_conv(4, "b1")(_conv(4, "a")(x)))),
        ignore=["b*"],
    )
    assert _sizes(found) == {"a": 4}
    assert found.skipped["b1"] == "ignored as asked"


def test_wrong_keep_is_refused():
    found = _analyze(lambda x: _head(_conv(4, "a")(x)))
    for keep, words in [
        ({"b": [True]}, "Unknown channel group 'b'"),
        ({"a": [True]}, "has 4 channels"),
        ({"a": [False] * 4}, "at least one"),
    ]:
        with pytest.raises(errors.ConfigError, match=words):
            surgery.cut_channels(found.graph, keep, channels=found)


def test_report_has_before_and_after():
    found = _analyze(lambda x: _head(_conv(4, "a")(x)))
    cut, report = surgery.cut_channels(found.graph, {"a": [1, 0, 0, 0]})
    row = report.layers[0]
    assert (row.name, row.shape_before[-1], row.shape_after[-1]) == ("a", 4, 1)
    assert (row.params_before, row.params_after) == (16, 4)
    assert (row.macs_before, row.macs_after) == (64 * 12, 64 * 3)
    assert report.after == count.count(cut)
    lines = str(report).splitlines()
    assert lines[1].split()[:4] == ["a", "4", "->", "1"]
    assert lines[-1] == "skipped: head: is an output of the model"


def test_nested_model_whose_layers_all_feed_outputs():
    graph = graph_keras.read(models.nested(tf_keras))
    # Everything feeds an output; `shared` takes in an input of the model as well.
    found = channels.analyze(graph)
    assert found.groups == ()
    assert "joins it with channels that stay" in " ".join(found.skipped.values())


def test_union_find_by_hand():
    labels = Labels()
    a, b, c = labels.fresh(3), labels.fresh(3), labels.fresh(1)
    labels.unite(a, b, "unused")
    labels.unite(b[1:2], c, "unused")
    assert labels.roots(np.concatenate([b, c])).tolist() == [*a.tolist(), a[1]]
    labels.freeze(c, "first")
    labels.freeze(b[1:2], "second")
    assert labels.reason(a[1]) == "first" and labels.reason(a[0]) is None
    labels.unite(a[2:], np.array([FIXED]), "meets what stays")
    assert labels.frozen().tolist() == [True, *[False, True, True] * 2, True]
    assert labels.reason(b[2]) == "meets what stays"


def test_every_elementwise_function_has_a_rule():
    from tfslim import ops

    without = {op for op in ops.keras("function") if op not in base.RULES}
    assert without == {"matmul"}
