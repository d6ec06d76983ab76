import dense_model
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.tflite import delegate

X = np.array([[0.5, -1, 2]], np.float32)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("preserve", [True, False])
def test_runs_by_array_and_by_name(dense, xnnpack, preserve):
    runner = tflite.Runner(dense, xnnpack=xnnpack, preserve_all_tensors=preserve)
    for inputs in (X, {"features": X}):
        np.testing.assert_allclose(
            runner(inputs)["scores"], dense_model.truth(X), rtol=1e-6
        )


def test_an_open_dimension_takes_the_arrays_size(dense):
    batch = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    runner = tflite.Runner(dense)
    np.testing.assert_allclose(
        runner(batch)["scores"], dense_model.truth(batch), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(runner(X)["scores"], dense_model.truth(X), rtol=1e-6)


def test_a_run_of_many_takes_them_row_by_row(dense):
    batch = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    runner = tflite.Runner(dense)
    runner.set_batch(3)
    for row in range(3):
        runner.set_inputs(batch[row : row + 1], row)
    runner.invoke()
    found = runner.interpreter.get_tensor(runner.model.output_names["scores"])
    truth = dense_model.truth(batch)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)
    with pytest.raises(errors.ConfigError, match=r"\[3, 3\]; the model takes \[1, 3\]"):
        runner.set_inputs(batch)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X.astype(np.int8), "int8; the model takes float32"),
        (X[:, :2], r"\[1, 2\]; the model takes \[\?, 3\]"),
        (X[0], r"\[3\]; the model takes"),
        ({"x": X}, "named x; the model's are features"),
        ({}, "model's are features"),
    ],
)
def test_a_wrong_input_is_named(dense, inputs, message):
    with pytest.raises(errors.ConfigError, match=message):
        tflite.run(dense, inputs)


def test_the_runtimes_refusal_is_one_line(dense_object):
    code = schema.BuiltinOperator.CUSTOM
    dense_object.operatorCodes[1] = schema.OperatorCodeT(
        builtinCode=code, deprecatedBuiltinCode=code, customCode="MyOp"
    )
    with pytest.raises(errors.ConversionError, match="MyOp") as caught:
        tflite.Runner(dense_model.serialize(dense_object))
    assert "\n" not in str(caught.value)


def test_single_ops_in_a_row_are_the_model(dense):
    model = tflite.read(dense)
    values = {"x": X}
    for op in model.ops:
        piece = tflite.single_op(dense, op.index)
        content = tflite.read(piece)
        assert [o.name for o in content.ops] == [op.name]
        assert content.input_names.keys() <= values.keys()
        values |= tflite.run(piece, {n: values[n] for n in content.input_names})
    np.testing.assert_allclose(values["y"], dense_model.truth(X), rtol=1e-6)


def test_there_is_no_op_to_cut(dense):
    with pytest.raises(errors.ConfigError, match="no op 2: graph 0 has 2"):
        tflite.single_op(dense, 2)
    with pytest.raises(errors.ConfigError, match="no graph 1"):
        tflite.single_op(dense, 0, graph=1)


def test_coverage_names_what_xnnpack_leaves(dense_object):
    whole = tflite.coverage(dense_model.serialize(dense_object))
    assert (whole.num_ops, whole.num_delegated, whole.num_partitions) == (2, 2, 1)
    assert whole.is_whole

    # XNNPACK has no LOG_SOFTMAX: between two ops that it has, it splits the graph.
    graph = dense_object.subgraphs[0]
    code = schema.BuiltinOperator.LOG_SOFTMAX
    dense_object.operatorCodes.append(
        schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
    )
    graph.tensors.insert(5, schema.TensorT(name="log", shape=[1, 2], type=0))
    graph.operators.insert(1, schema.OperatorT(opcodeIndex=2, inputs=[3], outputs=[5]))
    graph.operators[2].inputs = [5]
    split = tflite.coverage(dense_model.serialize(dense_object))
    assert [op.name for op in split.outside] == ["LOG_SOFTMAX"]
    assert (split.num_delegated, split.num_partitions) == (2, 2)
    assert not split.is_whole


def test_coverage_counts_nothing_without_the_delegate(dense):
    coverage = tflite.coverage(tflite.Runner(dense, xnnpack=False))
    assert (coverage.num_delegated, coverage.num_partitions) == (0, 0)
    assert delegate.count_names(coverage.outside) == {"FULLY_CONNECTED": 1, "TANH": 1}
