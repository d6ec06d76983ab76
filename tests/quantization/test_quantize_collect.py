import weakref

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import THRESHOLDS
from tfslim.quantization.ranges.collect import collect
from tfslim.quantization.ranges.statistics import Extremes

SHAPE = (1, 12, 12, 3)


class Everything:
    """Keeps a copy of all that it is shown."""

    def __init__(self, tensor):
        self.shape = tensor.shape
        self.values = []

    def update(self, values):
        assert values.shape[1:] == self.shape
        self.values += list(values.copy())


def test_it_sees_what_keras_computes(residual, residual_keras):
    import tf_keras

    xs = small_models.samples(SHAPE, count=4)
    seen, count = collect(residual, xs, statistic=Everything)
    assert count == 4
    names = ["stem", "depthwise", "project", "add", "mean", "logits"]
    outputs = [residual_keras.get_layer(name).output for name in names]
    truth = tf_keras.Model(residual_keras.input, outputs)
    graph = tflite.read(residual).graphs[0]
    written = [graph.tensors[op.outputs[0]].name for op in graph.ops]
    assert seen.keys() == {graph.inputs[0].name, *written}
    for i, x in enumerate(xs):
        for name, value in zip(written, truth(x), strict=True):
            np.testing.assert_allclose(
                seen[name].values[i], value, rtol=1e-5, atol=1e-6
            )


def test_samples_are_never_all_in_memory(residual):
    alive, made = [], []

    class Sample(np.ndarray):
        """An array that can be counted."""

    def stream():
        for x in small_models.samples(SHAPE, count=30):
            alive.append(sum(reference() is not None for reference in made))
            sample = x.view(Sample)
            made.append(weakref.ref(sample))
            yield sample

    collect(residual, stream(), statistic=THRESHOLDS.get("minmax").statistic)
    assert len(alive) == 30
    assert max(alive) <= 2


def test_dicts_and_batches_are_cut_alike(residual):
    xs = small_models.samples(SHAPE, count=6)
    method = THRESHOLDS.get("minmax")
    forms = [
        xs,
        [np.concatenate(xs)],
        [{"image": np.concatenate(xs[3:])}, {"image": np.concatenate(xs[:3])}],
    ]
    found = [collect(residual, form, statistic=method.statistic) for form in forms]
    ranges = [{n: method.choose(s) for n, s in seen.items()} for seen, _ in found]
    assert [count for _, count in found] == [6, 6, 6]
    assert ranges[0] == ranges[1] == ranges[2]


def test_two_inputs_are_matched_by_name():
    from tf_keras import Input, Model, layers

    a, b = Input(4, batch_size=1, name="a"), Input(6, batch_size=1, name="b")
    merged = layers.Concatenate()([layers.Dense(3)(a), b])
    model = small_models.convert(Model([a, b], layers.Dense(2)(merged)))
    rng = np.random.default_rng(0)
    xs = [
        {n: rng.normal(size=(1, k)).astype(np.float32) for n, k in (("b", 6), ("a", 4))}
        for _ in range(10)
    ]
    result = quantize_tflite(model, "int8", samples=xs)
    for x in xs:
        (truth,), (found,) = (tflite.run(m, x).values() for m in (model, result.tflite))
        np.testing.assert_allclose(found, truth, atol=0.1)
    with pytest.raises(errors.ConfigError, match="model has 2 inputs"):
        quantize_tflite(model, "int8", samples=[x["a"]])


def test_minmax_by_hand():
    tensor = tflite.Tensor(0, "t", (3,), (3,), "float32", None, None, False)
    seen = Extremes(tensor)
    assert seen.range == (0.0, 0.0)
    for values in ([1, 5, 2], [-3, 0, 4], [-np.inf, 7, -1], [np.inf] * 3, []):
        seen.update(np.array([values], np.float32))
    assert seen.range == (-3.0, 7.0)
    with pytest.raises(errors.QuantizationError, match="'t' holds a NaN"):
        seen.update(np.array([[1, np.nan, 2]], np.float32))
