"""TFLITE_METADATA, read by MediaPipe's own reader where it is here."""

import json
import subprocess
import zipfile
from io import BytesIO

import numpy as np
import pytest

from tfslim import errors, tflite
from tfslim.consumers import base
from tfslim.tflite import flatbuffer, metadata, standard_metadata
from tfslim.tflite.standard_metadata import ImageModel

ABOUT = ImageModel(
    name="little",
    version="3",
    author="nobody",
    description="Tells shapes.",
    mean=(127.5,),
    std=(63.75,),
    labels=("round", "flat", "süß"),
    outputs=("scores",),
)

_OFFICIAL = """
import json, sys
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
block = open(sys.argv[1], "rb").read()
assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(block, 0)
about = schema.ModelMetadataT.InitFromObj(
    schema.ModelMetadata.GetRootAsModelMetadata(block, 0))
graph = about.subgraphMetadata[0]
image, scores = graph.inputTensorMetadata[0], graph.outputTensorMetadata[0]
size = image.content.contentProperties.defaultSize
print(json.dumps({
    "texts": [t.decode() for t in (about.name, about.version, about.author,
        about.description, about.minParserVersion, image.name, scores.name)],
    "color": image.content.contentProperties.colorSpace,
    "size": [size.width, size.height],
    "mean": image.processUnits[0].options.mean.tolist(),
    "std": image.processUnits[0].options.std.tolist(),
    "range": [image.stats.min.tolist(), image.stats.max.tolist()],
    "file": [scores.associatedFiles[0].name.decode(), scores.associatedFiles[0].type],
}))
"""


@pytest.fixture(scope="module")
def pictures():
    """A file that takes one picture of 6x4 pixels and gives three scores."""
    import tf_keras

    import tfslim

    layers = tf_keras.layers
    x = inputs = tf_keras.Input((4, 6, 3), batch_size=1, name="image")
    outputs = layers.Dense(3, name="scores")(layers.Flatten()(x))
    return tfslim.convert_model(tf_keras.Model(inputs, outputs)).tflite


def test_what_is_written_is_read(pictures):
    tagged = standard_metadata.put(pictures, ABOUT)
    assert standard_metadata.get(tagged) == ABOUT
    assert standard_metadata.get(pictures) is None
    with zipfile.ZipFile(BytesIO(tagged)) as archive:
        assert archive.read("labels.txt").decode().split("\n")[:3] == [*ABOUT.labels]
        # An app maps the file into memory.
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
    x = np.ones((1, 4, 6, 3), np.float32)
    for before, after in zip(
        tflite.run(pictures, x).values(), tflite.run(tagged, x).values(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_writing_again_replaces_all(pictures):
    first = standard_metadata.put(pictures, ABOUT)
    other = ImageModel(name="other", mean=(0.0,), std=(1.0,), outputs=("scores",))
    again = standard_metadata.put(first, other)
    assert standard_metadata.get(again) == other
    assert not flatbuffer.attached_files(again)
    assert first == standard_metadata.put(again, ABOUT)


def test_mediapipes_own_schema_reads_the_same(pictures, tmp_path):
    python = base.folder("mediapipe") / "bin" / "python"
    if not python.exists():
        pytest.skip("MediaPipe is not here: tfslim consumers --setup=all")
    tagged = standard_metadata.put(pictures, ABOUT)
    block = tmp_path / "block"
    block.write_bytes(tflite.read(tagged).metadata["TFLITE_METADATA"])
    done = subprocess.run(
        [str(python), "-c", _OFFICIAL, str(block)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "texts": ["little", "3", "nobody", "Tells shapes.", "1.0.0", "image", "scores"],
        "color": 1,
        "size": [6, 4],
        "mean": [127.5],
        "std": [63.75],
        "range": [[-2.0], [2.0]],
        "file": ["labels.txt", 2],
    }


def test_labels_are_one_line_each(pictures):
    odd = ImageModel(labels=("two\nlines", "", "x"), outputs=("scores",))
    tagged = standard_metadata.put(pictures, odd)
    assert standard_metadata.get(tagged).labels == ("two lines", "?", "x")


def test_a_file_without_a_picture_is_refused(dense):
    with pytest.raises(errors.ConversionError, match="image model"):
        standard_metadata.put(dense, ABOUT)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_blocks_are_one_error(pictures, seed):
    tagged = standard_metadata.put(pictures, ABOUT)
    block = bytearray(tflite.read(tagged).metadata["TFLITE_METADATA"])
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(block), 6):
        block[place] = random.integers(0, 256)
    damaged = metadata.put(pictures, {"TFLITE_METADATA": bytes(block)})
    try:
        standard_metadata.get(damaged)
    except errors.ConversionError as error:
        assert "\n" not in str(error)
