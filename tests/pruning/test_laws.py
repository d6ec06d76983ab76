"""The law of pruning on random graphs: cut equals masked.

A second implementation checks both sides: `tests/numpy_executor.py`, and on some
graphs Keras itself.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import numpy_executor
from tests.graph import models
from tests.pruning import random_models
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels, surgery

_SETTINGS = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def draw_keep(data, found):
    """Draws for every group which channels stay, at least one of each."""
    keep = {}
    for group in found.groups:
        kept = data.draw(
            st.lists(st.booleans(), min_size=len(group), max_size=len(group))
        )
        if not any(kept):
            kept[0] = True
        keep[group.name] = np.array(kept)
    return keep


def _law_on_numpy(data):
    model = models.randomize(random_models.draw_model(data, tf_keras))
    graph = graph_keras.read(model)
    found = channels.analyze(graph, cut_layer_norms=data.draw(st.booleans()))
    keep = draw_keep(data, found)
    cut, report = surgery.cut_channels(graph, keep, channels=found)
    masked = surgery.mask_channels(graph, keep, channels=found)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    wanted = numpy_executor.execute(masked, [x])
    got = numpy_executor.execute(cut, [x])
    # Constants of the reference, the epsilon of layer norms among them, are float32.
    exact = all(layer.op != "LayerNormalization" for layer in graph.layers.values())
    assert surgery.relative_error(wanted, got) < (1e-9 if exact else 1e-5)
    removed = sum(int((~kept).sum()) for kept in keep.values())
    assert (report.after.params < report.before.params) == (removed > 0)


@settings(_SETTINGS, max_examples=60)
@given(st.data())
def test_cut_equals_masked_on_the_numpy_executor(data):
    _law_on_numpy(data)


@pytest.mark.slow
@settings(_SETTINGS, max_examples=500)
@given(st.data())
def test_cut_equals_masked_on_many_more(data):
    _law_on_numpy(data)


@settings(_SETTINGS, max_examples=10)
@given(st.data())
@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_cut_equals_masked_in_keras(k, data):
    model = models.randomize(random_models.draw_model(data, k))
    graph = graph_keras.read(model)
    found = channels.analyze(graph)
    assume(found.groups)
    keep = draw_keep(data, found)
    cut, _ = surgery.cut_channels(graph, keep, channels=found)
    masked = surgery.mask_channels(graph, keep, channels=found)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    written = graph_keras.write(cut, k.__name__)
    wanted = models.outputs(graph_keras.write(masked, k.__name__), x)
    assert surgery.relative_error(wanted, models.outputs(written, x)) < 1e-5
    # What Keras infers on rebuilding is what the surgery promised.
    assert graph_keras.read(written).nodes[-1].shapes == cut.nodes[-1].shapes
    assert written.count_params() == surgery.count.count(cut).params
