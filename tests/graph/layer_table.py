"""A row for every layer of both Keras: how to make it, and what to call it on.

A layer that stands in no row needs a reason in `NO_ROW`; a test sees to that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer with some options.

    Attributes:
        layer: name of the class.
        make: from the Keras package to the layer.
        inputs: shapes without the batch, for each input of the layer.
        kind: what the inputs hold: "float", "image" (0 to 255), "index", "text",
            "zeros" (floats, the second half of the steps zero).
        call: from layer and inputs to the output; None: the layer on its input, or on
            the list of its inputs.
        only: the one Keras this row is for.
        refused: a part of the reason why the other Keras cannot have it.
        unreadable: a part of the reason why not even its own Keras rebuilds it.
        slow: takes a second or more.
    """

    layer: str
    make: Callable[[Any], Any]
    inputs: tuple[tuple[int, ...], ...] = ((6, 6, 4),)
    kind: str = "float"
    call: Callable[[Any, Any], Any] | None = None
    only: str | None = None
    refused: str | None = None
    unreadable: str | None = None
    slow: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.layer}-{self.label}" if self.label else self.layer


IMAGE, LINE, CUBE, FLAT = (6, 6, 4), (6, 4), (4, 4, 4, 4), (4,)
_BY_RANK = {1: LINE, 2: IMAGE, 3: CUBE}


def _row(layer: str, *shapes: tuple[int, ...], label: str = "", **options: Any) -> Row:
    fields = {f.name for f in dataclasses.fields(Row)}
    row = {key: options.pop(key) for key in list(options) if key in fields}
    return Row(
        layer,
        lambda k: getattr(k.layers, layer)(**options),
        shapes or (IMAGE,),
        label=label,
        **row,
    )


def _ranked(name: str, **options: Any) -> list[Row]:
    return [_row(f"{name}{n}D", shape, **options) for n, shape in _BY_RANK.items()]


def _holding(layer: str, shape: tuple[int, ...], make: Any, **fields: Any) -> Row:
    return Row(layer, make, (shape,), **fields)


_TEXT = ["red green", "blue", "red red", "none of them"]


ROWS: list[Row] = [
    # Plain.
    _row("Dense", FLAT, units=5, activation="gelu"),
    _row("Dense", LINE, units=5, label="steps"),
    _row("EinsumDense", LINE, equation="abc,cd->abd", output_shape=(6, 5)),
    _row("Embedding", (6,), input_dim=8, output_dim=4, kind="index"),
    _row(
        "Embedding",
        (6,),
        input_dim=8,
        output_dim=4,
        mask_zero=True,
        kind="index",
        label="masked",
    ),
    _row("Activation", activation="tanh"),
    _row("Flatten"),
    _row("Reshape", target_shape=(36, 4)),
    _row("Permute", dims=(2, 1, 3)),
    _row("RepeatVector", FLAT, n=3),
    _row("Identity"),
    _row("Masking", LINE, kind="zeros"),
    _row("ActivityRegularization", FLAT, l2=0.1),
    Row("Lambda", lambda k: k.layers.Lambda(lambda t: t * 2.0)),
    # Convolutions.
    *_ranked("Conv", filters=5, kernel_size=3, activation="relu"),
    _row("Conv2D", filters=8, kernel_size=3, groups=2, label="groups"),
    _row("Conv1D", LINE, filters=5, kernel_size=3, padding="causal", label="causal"),
    *_ranked("Conv", filters=4, kernel_size=2, dilation_rate=2, label="dilated"),
    _row("Conv1DTranspose", LINE, filters=5, kernel_size=3, strides=2),
    _row("Conv2DTranspose", filters=5, kernel_size=3, strides=2, padding="same"),
    _row("Conv3DTranspose", CUBE, filters=5, kernel_size=3, strides=2, slow=True),
    _row("DepthwiseConv1D", LINE, kernel_size=3, depth_multiplier=2),
    _row("DepthwiseConv2D", kernel_size=3, depth_multiplier=2),
    _row("SeparableConv1D", LINE, filters=5, kernel_size=3),
    _row("SeparableConv2D", filters=5, kernel_size=3, depth_multiplier=2),
    _row("LocallyConnected1D", LINE, filters=5, kernel_size=3, refused="no layer of"),
    _row("LocallyConnected2D", filters=5, kernel_size=3, refused="no layer of"),
    # Activations.
    _row("ReLU", max_value=1.0, negative_slope=0.1, threshold=0.2),
    _row("LeakyReLU"),
    _row("PReLU", shared_axes=[1, 2]),
    _row("PReLU", label="whole"),
    _row("ELU", alpha=0.5),
    _row("Softmax"),
    _row("Softmax", axis=[1, 2], label="axes"),
    _row("ThresholdedReLU", theta=0.4, refused="ThresholdedReLU"),
    # Pooling.
    *_ranked("AveragePooling", pool_size=2),
    *_ranked("MaxPooling", pool_size=2, strides=1, padding="same"),
    *_ranked("GlobalAveragePooling"),
    *_ranked("GlobalMaxPooling", keepdims=True),
    *_ranked("AdaptiveAveragePooling", output_size=2, refused="Adaptive"),
    *_ranked("AdaptiveMaxPooling", output_size=2, refused="Adaptive"),
    # Sizes.
    *_ranked("Cropping", cropping=1),
    *_ranked("ZeroPadding", padding=1),
    *_ranked("UpSampling", size=2),
    _row("UpSampling2D", size=2, interpolation="bilinear", label="bilinear"),
    _row("Resizing", height=4, width=8),
    _row("Resizing", height=4, width=4, crop_to_aspect_ratio=True, label="crop"),
    _row("Rescaling", scale=2.0, offset=1.0),
    _row("CenterCrop", height=4, width=3),
    _row("CenterCrop", height=8, width=8, label="grown"),
    # Merging.
    *(
        _row(name, FLAT, FLAT)
        for name in (
            "Add Average Concatenate Maximum Minimum Multiply Subtract"
        ).split()
    ),
    _row("Concatenate", LINE, LINE, axis=1, label="steps"),
    _row("Dot", LINE, LINE, axes=2, normalize=True),
    # Normalization.
    _row("BatchNormalization", momentum=0.5),
    _row("BatchNormalization", FLAT, momentum=0.5, label="flat"),
    _row("LayerNormalization", axis=[2, 3]),
    _row("GroupNormalization", groups=2),
    _row("UnitNormalization"),
    _row("RMSNormalization", refused="RMSNormalization"),
    _row("Normalization", mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0]),
    Row("Normalization", lambda k: _adapted(k), label="adapted"),
    Row(
        "SpectralNormalization",
        lambda k: k.layers.SpectralNormalization(k.layers.Dense(5)),
        (FLAT,),
        only="keras",  # That of tf_keras asks for Keras 3's InputSpec and fails.
        refused="cannot be built",
    ),
    # Acting in training alone.
    _row("Dropout", rate=0.4),
    _row("Dropout", LINE, rate=0.4, noise_shape=(None, 1, 4), label="noise_shape"),
    _row("AlphaDropout", rate=0.4),
    _row("GaussianDropout", rate=0.4),
    _row("GaussianNoise", stddev=0.4),
    *_ranked("SpatialDropout", rate=0.4),
    _row("RandomFlip", kind="image"),
    _row("RandomFlip", mode="horizontal", kind="image", label="horizontal"),
    _row("RandomRotation", factor=0.3, kind="image"),
    _row("RandomZoom", height_factor=0.3, kind="image"),
    _row("RandomTranslation", height_factor=0.3, width_factor=0.3, kind="image"),
    _row("RandomContrast", factor=0.5, kind="image"),
    _row("RandomBrightness", factor=0.5, kind="image"),
    _row("RandomCrop", height=4, width=4, kind="image", refused="tf_keras resizes"),
    _row("RandomHeight", factor=0.3, kind="image", refused="RandomHeight"),
    _row("RandomWidth", factor=0.3, kind="image", refused="RandomWidth"),
    *(
        _row(name, (6, 6, 3), kind="image", refused=name, **options)
        for name, options in {
            "AugMix": {"slow": True},
            "AutoContrast": {},
            "ContrastLimitedAdaptiveHistogramEqualization": {"tile_grid_size": (2, 2)},
            "RandAugment": {"slow": True},
            "RandomColorDegeneration": {"factor": 0.5},
            "RandomColorJitter": {"brightness_factor": 0.5},
            "RandomElasticTransform": {"slow": True},
            "RandomErasing": {},
            "RandomGaussianBlur": {"kernel_size": 3, "sigma": 1.0},
            "RandomGrayscale": {},
            "RandomHue": {"factor": 0.5},
            "RandomInvert": {},
            "RandomPerspective": {},
            "RandomPosterization": {"factor": 3},
            "RandomSaturation": {"factor": 0.5},
            "RandomSharpness": {"factor": 0.5},
            "RandomShear": {"x_factor": 0.3, "unreadable": "number"},
            "Solarization": {},
        }.items()
    ),
    Row(
        "Pipeline",
        lambda k: k.layers.Pipeline([k.layers.Rescaling(2.0), k.layers.RandomFlip()]),
        kind="image",
        refused="Pipeline",
    ),
    # Attention.
    Row(
        "Attention",
        lambda k: k.layers.Attention(use_scale=True, dropout=0.3),
        (LINE, LINE),
    ),
    Row("AdditiveAttention", lambda k: k.layers.AdditiveAttention(), (LINE, LINE)),
    Row(
        "MultiHeadAttention",
        lambda k: k.layers.MultiHeadAttention(2, 3, dropout=0.3),
        (LINE, LINE),
        call=lambda layer, xs: layer(xs[0], xs[1]),
    ),
    Row(
        "MultiHeadAttention",
        lambda k: k.layers.MultiHeadAttention(2, 3),
        (LINE, LINE),
        call=lambda layer, xs: layer(query=xs[0], value=xs[1], use_causal_mask=True),
        label="causal",
    ),
    Row(
        "GroupQueryAttention",
        lambda k: k.layers.GroupQueryAttention(3, 4, 2),
        (LINE, LINE),
        call=lambda layer, xs: layer(xs[0], xs[1]),
        refused="GroupedQueryAttention",
    ),
    _row(
        "ReversibleEmbedding",
        (6,),
        input_dim=8,
        output_dim=4,
        kind="index",
        refused="ReversibleEmbedding",
    ),
    # Recurrent.
    *(
        _row(
            name,
            LINE,
            units=3,
            dropout=0.3,
            return_sequences=True,
            slow=name != "LSTM",
        )
        for name in ("SimpleRNN", "GRU", "LSTM")
    ),
    _row("LSTM", LINE, units=3, recurrent_dropout=0.3, slow=True, label="recurrent"),
    Row(
        "LSTM",
        lambda k: k.layers.LSTM(3, return_state=True),
        (LINE,),
        call=lambda layer, x: layer(x)[1],
        slow=True,
        label="state",
    ),
    Row(
        "LSTM",
        lambda k: k.Sequential([k.layers.Masking(), k.layers.LSTM(3)]),
        (LINE,),
        kind="zeros",
        slow=True,
        label="behind_mask",
    ),
    *(
        _holding(
            cell,
            LINE,
            lambda k, cell=cell: k.layers.RNN(getattr(k.layers, cell)(3)),
            slow=True,
        )
        for cell in ("SimpleRNNCell", "GRUCell", "LSTMCell")
    ),
    _holding(
        "RNN",
        LINE,
        lambda k: k.layers.RNN(k.layers.LSTMCell(3, dropout=0.3)),
    ),
    _holding(
        "StackedRNNCells",
        LINE,
        lambda k: k.layers.RNN(
            k.layers.StackedRNNCells([k.layers.GRUCell(3), k.layers.LSTMCell(2)])
        ),
        slow=True,
    ),
    _holding(
        "Bidirectional",
        LINE,
        lambda k: k.layers.Bidirectional(k.layers.GRU(3, dropout=0.3)),
        slow=True,
    ),
    *(
        _row(
            layer,
            LINE,
            units=3,
            recurrent_activation="hard_sigmoid",
            slow=True,
            label="hard_sigmoid",
        )
        for layer in ("LSTM", "GRU")
    ),
    _holding(
        "Bidirectional",
        LINE,
        lambda k: k.layers.Bidirectional(
            k.layers.LSTM(3, recurrent_activation="hard_sigmoid"),
            backward_layer=k.layers.LSTM(
                3, recurrent_activation="hard_sigmoid", go_backwards=True
            ),
        ),
        label="hard_sigmoid",
        slow=True,
    ),
    _holding(
        "TimeDistributed",
        (3, *IMAGE),
        lambda k: k.layers.TimeDistributed(k.layers.Conv2D(5, 3)),
    ),
    *(
        _row(
            f"ConvLSTM{n}D",
            (2, *shape),
            filters=2,
            kernel_size=2,
            recurrent_activation="sigmoid",
            slow=n > 1,
        )
        for n, shape in _BY_RANK.items()
    ),
    _row(
        "ConvLSTM1D",
        (2, *LINE),
        filters=2,
        kernel_size=2,
        recurrent_activation="hard_sigmoid",
        label="hard_sigmoid",
    ),
    # Signals.
    _row(
        "STFTSpectrogram",
        (64, 1),
        mode="real",
        frame_length=16,
        frame_step=8,
        refused="STFTSpectrogram",
    ),
    _row(
        "MelSpectrogram",
        (64,),
        fft_length=16,
        sequence_stride=8,
        num_mel_bins=4,
        sampling_rate=100,
        refused="MelSpectrogram",
    ),
    # Tables and text.
    _row("Discretization", FLAT, bin_boundaries=[-0.5, 0.0, 0.5]),
    Row("Discretization", lambda k: _adapted_bins(k), (FLAT,), label="adapted"),
    _row("CategoryEncoding", FLAT, num_tokens=8, kind="index"),
    _row(
        "CategoryEncoding",
        (1,),
        num_tokens=8,
        output_mode="one_hot",
        kind="index",
        label="one_hot",
    ),
    _row("Hashing", FLAT, num_bins=5, kind="text"),
    _row("Hashing", FLAT, num_bins=5, kind="index", label="numbers"),
    Row(
        "HashedCrossing",
        lambda k: k.layers.HashedCrossing(5),
        ((1,), (1,)),
        kind="text",
        call=lambda layer, xs: layer((xs[0], xs[1])),
    ),
    _row("StringLookup", FLAT, vocabulary=["red", "blue"], kind="text"),
    _row(
        "StringLookup",
        FLAT,
        vocabulary=["red", "blue"],
        output_mode="multi_hot",
        kind="text",
        label="multi_hot",
    ),
    _row("IntegerLookup", FLAT, vocabulary=[3, 1, 5], kind="index"),
    _row(
        "IntegerLookup",
        FLAT,
        vocabulary=[3, 1, 5],
        output_mode="count",
        kind="index",
        label="count",
    ),
    _row(
        "TextVectorization",
        (1,),
        vocabulary=["red", "blue"],
        output_sequence_length=4,
        kind="text",
    ),
    Row(
        "TextVectorization",
        lambda k: _adapted_text(k),
        ((1,),),
        kind="text",
        label="adapted",
    ),
]

# Layers without a row, with the reason.
NO_ROW: Mapping[str, str] = {
    "AbstractRNNCell": "a base class",
    "CutMix": "mixes images with labels: takes a dict, for data sets only",
    "Equalization": "fails on the symbolic tensor of a functional model in Keras 3.15",
    "DenseFeatures": "reads feature columns, of dicts that no model file has",
    "FlaxLayer": "runs JAX code",
    "InputLayer": "what keras.Input makes; every row has one",
    "InputSpec": "no layer",
    "JaxLayer": "runs JAX code",
    "Layer": "the base class",
    "MaxNumBoundingBoxes": "takes a dict of boxes, for data sets only",
    "MixUp": "mixes images with labels: takes a dict, for data sets only",
    "TFSMLayer": "runs a SavedModel",
    "TorchModuleWrapper": "runs torch code",
    "Wrapper": "a base class",
}


def _adapted(k: Any) -> Any:
    layer = k.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, *IMAGE)).astype("float32"))
    return layer


def _adapted_bins(k: Any) -> Any:
    layer = k.layers.Discretization(num_bins=4)
    layer.adapt(np.random.default_rng(0).normal(size=(50, 4)).astype("float32"))
    return layer


def _adapted_text(k: Any) -> Any:
    layer = k.layers.TextVectorization(output_mode="tf_idf", ngrams=2)
    layer.adapt(np.array(_TEXT))
    return layer


def rows(k: Any) -> list[Row]:
    """Returns the rows whose layer a Keras has."""
    return [
        row
        for row in ROWS
        if hasattr(k.layers, row.layer) and row.only in (None, k.__name__)
    ]


def build(row: Row, k: Any) -> Any:
    """Returns a model of the one layer."""
    dtype = {"index": "int32", "text": "string"}.get(row.kind, "float32")
    inputs = [k.Input(shape, dtype=dtype) for shape in row.inputs]
    given = inputs[0] if len(inputs) == 1 else inputs
    layer = row.make(k)
    output = row.call(layer, given) if row.call else layer(given)
    return k.Model(given, output)


def batch(row: Row, samples: int = 6) -> Any:
    """Returns values for the inputs."""
    rng = np.random.default_rng(1)
    arrays = []
    for shape in row.inputs:
        full = (samples, *shape)
        if row.kind == "text":
            arrays.append(rng.choice(np.array([*_TEXT, "red", "blue"]), full))
        elif row.kind == "index":
            arrays.append(rng.integers(0, 8, full).astype("int32"))
        elif row.kind == "image":
            arrays.append(rng.uniform(0, 255, full).astype("float32"))
        else:
            arrays.append(rng.normal(size=full).astype("float32"))
            if row.kind == "zeros":
                arrays[-1][:, shape[0] // 2 :] = 0
    return arrays[0] if len(arrays) == 1 else arrays
