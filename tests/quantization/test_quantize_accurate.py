"""The whole sequence: each step is used only where it helps."""

import pytest
import small_models
from test_quantize_equalize import chain

from tfslim import errors, quantize_tflite
from tfslim.quantization import (
    Options,
    judge,
    quantize_accurately,
    read_ranges,
    write_ranges,
)

SHAPE = (1, 16, 16, 3)


def images(count=40, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


@pytest.fixture(scope="module")
def wounded():
    return chain(wound=100.0)


def quality(model, file, xs):
    return judge.Judge(model, xs).measure(file)[0]


def test_a_wounded_model_is_equalized_and_never_worse(wounded):
    xs, held_out = images(), images(seed=1)
    done = quantize_accurately(
        wounded, samples=xs, options=Options(calibration="minmax")
    )
    plain = quantize_tflite(wounded, "int8", samples=xs).tflite
    assert "equalized" in done.taken
    assert done.steps["equalized"] > done.steps["plain"] + 10
    assert done.quantized.calibration.equalized
    gain = quality(wounded, done.quantized.tflite, held_out)
    assert gain > quality(wounded, plain, held_out) + 10


def test_the_steps_are_what_the_files_measure(mobile):
    xs = images()
    options = Options(
        calibration="minmax", equalize=False, rounding="nearest", bias_correction="none"
    )
    done = quantize_accurately(mobile, samples=xs, options=options)
    assert done.quantized.tflite == quantize_tflite(mobile, "int8", samples=xs).tflite
    assert done.taken == ()
    assert done.steps == {
        "plain": pytest.approx(quality(mobile, done.quantized.tflite, xs[1::2]))
    }


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_io_is_the_same_file_at_the_ends(wounded, io):
    from tfslim import verify

    xs = images()
    by_float, by_integer = (
        quantize_accurately(
            wounded, samples=xs, options=Options(calibration="minmax", io=kind)
        )
        for kind in ("float", io)
    )
    assert by_float.taken == by_integer.taken
    for x in xs[:5]:
        (a,), (b,) = (
            verify.Predictor(done.quantized.tflite)(x)
            for done in (by_float, by_integer)
        )
        assert abs(a - b).max() < 1e-4 * abs(a).max()


def test_ranges_of_an_equalized_model_are_used_on_one(wounded, tmp_path):
    xs = images()
    options = Options(calibration="kl")
    first = quantize_accurately(wounded, samples=xs, options=options)
    path = tmp_path / "ranges.json"
    write_ranges(path, first.quantized.calibration, wounded)
    again = quantize_accurately(
        wounded, samples=xs, options=options, ranges=read_ranges(path)
    )
    assert again.quantized.tflite == first.quantized.tflite
    with pytest.raises(errors.ConfigError, match="equalized model: give the same"):
        quantize_accurately(wounded, ranges=read_ranges(path))


def test_other_recipes_go_through(mobile):
    done = quantize_accurately(mobile, "dynamic_int8")
    assert done.quantized.tflite == quantize_tflite(mobile, "dynamic_int8").tflite
    assert done.steps == {}


def test_what_is_typed_wrong_is_one_line(mobile):
    with pytest.raises(errors.ConfigError, match="not a generator"):
        quantize_accurately(mobile, samples=iter(images()))
    with pytest.raises(errors.ConfigError, match="Did you mean 'fast'"):
        Options(bias_correction="fats")
