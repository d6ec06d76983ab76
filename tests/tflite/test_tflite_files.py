import io
import os
import zipfile
from pathlib import Path

import dense_model
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.tflite import flatbuffer, metadata

X = np.array([[0.5, -1, 2]], np.float32)


def real_files():
    folder = os.environ.get("TFSLIM_DATA")
    if folder is None:
        reason = "needs the files of TFSLIM_DATA"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    paths = sorted(Path(folder, "models", "tflite").glob("*.tflite"))
    return [pytest.param(path, id=path.name) for path in paths]


def test_reads_what_was_written(dense, tmp_path):
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense)
    for model in (tflite.read(dense), tflite.read(path), tflite.read(str(path))):
        assert [op.name for op in model.ops] == ["FULLY_CONNECTED", "TANH"]
        assert model.ops[0].inputs == (0, 1, 2)
        assert model.ops[0].outputs == (3,)
        assert model.input_names == {"features": 0}
        assert model.output_names == {"scores": 4}
        assert model.metadata == {"min_runtime_version": b"1.5.0"}
        assert model.num_bytes == len(dense)
        assert [t.is_constant for t in model.tensors] == [0, 1, 1, 0, 0]
        np.testing.assert_array_equal(model.tensors[1].data, dense_model.WEIGHTS)
        assert model.inputs[0].shape == (1, 3)
        assert model.inputs[0].shape_signature == (-1, 3)
        assert model.is_dynamic
        assert not model.is_quantized
        assert model.graphs[0].producers[4].name == "TANH"
        assert [op.name for op in model.graphs[0].consumers[3]] == ["TANH"]


def test_constants_are_views_on_the_files_bytes(dense):
    own = dense + bytes(16)  # A file that was read before is not read again.
    data = tflite.read(own).tensors[1].data
    assert np.shares_memory(data, np.frombuffer(own, np.uint8))


def test_old_file_has_its_op_code_in_the_deprecated_field(dense_object):
    for code in dense_object.operatorCodes:
        code.builtinCode = 0
    model = tflite.read(dense_model.serialize(dense_object))
    assert [op.name for op in model.ops] == ["FULLY_CONNECTED", "TANH"]


def test_custom_and_flex_ops_have_their_own_names(dense_object):
    code = schema.BuiltinOperator.CUSTOM
    dense_object.operatorCodes[1] = schema.OperatorCodeT(
        builtinCode=code, deprecatedBuiltinCode=code, customCode="FlexErf"
    )
    op = tflite.read(dense_model.serialize(dense_object)).ops[1]
    assert (op.name, op.is_custom, op.is_flex) == ("FlexErf", True, True)


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(4) + b"TFL3"]
)
def test_garbage_is_refused_in_one_line(data):
    with pytest.raises(errors.ConversionError, match="tflite file") as caught:
        tflite.read(data)
    assert "\n" not in str(caught.value)


def test_every_cut_is_refused(dense):
    refused = 0
    for length in range(len(dense)):
        try:
            model = tflite.read(dense[:length])
        except errors.ConversionError:
            refused += 1
        else:  # The last bytes may be padding.
            assert [t.name for t in model.tensors] == [
                t.name for t in tflite.read(dense).tensors
            ]
            assert length > len(dense) - 8
    assert refused >= len(dense) - 8


def test_flipped_bytes_never_raise_anything_else(dense):
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(dense)
        damaged[rng.integers(8, len(dense))] = rng.integers(256)
        try:
            tflite.read(bytes(damaged))
        except errors.ConversionError:
            pass


def test_a_missing_file_is_named():
    with pytest.raises(errors.ConversionError, match="nosuch"):
        tflite.read(Path("nosuch.tflite"))


def test_packing_keeps_all_and_aligns_constants(dense):
    packed = flatbuffer.pack(flatbuffer.unpack(dense))
    assert packed == flatbuffer.pack(flatbuffer.unpack(packed))
    start = np.frombuffer(packed, np.uint8).__array_interface__["data"][0]
    for old, new in zip(
        tflite.read(dense).tensors, tflite.read(packed).tensors, strict=True
    ):
        assert (old.name, old.shape, old.shape_signature, old.dtype) == (
            new.name,
            new.shape,
            new.shape_signature,
            new.dtype,
        )
        if old.is_constant:
            np.testing.assert_array_equal(old.raw, new.raw)
            assert (new.raw.__array_interface__["data"][0] - start) % 16 == 0
    np.testing.assert_array_equal(
        tflite.run(packed, X)["scores"], tflite.run(dense, X)["scores"]
    )


def test_constants_kept_by_offset_are_found(dense_object):
    truth = dense_model.serialize(dense_object)
    weights = dense_object.buffers[1]
    weights.data, weights.offset, weights.size = None, 2**20, 24
    # The number's width does not depend on its value, so the length stays.
    start = -(-len(dense_model.serialize(dense_object)) // 16) * 16
    weights.offset = start
    outside = dense_model.serialize(dense_object).ljust(start, b"\0")
    outside += dense_model.WEIGHTS.tobytes()
    np.testing.assert_array_equal(
        tflite.read(outside).tensors[1].data, dense_model.WEIGHTS
    )
    packed = flatbuffer.pack(flatbuffer.unpack(outside))
    np.testing.assert_array_equal(
        tflite.run(packed, X)["scores"], tflite.run(truth, X)["scores"]
    )
    with pytest.raises(errors.ConversionError, match="cut off"):
        tflite.read(outside[:-1])


def test_metadata_comes_back_and_the_rest_stays(dense):
    value = {"name": "dense", "labels": ["naïve", "b"], "preprocessing": {"scale": 2}}
    tagged = metadata.put_json(dense, value)
    assert metadata.get_json(tagged) == value
    assert metadata.get_json(dense) is None
    assert tflite.read(tagged).metadata["min_runtime_version"] == b"1.5.0"
    again = metadata.put_json(tagged, {"name": "other"})
    assert metadata.get_json(again) == {"name": "other"}
    assert list(tflite.read(again).metadata) == ["min_runtime_version", "tfslim"]
    np.testing.assert_array_equal(
        tflite.run(tagged, X)["scores"], tflite.run(dense, X)["scores"]
    )


def test_metadata_keeps_the_zip_behind_the_file(dense):
    stream = io.BytesIO(dense)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    tagged = metadata.put_json(stream.getvalue(), {"name": "dense"})
    with zipfile.ZipFile(io.BytesIO(tagged)) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    np.testing.assert_allclose(
        tflite.run(tagged, X)["scores"], dense_model.truth(X), rtol=1e-6
    )
    assert tagged == metadata.put_json(stream.getvalue(), {"name": "dense"})


def test_metadata_that_is_not_json_is_refused(dense):
    with pytest.raises(errors.ConversionError, match="not JSON"):
        metadata.get_json(metadata.put(dense, {"tfslim": b"{"}))


@pytest.mark.parametrize("path", real_files())
def test_real_file_opens_and_survives_packing(path):
    data = path.read_bytes()
    model = tflite.read(data)
    runner = tflite.Runner(data)
    for tensor in model.inputs + model.outputs:
        details = runner.interpreter._get_tensor_details(tensor.index, 0)
        assert details["name"] == tensor.name
        assert tuple(details["shape"]) == tensor.shape
        assert np.dtype(details["dtype"]) == np.dtype(tensor.dtype)
        scales = details["quantization_parameters"]["scales"]
        own = [] if tensor.quantization is None else tensor.quantization.scale
        np.testing.assert_array_equal(scales, own)
    nodes = runner.interpreter._get_ops_details()
    assert [op.name for op in model.ops] == [
        node["op_name"] for node in nodes if node["op_name"] != "DELEGATE"
    ]
    if path.name.startswith("edsr"):
        return  # A 1080p image: seconds a run.
    packed = metadata.put_json(data, {"name": path.stem})
    assert flatbuffer.attached_files(packed) == flatbuffer.attached_files(data)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(0, 256, model.tensors[index].shape).astype(
            model.tensors[index].dtype
        )
        for name, index in model.input_names.items()
    }
    before, after = runner(inputs), tflite.run(packed, inputs)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_a_constant_that_is_too_short_is_damage(dense):
    flat = flatbuffer.unpack(dense)
    tensor = next(
        t for t in flat.subgraphs[0].tensors if flat.buffers[t.buffer].data is not None
    )
    tensor.shape = [*tensor.shape[:-1], int(tensor.shape[-1]) + 1]
    broken = flatbuffer.pack(flat)
    with pytest.raises(errors.ConversionError, match=r"Damaged .* a constant of shape"):
        tflite.read(broken)


def test_bytes_behind_a_constant_are_passed_over(dense):
    """As the runtime does."""
    flat = flatbuffer.unpack(dense)
    place = tflite.read(dense).ops[0].inputs[1]
    buffer = flat.buffers[flat.subgraphs[0].tensors[place].buffer]
    buffer.data = np.concatenate([buffer.data, np.zeros(16, np.uint8)])
    padded = flatbuffer.pack(flat)
    assert len(padded) > len(dense)
    truth = tflite.read(dense).tensors[place].data
    np.testing.assert_array_equal(tflite.read(padded).tensors[place].data, truth)
    tflite.Runner(padded)
