"""A row for every function of `keras.ops` that takes tensors: how to call it.

A function that stands in no row needs a reason in `NO_ROW`; a test sees to that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """One function with some options.

    Attributes:
        name: of the function.
        call: from `keras.ops` and a tensor [batch, 6, 6, 8] to tensors.
        values: what the tensor holds: "tanh" (-1 to 1) or "softplus" (above 0).
    """

    name: str
    call: Callable[[Any, Any], Any]
    values: str = "tanh"


# Of one tensor, element by element, or over all of its axes but the batch's.
_UNIT = """abs absolute angle arccos arcsin arcsinh arctan arctanh cbrt ceil celu
conj conjugate copy cos cosh deg2rad elu erf erfc erfinv exp exp2 expm1 fabs floor gelu
hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh i0 identity_ imag isfinite isinf
isnan isneginf isposinf isreal leaky_relu log_sigmoid log_softmax logical_not
nan_to_num negative nn.relu normalize rad2deg real relu relu6 round selu sigmoid sign
signbit silu sin sinc sinh soft_shrink softmax softplus softsign sparse_plus
sparse_sigmoid sparsemax square squareplus stop_gradient swish tan tanh tanh_shrink
threshold_ trunc zeros_like ones_like empty_like_ view_ rms_normalization
layer_normalization""".split()
_UNIT = [name for name in _UNIT if not name.endswith("_") and "." not in name]
_POSITIVE = "log log10 log1p log2 reciprocal rsqrt sqrt".split()
_BINARY = """add arctan2 divide divide_no_nan equal floor_divide fmax fmin fmod greater
greater_equal heaviside hypot isclose less less_equal logaddexp logaddexp2 logical_and
logical_or logical_xor maximum minimum mod multiply nextafter not_equal power subtract
true_divide""".split()
_INTEGERS = "bitwise_and bitwise_or bitwise_xor gcd lcm".split()
_SHIFTS = """bitwise_left_shift bitwise_right_shift left_shift right_shift""".split()
_REDUCTIONS = """all amax amin any average count_nonzero logsumexp max mean median min
nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar norm prod ptp std sum
var""".split()
_CUMULATIVE = "cumprod cumsum nancumprod nancumsum".split()
_INDICES = "argmax argmin nanargmax nanargmin".split()
_HALVES = {"array_split": (2, -1), "hsplit": (2,), "split": (2, -1), "vsplit": (2,)}


def _constant(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def _integers(ops: Any, x: Any) -> Any:
    return ops.cast(ops.abs(x) * 10.0, "int32")


def _matrices(ops: Any, x: Any) -> Any:
    """Positive definite matrices [batch, 8, 8]."""
    flat = ops.reshape(x, (-1, 36, 8))
    square = ops.matmul(ops.transpose(flat, (0, 2, 1)), flat)
    return square + 10.0 * np.eye(8, dtype="float32")


def _line(ops: Any, x: Any) -> Any:
    return ops.reshape(x, (-1, 288))


def _few(ops: Any, x: Any) -> Any:
    return ops.reshape(ops.slice(x, (0, 1, 1, 0), (1, 1, 1, 8)), (8,))


_CALLS: Mapping[str, Callable[[Any, Any], Any]] = {
    "adaptive_average_pool": lambda o, x: o.adaptive_average_pool(
        x, (3, 3), data_format="channels_last"
    ),
    "adaptive_max_pool": lambda o, x: o.adaptive_max_pool(
        x, (3, 3), data_format="channels_last"
    ),
    "allclose": lambda o, x: x * o.cast(o.allclose(x, x), "float32"),
    "append": lambda o, x: o.append(x, x * 2.0, axis=1),
    "arccosh": lambda o, x: o.arccosh(x + 2.0),
    "argpartition": lambda o, x: o.argpartition(x, 3),
    "argsort": lambda o, x: o.argsort(x),
    "associative_scan": lambda o, x: o.associative_scan(lambda a, b: a + b, x, axis=1),
    "average_pool": lambda o, x: o.average_pool(x, 2),
    "batch_normalization": lambda o, x: o.batch_normalization(
        x, np.zeros(8, "float32"), np.ones(8, "float32"), -1
    ),
    "binary_crossentropy": lambda o, x: o.binary_crossentropy(
        o.sigmoid(x), o.sigmoid(x + 1.0)
    ),
    "bincount": lambda o, x: o.reshape(
        o.bincount(o.reshape(_integers(o, x), (1, 288)), minlength=11), (1, 11)
    ),
    "bitwise_invert": lambda o, x: o.bitwise_invert(_integers(o, x)),
    "bitwise_not": lambda o, x: o.bitwise_not(_integers(o, x)),
    "broadcast_to": lambda o, x: o.broadcast_to(x[:, :1], (1, 6, 6, 8)),
    "cast": lambda o, x: o.cast(o.cast(x, "float16"), "float32"),
    "categorical_crossentropy": lambda o, x: o.categorical_crossentropy(
        o.softmax(x), o.softmax(x * 2.0)
    ),
    "cdist": lambda o, x: o.cdist(o.reshape(x, (-1, 36, 8)), _constant(1, 5, 8)),
    "cholesky": lambda o, x: o.cholesky(_matrices(o, x)),
    "cholesky_inverse": lambda o, x: o.cholesky_inverse(o.cholesky(_matrices(o, x))),
    "clip": lambda o, x: o.clip(x, -0.5, 0.5),
    "concatenate": lambda o, x: o.concatenate([x, x * 2.0], -1),
    "conv": lambda o, x: o.conv(x, _constant(3, 3, 8, 5), padding="same"),
    "conv_transpose": lambda o, x: o.conv_transpose(
        x, _constant(3, 3, 5, 8), 2, "same", data_format="channels_last"
    ),
    "corrcoef": lambda o, x: o.corrcoef(o.reshape(x, (36, 8))),
    "correlate": lambda o, x: o.correlate(o.reshape(x, (288,)), _constant(5)),
    "cross": lambda o, x: o.cross(x[..., :3], x[..., 3:6]),
    "depth_to_space": lambda o, x: o.depth_to_space(x, 2),
    "depthwise_conv": lambda o, x: o.depthwise_conv(x, _constant(3, 3, 8, 1)),
    "det": lambda o, x: o.det(_matrices(o, x)),
    "diag": lambda o, x: o.diag(_few(o, x)),
    "diagflat": lambda o, x: o.diagflat(_few(o, x)),
    "diagonal": lambda o, x: o.diagonal(x, axis1=1, axis2=2),
    "diff": lambda o, x: o.diff(x, axis=1),
    "digitize": lambda o, x: o.digitize(x, np.array([-0.5, 0.0, 0.5], "float32")),
    "dot": lambda o, x: o.dot(x, _constant(8, 5)),
    "dot_product_attention": lambda o, x: o.dot_product_attention(x, x, x),
    "dsplit": lambda o, x: o.dsplit(o.reshape(x, (36, 2, 4)), 2)[0],
    "dstack": lambda o, x: o.dstack([x, x]),
    "eig": lambda o, x: o.eig(_matrices(o, x))[0],
    "eigh": lambda o, x: o.eigh(_matrices(o, x))[0],
    "einsum": lambda o, x: o.einsum("bhwc,cd->bhwd", x, _constant(8, 5)),
    "expand_dims": lambda o, x: o.expand_dims(x, 1),
    "extract_sequences": lambda o, x: o.extract_sequences(_line(o, x), 32, 16),
    "fft": lambda o, x: o.fft((x, x * 0.0))[0],
    "fft2": lambda o, x: o.fft2((x, x * 0.0))[0],
    "flip": lambda o, x: o.flip(x, axis=1),
    "fliplr": lambda o, x: o.fliplr(x),
    "flipud": lambda o, x: o.flipud(x),
    "fold": lambda o, x: o.fold(o.reshape(x, (-1, 8, 36)), 7, (2, 2)),
    "fori_loop": lambda o, x: o.fori_loop(0, 3, lambda i, y: y * 0.5, x),
    "full_like": lambda o, x: x + o.full_like(x, 2.0),
    "get_item": lambda o, x: o.get_item(x, (slice(None), 0)),
    "glu": lambda o, x: o.glu(x),
    "histogram": lambda o, x: o.histogram(x, 5)[0],
    "hstack": lambda o, x: o.hstack([x, x]),
    "ifft2": lambda o, x: o.ifft2((x, x * 0.0))[0],
    "in_top_k": lambda o, x: o.in_top_k(
        np.zeros(36, "int32"), o.reshape(x, (36, 8)), 2
    ),
    "inner": lambda o, x: o.inner(x, _constant(5, 8)),
    "inv": lambda o, x: o.inv(_matrices(o, x)),
    "irfft": lambda o, x: o.irfft((x, x * 0.0)),
    "isin": lambda o, x: o.isin(_integers(o, x), np.array([1, 2], "int32")),
    "istft": lambda o, x: o.istft(o.stft(_line(o, x), 32, 16, 32), 32, 16, 32),
    "kron": lambda o, x: o.kron(x, np.ones((1, 1, 1, 2), "float32")),
    "ldexp": lambda o, x: o.ldexp(x, 2),
    "linspace": lambda o, x: o.linspace(x, x * 2.0, 3, axis=1),
    "logspace": lambda o, x: o.logspace(x, x * 2.0, 3, axis=1),
    "geomspace": lambda o, x: o.geomspace(x + 2.0, x + 3.0, 3, axis=1),
    "logdet": lambda o, x: o.logdet(_matrices(o, x)),
    "lstsq": lambda o, x: o.lstsq(o.reshape(x, (36, 8)), _constant(36, 2)),
    "lu_factor": lambda o, x: o.lu_factor(_matrices(o, x))[0],
    "map": lambda o, x: o.map(lambda row: row * 2.0, x),
    "matmul": lambda o, x: o.matmul(x, _constant(8, 5)),
    "matrix_rank": lambda o, x: o.matrix_rank(_matrices(o, x)),
    "max_pool": lambda o, x: o.max_pool(x, 2),
    "meshgrid": lambda o, x: o.meshgrid(_few(o, x), _few(o, x * 2.0))[0],
    "moments": lambda o, x: o.moments(x, [1, 2])[1],
    "moveaxis": lambda o, x: o.moveaxis(x, 3, 1),
    "multi_hot": lambda o, x: o.multi_hot(_integers(o, x), 11),
    "nanpercentile": lambda o, x: o.nanpercentile(x, 30, axis=1),
    "nanquantile": lambda o, x: o.nanquantile(x, 0.3, axis=1),
    "one_hot": lambda o, x: o.one_hot(_integers(o, x), 11),
    "outer": lambda o, x: o.outer(_few(o, x), _constant(3)),
    "pad": lambda o, x: o.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0))),
    "percentile": lambda o, x: o.percentile(x, 30, axis=1),
    "pinv": lambda o, x: o.pinv(_matrices(o, x)),
    "polar": lambda o, x: o.abs(o.polar(o.abs(x), x)),
    "psnr": lambda o, x: x * o.psnr(x, x * 0.5, 1.0),
    "qr": lambda o, x: o.qr(_matrices(o, x))[1],
    "quantile": lambda o, x: o.quantile(x, 0.3, axis=1),
    "ravel": lambda o, x: o.reshape(o.ravel(x), (-1, 288)),
    "rearrange": lambda o, x: o.rearrange(x, "b h w c -> b c h w"),
    "repeat": lambda o, x: o.repeat(x, 2, axis=1),
    "reshape": lambda o, x: o.reshape(x, (-1, 36, 8)),
    "rfft": lambda o, x: o.rfft(_line(o, x))[0],
    "roll": lambda o, x: o.roll(x, 2, axis=1),
    "rot90": lambda o, x: o.rot90(x, axes=(1, 2)),
    "saturate_cast": lambda o, x: o.saturate_cast(x * 300.0, "uint8"),
    "scan": lambda o, x: o.scan(
        lambda c, y: (c + y, c), _few(o, x), o.reshape(x, (36, 8))
    )[1],
    "scatter": lambda o, x: o.scatter(
        np.array([[1], [3]]), o.reshape(_few(o, x), (2, 4)), (5, 4)
    ),
    "scatter_update": lambda o, x: o.scatter_update(
        x, np.array([[0, 0, 0, 0]]), np.array([5.0], "float32")
    ),
    "searchsorted": lambda o, x: o.searchsorted(
        np.array([-0.5, 0.0, 0.5], "float32"), o.reshape(x, (288,))
    ),
    **{
        f"segment_{kind}": lambda o, x, kind=kind: getattr(o, f"segment_{kind}")(
            o.reshape(x, (36, 8)), np.repeat(np.arange(6), 6).astype("int32"), 6
        )
        for kind in ("max", "min", "prod", "sum")
    },
    "select": lambda o, x: o.select([x > 0.5, x > 0], [x, x * 2.0], 0.0),
    "separable_conv": lambda o, x: o.separable_conv(
        x, _constant(3, 3, 8, 1), _constant(1, 1, 8, 5)
    ),
    "slice": lambda o, x: o.slice(x, (0, 1, 1, 0), (1, 2, 2, 8)),
    "slice_update": lambda o, x: o.slice_update(
        x, (0, 1, 1, 0), np.ones((1, 2, 2, 8), "float32")
    ),
    "slogdet": lambda o, x: o.slogdet(_matrices(o, x))[1],
    "solve": lambda o, x: o.solve(_matrices(o, x), np.ones((1, 8, 2), "float32")),
    "solve_triangular": lambda o, x: o.solve_triangular(
        _matrices(o, x), np.ones((1, 8, 2), "float32")
    ),
    "sort": lambda o, x: o.sort(x),
    "space_to_depth": lambda o, x: o.space_to_depth(x, 2),
    "sparse_categorical_crossentropy": lambda o, x: o.sparse_categorical_crossentropy(
        np.zeros((1, 6, 6), "int32"), o.softmax(x)
    ),
    "squeeze": lambda o, x: o.squeeze(x[:, :1], 1),
    "stack": lambda o, x: o.stack([x, x * 2.0], 1),
    "stft": lambda o, x: o.stft(_line(o, x), 32, 16, 32)[0],
    "svd": lambda o, x: o.svd(_matrices(o, x))[1],
    "swapaxes": lambda o, x: o.swapaxes(x, 1, 2),
    "switch": lambda o, x: o.switch(
        o.cast(o.sum(x) > 0, "int32"), [lambda y: y, lambda y: -y], x
    ),
    "take": lambda o, x: o.take(x, [0, 2], axis=1),
    "take_along_axis": lambda o, x: o.take_along_axis(
        x, np.zeros((1, 1, 6, 8), "int32"), axis=1
    ),
    "tensordot": lambda o, x: o.tensordot(x, _constant(8, 5), axes=1),
    "threshold": lambda o, x: o.threshold(x, 0.1, 0.0),
    "tile": lambda o, x: o.tile(x, (1, 2, 1, 1)),
    "top_k": lambda o, x: o.top_k(x, 2)[0],
    "trace": lambda o, x: o.trace(x, axis1=1, axis2=2),
    "transpose": lambda o, x: o.transpose(x, (0, 3, 1, 2)),
    "trapezoid": lambda o, x: o.trapezoid(x, axis=1),
    "tril": lambda o, x: o.tril(o.transpose(x, (0, 3, 1, 2))),
    "triu": lambda o, x: o.triu(o.transpose(x, (0, 3, 1, 2))),
    "unfold": lambda o, x: o.unfold(o.transpose(x, (0, 3, 1, 2)), 2),
    "unique": lambda o, x: o.unique(o.reshape(x, (288,)), size=288),
    "unravel_index": lambda o, x: o.unravel_index(_integers(o, x), (4, 4))[0],
    "unstack": lambda o, x: o.unstack(x, axis=1)[0],
    "vander": lambda o, x: o.vander(o.reshape(x, (288,)), 3),
    "vdot": lambda o, x: x * o.vdot(o.reshape(x, (288,)), _constant(288)),
    "vectorized_map": lambda o, x: o.vectorized_map(lambda row: row * 2.0, x),
    "view": lambda o, x: o.view(x, "int32"),
    "view_as_complex": lambda o, x: o.abs(
        o.view_as_complex(o.reshape(x, (-1, 6, 6, 4, 2)))
    ),
    "view_as_real": lambda o, x: o.view_as_real(o.cast(x, "complex64")),
    "vstack": lambda o, x: o.vstack([x, x]),
    "where": lambda o, x: o.where(x > 0, x, 0.1),
    "while_loop": lambda o, x: o.while_loop(
        lambda y: o.max(y) > 0.1, lambda y: (y * 0.5,), (x,)
    )[0],
    # Of `keras.ops.image`.
    "image.affine_transform": lambda o, x: o.image.affine_transform(
        x, np.array([[1, 0, 1, 0, 1, 1, 0, 0]], "float32")
    ),
    "image.crop_images": lambda o, x: o.image.crop_images(x, 1, 1, 1, 1),
    "image.elastic_transform": lambda o, x: o.image.elastic_transform(x, 2.0, 1.0),
    "image.extract_patches": lambda o, x: o.image.extract_patches(x, (2, 2)),
    "image.extract_patches_3d": lambda o, x: o.image.extract_patches_3d(
        o.reshape(x, (-1, 6, 6, 4, 2)), (2, 2, 2)
    ),
    "image.gaussian_blur": lambda o, x: o.image.gaussian_blur(x[..., :3]),
    "image.hsv_to_rgb": lambda o, x: o.image.hsv_to_rgb(o.sigmoid(x[..., :3])),
    "image.map_coordinates": lambda o, x: o.image.map_coordinates(
        x[:, :, 0, 0], np.zeros((2, 4), "float32"), 1
    ),
    "image.pad_images": lambda o, x: o.image.pad_images(x, 1, 1, 1, 1),
    "image.perspective_transform": lambda o, x: o.image.perspective_transform(
        x,
        np.array([[[0, 0], [0, 5], [5, 0], [5, 5]]], "float32"),
        np.array([[[0, 0], [0, 4], [4, 0], [4, 4]]], "float32"),
    ),
    "image.resize": lambda o, x: o.image.resize(x, (12, 12)),
    "image.rgb_to_grayscale": lambda o, x: o.image.rgb_to_grayscale(x[..., :3]),
    "image.rgb_to_hsv": lambda o, x: o.image.rgb_to_hsv(o.sigmoid(x[..., :3])),
    "image.scale_and_translate": lambda o, x: o.image.scale_and_translate(
        x, (1, 12, 12, 8), np.array([2.0, 2.0]), np.array([0.0, 0.0]), (1, 2), "linear"
    ),
    "image.sobel_edges": lambda o, x: o.image.sobel_edges(x),
    "image.ssim": lambda o, x: o.image.ssim(
        o.image.resize(x[..., :3], (16, 16)), o.image.resize(x[..., :3], (16, 16)), 1.0
    ),
    # What Python's own operators make.
    "x[..., None]": lambda o, x: x[..., None],
    "x[:, ::2]": lambda o, x: x[:, ::2],
    "x[:, ..., 0]": lambda o, x: x[:, ..., 0],
    "x // 2": lambda o, x: x // 2.0,
    "x % 2": lambda o, x: x % 2.0,
    "x ** 2": lambda o, x: x**2,
    "2 ** x": lambda o, x: 2.0**x,
    "-x": lambda o, x: -x,
    "x @ matrix": lambda o, x: x @ _constant(8, 5),
    # Along the channels, where no channel can pass.
    "norm of channels": lambda o, x: o.norm(x, axis=-1),
    "repeat of channels": lambda o, x: o.repeat(x, 2, axis=-1),
    "stack of channels": lambda o, x: o.stack([x, x * 2.0], -1),
    "take of channels": lambda o, x: o.take(x, [0, 2], axis=-1),
    "tile of channels": lambda o, x: o.tile(x, (1, 1, 1, 2)),
    "einsum of channels": lambda o, x: o.einsum("bhwc,bhwd->bcd", x, x),
}

ROWS: list[Row] = [
    *(Row(name, lambda o, x, n=name: getattr(o, n)(x)) for name in _UNIT),
    *(
        Row(name, lambda o, x, n=name: getattr(o, n)(x), "softplus")
        for name in _POSITIVE
    ),
    *(
        Row(n, lambda o, x, n=n: getattr(o, n)(x, x * 0.5 + 1.0), "softplus")
        for n in _BINARY
    ),
    *(
        Row(n, lambda o, x, n=n: getattr(o, n)(_integers(o, x), _integers(o, x * 0.5)))
        for n in _INTEGERS
    ),
    *(
        Row(n, lambda o, x, n=n: getattr(o, n)(_integers(o, x), np.int32(1)))
        for n in _SHIFTS
    ),
    *(Row(n, lambda o, x, n=n: getattr(o, n)(x, axis=1)) for n in _REDUCTIONS),
    *(Row(n, lambda o, x, n=n: getattr(o, n)(x, axis=1)) for n in _CUMULATIVE),
    *(Row(n, lambda o, x, n=n: getattr(o, n)(x, axis=1)) for n in _INDICES),
    *(
        Row(n, lambda o, x, n=n, rest=rest: o.concatenate(getattr(o, n)(x, *rest), 1))
        for n, rest in _HALVES.items()
        if n != "vsplit"
    ),
    *(Row(name, call) for name, call in _CALLS.items()),
]

_MADE = "makes a tensor of numbers alone"
_TOLD = "tells of a tensor, and gives none"
NO_ROW: Mapping[str, str] = {
    **dict.fromkeys(
        """arange array bartlett blackman convert_to_tensor empty eye full hamming
        hanning identity kaiser ones tri zeros""".split(),
        _MADE,
    ),
    **dict.fromkeys("dtype is_tensor ndim shape size".split(), _TOLD),
    "convert_to_numpy": "leaves the model",
    "cond": "takes functions of nothing, and those of a symbolic tensor Keras refuses",
    "ctc_decode": "decodes sequences of a batch beside the model",
    "ctc_loss": "a loss of sequences, for training only",
    "custom_gradient": "wraps a function",
    "empty_like": "gives what the memory held",
    "jvp": "a derivative, for training only",
    "nonzero": "gives as many as it finds, which no file of fixed shapes can",
    "vectorize": "wraps a function",
    "vsplit": "splits the batch",
    **dict.fromkeys("image linalg nn numpy".split(), "a module"),
}


def build(row: Row, k: Any) -> Any:
    """Returns a network around a function."""
    image = k.Input((6, 6, 3), batch_size=1)
    x = k.layers.Conv2D(8, 3, padding="same", activation=row.values, name="before")(
        image
    )
    y = row.call(k.ops, x)
    parts = list(y) if isinstance(y, list | tuple) else [y]
    flat = [k.ops.reshape(k.ops.cast(each, "float32"), (1, -1)) for each in parts]
    y = flat[0] if len(flat) == 1 else k.ops.concatenate(flat, -1)
    return k.Model(image, k.layers.Dense(2, bias_initializer="ones", name="head")(y))
