"""A detector whose every answer is known: it finds red and blue squares."""

import numpy as np
import pytest

SIZE = 128
LABELS = ("red", "blue")


@pytest.fixture(scope="session")
def square_heads():
    from tfslim.detection import Head

    return (Head(((32.0, 32.0), (300.0, 300.0)), 32, 2),)


@pytest.fixture(scope="session")
def square_keras(square_heads):
    """Sees the mean colour of each cell of 32 pixels, and says what it is.

    The objectness of the first anchor is +8 where a cell is red or blue and -8
    elsewhere, grey included; the second anchor sees nothing. Cells touch: the square
    is where the cell is.
    """
    import tf_keras

    inputs = tf_keras.Input((SIZE, SIZE, 3), name="input")
    x = tf_keras.layers.AveragePooling2D(32, name="mean")(inputs)
    outputs = tf_keras.layers.Conv2D(14, 1, name="head32")(x)
    model = tf_keras.Model(inputs, outputs, name="squares")
    kernel, bias = np.zeros((1, 1, 3, 14)), np.zeros(14)
    kernel[0, 0, :, 4] = [16, -32, 16]
    kernel[0, 0, :, 5], kernel[0, 0, :, 6] = [8, 0, -8], [-8, 0, 8]
    bias[4], bias[11] = -8, -20
    # What is equal everywhere would be one tensor of the file.
    bias[[2, 3, 9, 10]] = 1e-3
    model.set_weights([kernel, bias])
    return model


def draw_squares(width, height, squares):
    """Returns a black RGB image with squares (left, top, side, colour)."""
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, side, colour in squares:
        rgb = {"red": (255, 0, 0), "blue": (0, 0, 255)}[colour]
        image[top : top + side, left : left + side] = rgb
    return image


@pytest.fixture(scope="session")
def square_files(square_keras, square_heads):
    """The detector as `.tflite`: name -> bytes."""
    from tfslim import convert, preprocessing, quantization
    from tfslim.detection.deployment import prepare_deployment
    from tfslim.detection.info import DetectorInfo

    files = {}
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(8):
        places = [(32 * int(x), 32 * int(y)) for x, y in rng.integers(0, 4, (5, 2))]
        squares = [(x, y, 32, LABELS[i % 2]) for i, (x, y) in enumerate(places)]
        samples.append(draw_squares(SIZE, SIZE, squares)[None].astype("float32") / 255)
    for outputs in ("decoded", "raw", "split"):
        done = prepare_deployment(square_keras, square_heads, outputs=outputs)
        info = DetectorInfo(
            preprocessing=preprocessing.preset("unit", (SIZE, SIZE, 3)),
            heads=square_heads,
            outputs=outputs,
            labels=LABELS,
        )
        content = convert.convert_model(done.model, metadata=info.to_metadata()).tflite
        files[outputs] = content
        for io in ("float", "int8", "uint8") if outputs != "raw" else ("float",):
            if outputs == "decoded" and io != "float":
                continue
            files[f"{outputs}_int8_{io}"] = quantization.quantize_tflite(
                content, "int8", samples=samples, layers=done.layers, io=io
            ).tflite
    return files
