"""`tfslim prune` opens a model, cuts it and writes it, with what it cut."""

import keras
import numpy as np
import pytest

from tfslim import commands


@pytest.fixture
def file(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(32, 3, activation="relu", name="conv")(x)
    outputs = keras.layers.Dense(10, name="end")(keras.layers.Flatten()(x))
    keras.Model(inputs, outputs).save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def _prune(*arguments):
    return commands.main(["tfslim", "prune", *map(str, arguments)])


def test_the_least_channels_go(file, capsys):
    assert _prune(file, "--ratio=0.5") == 0
    said = capsys.readouterr().out
    assert "32 -> 16" in said and "mine_pruned.keras is written" in said
    assert "Proof: cut equals masked" in said
    before = keras.models.load_model(file)
    after = keras.models.load_model(file.with_name("mine_pruned.keras"))
    kernel = before.get_layer("conv").get_weights()[0]
    norms = np.abs(kernel).sum(axis=(0, 1, 2))
    kept = np.sort(np.argsort(norms)[16:])
    np.testing.assert_array_equal(
        after.get_layer("conv").get_weights()[0], kernel[..., kept]
    )


def test_it_is_trained_on_where_there_is_data(file, tmp_path, capsys):
    out = tmp_path / "small.keras"
    flags = "--data=digits", "--max-macs=6000", "--divisor=1", "--epochs=1"
    assert _prune(*flags, f"--out={out}", file) == 0
    said = capsys.readouterr().out
    assert "Fine-tuning: 1 epochs" in said and "accuracy" in said
    model = keras.models.load_model(out)
    # A channel costs 6 * 6 positions of 9 weights and of 10 outputs.
    assert model.get_layer("conv").filters == 6000 // (36 * 9 + 36 * 10)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "No model is given"),
        ("mine.keras", "needs ratio"),
        ("mine.keras --ratio=1.5", "ratio must be in [0, 1), got 1.5"),
        ("mine.keras --ratio=0.5 --criterion=l1norm", "Did you mean 'l1_norm'?"),
        ("mine.keras --ratio=0.5 --scope=golbal", "Did you mean 'global'?"),
        ("mine.keras --ratio=0.5 --out=mine.keras", "--overwrite"),
        ("mine.keras --ratio=0.5 --out=mine.h5", "must end with .keras"),
        ("mine.kera --ratio=0.5", "mine.kera"),
        ("mine.keras --rato=0.5", "Did you mean '--ratio'?"),
    ],
)
def test_wrong_usage(file, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(file.parent)
    assert _prune(*flags.split()) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in file.parent.iterdir()] == ["mine.keras"]
