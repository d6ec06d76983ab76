"""What ops are: the one place that answers "is this op a ...?".

Names are those of `ir.Layer.op`. A set says what holds for every option of its ops.
"""

from __future__ import annotations

from tfslim.graph import ir

_RANKS = (1, 2, 3)

# Drop or shake values in training and pass them unchanged in inference.
NOISE = frozenset(
    {
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        *(f"SpatialDropout{n}D" for n in _RANKS),
    }
)
# Change images at random in training, each channel by itself, and pass them unchanged
# in inference. Those that mix colors (RandomHue) are not here, nor what crops.
AUGMENTATION = frozenset(
    "RandomBrightness RandomContrast RandomFlip RandomRotation RandomTranslation "
    "RandomZoom".split()
)
# Pass every value unchanged in inference, whatever they do in training.
IDLE = NOISE | AUGMENTATION | {"ActivityRegularization", "Identity"}

# Layers that are functions of every element by itself, without weights.
ACTIVATIONS = frozenset("ELU LeakyReLU ReLU ThresholdedReLU".split())
ELEMENTWISE = ir.ELEMENTWISE | ACTIVATIONS
# Activations in a config beyond `ir.ELEMENTWISE` that take every element by itself.
NAMED_ELEMENTWISE = ir.ELEMENTWISE | frozenset(
    """celu exponential hard_shrink hard_tanh linear log_sigmoid mish soft_shrink
    sparse_plus sparse_sigmoid squareplus tanh_shrink threshold""".split()
)

POOLING = frozenset(
    {
        *(f"{kind}Pooling{n}D" for kind in ("Average", "Max") for n in _RANKS),
        *(f"Global{kind}Pooling{n}D" for kind in ("Average", "Max") for n in _RANKS),
    }
)
CROPPING = frozenset(f"Cropping{n}D" for n in _RANKS)
PADDING = frozenset(f"ZeroPadding{n}D" for n in _RANKS)
UPSAMPLING = frozenset(f"UpSampling{n}D" for n in _RANKS)
# Bring values elsewhere and change none.
MOVING = frozenset(
    "Flatten Permute Reshape expand_dims reshape squeeze transpose".split()
)

# Apply their activation at every step, not to what comes out at the end.
RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN", *(f"ConvLSTM{n}D" for n in _RANKS)})
