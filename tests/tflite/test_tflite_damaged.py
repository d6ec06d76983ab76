"""Damaged files: refused in one line, and never the end of the process."""

import signal
import subprocess
import sys

import dense_model
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.tflite import arity, flatbuffer, trial

X = np.array([[0.5, -1, 2]], np.float32)
CODES = schema.BuiltinOperator


def _tensor(shape, dtype="FLOAT32", *, buffer=0, scale=None, zero=0, axis=0):
    params = None
    if scale is not None:
        scale = np.atleast_1d(np.asarray(scale, np.float32))
        params = schema.QuantizationParametersT(
            scale=scale,
            zeroPoint=np.atleast_1d(np.asarray(zero, np.int64)),
            quantizedDimension=axis,
        )
    return schema.TensorT(
        name="t",
        shape=list(shape),
        type=getattr(schema.TensorType, dtype),
        buffer=buffer,
        quantization=params,
    )


def _file(
    name, options, tensors, inputs, outputs, *, constants=(), graphs=1, ends=None
):
    """A file of one op; `constants` are the buffers from number 1 on."""
    kind = type(options).__name__.removesuffix("T") if options else "NONE"
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=[0],
        outputs=list(outputs if ends is None else ends),
        operators=[
            schema.OperatorT(
                opcodeIndex=0,
                inputs=list(inputs),
                outputs=list(outputs),
                builtinOptionsType=getattr(schema.BuiltinOptions, kind),
                builtinOptions=options,
            )
        ],
    )
    code = getattr(CODES, name)
    codes = [
        schema.OperatorCodeT(
            builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1
        )
    ]
    buffers = [schema.BufferT()]
    buffers += [schema.BufferT(data=np.frombuffer(c, np.uint8)) for c in constants]
    return dense_model.serialize(
        schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph] * graphs, buffers=buffers
        )
    )


def _pool(**changes):
    fields = {"strideH": 1, "strideW": 1, "filterHeight": 2, "filterWidth": 2}
    options = schema.Pool2DOptionsT(**(fields | changes))
    tensors = [_tensor((1, 4, 4, 1)), _tensor((1, 3, 3, 1))]
    return _file("MAX_POOL_2D", options, tensors, [0], [1])


def _split(numSplits=2, outputs=(2, 3)):
    return _file(
        "SPLIT",
        schema.SplitOptionsT(numSplits=numSplits),
        [
            _tensor((1, 4)),
            _tensor((), "INT32", buffer=1),
            _tensor((1, 2)),
            _tensor((1, 2)),
        ],
        [1, 0],
        outputs,
        constants=[np.int32(1).tobytes()],
    )


def _quantized(scale=0.1, zero=0, axis=0, dtype="INT8"):
    tensor = _tensor((1, 4), dtype, scale=scale, zero=zero, axis=axis)
    return _file("RELU", None, [tensor, tensor], [0], [1])


def _weights(**params):
    """INT8 weights of a Dense layer in float, as dynamic quantization has them."""
    tensors = [
        _tensor((1, 4)),
        _tensor((3, 4), "INT8", buffer=1, **params),
        _tensor((1, 3)),
    ]
    options = schema.FullyConnectedOptionsT()
    return _file(
        "FULLY_CONNECTED", options, tensors, [0, 1], [2], constants=[bytes(12)]
    )


def _flow(body, count=2):
    options = schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=body)
    return _file(
        "WHILE", options, [_tensor((1,)), _tensor((1,))], [0], [1], graphs=count
    )


DAMAGED = {
    "stride 0": (_pool(strideH=0), "strideH 0"),
    "stride -1": (_pool(strideW=-1), "strideW -1"),
    "filter 0": (_pool(filterHeight=0), "filterHeight 0"),
    "0 splits": (_split(0), "numSplits 0"),
    "3 splits in 2": (_split(3), "2 outputs; it gives 3"),
    "outputs missing": (_split(2, (2,)), "1 outputs; it gives 2"),
    "scale 0": (_quantized(0.0), "scale 0"),
    "scale below 0": (_quantized(-0.1), "scale -0.1"),
    "scale NaN": (_quantized(np.nan), "scale nan"),
    "scale Inf": (_quantized(np.inf), "scale inf"),
    "zero point": (_quantized(zero=300), "zero point out of the range"),
    "axis": (_quantized([0.1, 0.2, 0.3, 0.4], axis=4), "along axis 4"),
    "axis below 0": (_quantized([0.1, 0.2], axis=-1), "along axis -1"),
    "zero points": (_weights(scale=[0.1] * 3, zero=[0, 0]), "3 scales and 2 zero"),
    "scales of weights": (_weights(scale=[0.1] * 2), "2 scales along axis 0"),
    "a constant that is short": (
        _file(
            "ADD",
            schema.AddOptionsT(),
            [_tensor((4,)), _tensor((4,), buffer=1), _tensor((4,))],
            [0, 1],
            [2],
            constants=[bytes(12)],
        ),
        "12 bytes, not 16",
    ),
    "an output that is a constant": (
        _file(
            "RELU",
            None,
            [_tensor((4,)), _tensor((4,), buffer=1)],
            [0],
            [1],
            constants=[bytes(16)],
        ),
        "writes to 1 't', a constant",
    ),
    "floats into integers": (
        _file(
            "SOFTMAX",
            schema.SoftmaxOptionsT(),
            [_tensor((1, 4)), _tensor((1, 4), "INT8", scale=1 / 256)],
            [0],
            [1],
        ),
        "mixes floats and integers",
    ),
    "an op that reads itself": (
        _file("ADD", None, [_tensor((4,)), _tensor((4,))], [0, 1], [1]),
        "which nothing wrote",
    ),
    "an output that nothing writes": (
        _file("RELU", None, [_tensor((4,))] * 3, [0], [1], ends=[2]),
        "nothing writes the output 2",
    ),
    "a size below 0": (
        _file("RELU", None, [_tensor((1, -7)), _tensor((1, -7))], [0], [1]),
        r"shape \[1, -7\]",
    ),
    "a graph that is not there": (_flow(5), "graph 5 is named"),
    "a graph that runs itself": (_flow(0), "runs itself"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_seen_without_the_runtime(name):
    data, message = DAMAGED[name]
    with pytest.raises(errors.ConversionError, match=message) as caught:
        tflite.read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [_pool(), _split(), _quantized(), _weights(scale=[0.1] * 3, zero=[0] * 3)]
)
def test_the_same_files_whole_are_read_and_run(data):
    runner = tflite.Runner(data)
    for index, details in runner._inputs.items():
        zeros = np.zeros(details["shape"], details["dtype"])
        runner.interpreter.set_tensor(index, zeros)
    runner.invoke()


def test_arity_by_hand():
    dense = schema.FullyConnectedOptionsT()
    for inputs in ((0, 1, 2), (0, 1, -1), (0, 1)):
        assert arity.fault("FULLY_CONNECTED", inputs, outputs=(3,), options=dense) == ""
    for inputs, fault in (((0,), "1 inputs; it takes 2 to 3"), ((0, -1), "no input 1")):
        assert fault in arity.fault(
            "FULLY_CONNECTED", inputs, outputs=(3,), options=dense
        )
    assert "strideH None" in arity.fault("CONV_2D", (0, 1), outputs=(2,), options=None)
    assert arity.fault("AN_OP_OF_MINE", (), outputs=(), options=None) == ""


def _changed(dense, change):
    flat = flatbuffer.unpack(dense)
    change(flat)
    flat.source = None
    return dense_model.serialize(flat)


def _dangling_signature(flat):
    flat.signatureDefs[0].inputs[0].tensorIndex = 99


def _dangling_graph(flat):
    flat.signatureDefs[0].subgraphIndex = 3


def _dangling_metadata(flat):
    flat.metadata[0].buffer = 77


def _dangling_output(flat):
    flat.subgraphs[0].outputs = [-1]


def _dangling_code(flat):
    flat.subgraphs[0].operators[0].opcodeIndex = 9


@pytest.mark.parametrize(
    "change",
    [
        _dangling_signature,
        _dangling_graph,
        _dangling_metadata,
        _dangling_output,
        _dangling_code,
    ],
)
def test_numbers_that_point_nowhere_are_refused(dense, change):
    with pytest.raises(errors.ConversionError, match="is named, but there are"):
        tflite.read(_changed(dense, change))


def test_names_that_are_no_text_are_only_labels(dense):
    def rename(flat):
        for tensor in flat.subgraphs[0].tensors:
            tensor.name = b"\xe9" + tensor.name
        flat.signatureDefs[0].inputs[0].name = b"\xff"

    odd = _changed(dense, rename)
    model = tflite.read(odd)
    assert model.has_odd_names and model.tensors[1].name == "\\xe9weights"
    found = tflite.run(odd, {"\\xff": X})
    np.testing.assert_allclose(found["scores"], dense_model.truth(X), rtol=1e-6)
    # What is written again keeps them as they were.
    again = flatbuffer.pack(flatbuffer.unpack(odd))
    assert b"\xe9weights" in again


def _sparse(dimensions, values=4):
    metadata = [schema.DimensionMetadataT(format=0, denseSize=2)]
    metadata.append(
        schema.DimensionMetadataT(
            format=schema.DimensionType.SPARSE_CSR,
            arraySegmentsType=schema.SparseIndexVector.Int32Vector,
            arraySegments=schema.Int32VectorT(values=np.array(dimensions[0], np.int32)),
            arrayIndicesType=schema.SparseIndexVector.Int32Vector,
            arrayIndices=schema.Int32VectorT(values=np.array(dimensions[1], np.int32)),
        )
    )
    sparse = _tensor((2, 4), buffer=1)
    sparse.sparsity = schema.SparsityParametersT(
        traversalOrder=[0, 1], dimMetadata=metadata
    )
    stored = np.arange(1, values + 1, dtype=np.float32).tobytes()
    return _file(
        "ADD",
        schema.AddOptionsT(),
        [_tensor((2, 4)), sparse, _tensor((2, 4))],
        [0, 1],
        [2],
        constants=[stored],
    )


def test_a_sparse_constant_is_unpacked():
    data = tflite.read(_sparse(([0, 1, 4], [3, 0, 1, 2]))).tensors[1].data
    np.testing.assert_array_equal(data, [[0, 0, 0, 1], [2, 3, 4, 0]])


@pytest.mark.parametrize(
    "dimensions",
    [
        ([0, 1], [3, 0, 1, 2]),
        ([0, 1, 2**30], [3, 0, 1, 2]),
        ([0, 4, 1], [3, 0, 1, 2]),
        ([0, 1, 4], [3, 0, 1, 9]),
        ([0, 1, 4], [3, 0, 1, -1]),
        ([0, 1, 3], [3, 0, 1]),
    ],
)
def test_a_damaged_sparse_constant_is_refused(dimensions):
    tensor = tflite.read(_sparse(dimensions)).tensors[1]
    with pytest.raises(errors.ConversionError, match="sparse constant"):
        _ = tensor.data


def test_a_list_of_one_table_many_times_is_refused(dense):
    """Its entries would fill any memory, though the file is small."""
    flat = flatbuffer.unpack(dense)
    graph = flat.subgraphs[0]
    builder = dense_model.flatbuffers.Builder(1024)
    tensor = graph.tensors[0].Pack(builder)
    schema.SubGraphStartTensorsVector(builder, 5000)
    for _ in range(5000):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    packed = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 5000)
    for _ in range(5000):
        builder.PrependUOffsetTRelative(packed)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    with pytest.raises(errors.ConversionError, match="it lists"):
        tflite.read(bytes(builder.Output()))


def _child(tmp_path, monkeypatch, code):
    """Puts another program in the place of the child; returns an unknown file."""
    path = tmp_path / "child.py"
    path.write_text(f"import os, signal, sys, time\nsys.stdin.buffer.read()\n{code}")
    monkeypatch.setattr(trial, "_CHILD", path)
    monkeypatch.setattr(trial, "_known", {})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGFPE)", "ends the process with signal SIGFPE"),
        (
            "os.write(2, b'free(): x\\x1b'); os.abort()",
            r"SIGABRT.*free\(\): x\\x1b",
        ),
        ("sys.exit(7)", "ends the process with exit code 7"),
        ("sys.exit(3)", "more memory than this machine has"),
        ("time.sleep(60)", "finds no end on it within .* 1 s"),
    ],
)
def test_how_a_child_ends_is_said(dense, tmp_path, monkeypatch, code, message):
    _child(tmp_path, monkeypatch, code)
    monkeypatch.setattr(trial, "_MAX_SECONDS", 1)
    for _ in range(2):  # The second time without a child.
        with pytest.raises(errors.ConversionError, match=message) as caught:
            tflite.Runner(dense)
    assert "\n" not in str(caught.value)
    path = tmp_path / "bad.tflite"
    path.write_bytes(dense)
    with pytest.raises(errors.ConversionError, match=r"bad\.tflite': .*damaged"):
        tflite.open_file(path)


def test_only_strangers_need_a_child(dense, monkeypatch):
    started = []
    real = trial._run

    def run(*arguments):
        started.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_run", run)
    tflite.Runner(dense)
    tflite.Runner(dense, preserve_all_tensors=True)
    assert len(started) == 1
    # What is made of a known file is known; a changed copy from elsewhere is not.
    tflite.Runner(flatbuffer.pack(flatbuffer.unpack(dense)))
    tflite.Runner(tflite.single_op(dense, 0))
    assert len(started) == 1

    def stretch(flat):
        flat.subgraphs[0].tensors[0].name = b"another"

    tflite.Runner(_changed(dense, stretch))
    assert len(started) == 2


def test_a_file_that_kills_the_runtime_is_refused():
    """A depthwise convolution without a bias: litert 2.3 reads at address 0."""
    options = schema.DepthwiseConv2DOptionsT(strideH=1, strideW=1, depthMultiplier=1)
    data = _file(
        "DEPTHWISE_CONV_2D",
        options,
        [_tensor((1, 8, 8, 4)), _tensor((1, 3, 3, 4), buffer=1), _tensor((1, 8, 8, 4))],
        [0, 1],
        [2],
        constants=[np.ones((1, 3, 3, 4), np.float32).tobytes()],
    )
    alone = """if True:
        import sys
        from ai_edge_litert import interpreter
        way = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        found = interpreter.Interpreter(
            model_content=sys.stdin.buffer.read(), experimental_op_resolver_type=way)
        found.allocate_tensors()
        found.invoke()
    """
    done = subprocess.run([sys.executable, "-c", alone], input=data, check=False)
    if done.returncode >= 0:
        pytest.skip("this runtime survives the file")
    ending = signal.Signals(-done.returncode).name
    with pytest.raises(errors.ConversionError, match=f"ends the process.*{ending}"):
        tflite.Runner(data)


def test_bytes_that_do_not_fill_a_number_are_passed_over(dense):
    def lengthen(flat):
        flat.buffers[1].data = np.concatenate([flat.buffers[1].data, [1, 2, 3]])
        flat.buffers[1].data = flat.buffers[1].data.astype(np.uint8)

    found = tflite.read(_changed(dense, lengthen)).tensors[1].data
    np.testing.assert_array_equal(found, dense_model.WEIGHTS)
