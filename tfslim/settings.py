"""The sections of a config: each field with its default, its range and its help."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfslim import fields
from tfslim.fields import field

_DIVISOR = "widths are rounded up to a multiple of it"
_IGNORE = "names or patterns of layers to leave whole"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(fields.Checked):
    """The model that is built or opened."""

    name: str = field("resnet18", "of the zoo, or what `load_model` opens")
    input_shape: tuple[int, ...] = field((), "empty: the model's own default")
    options: Mapping[str, Any] = field({}, "what the model's function takes")
    preprocessing: str = field(
        "auto",
        "of an opened model: a preset, or auto: as the model says, else the one it "
        "does best with",
    )
    allow_unsafe: bool = field(False, "open files that hold code, see `load_model`")
    save_format: str = field(
        "keras", "which Keras opens model.keras", choices=("keras", "tf_keras")
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(fields.Checked):
    """The data of training, calibration and tests."""

    spec: str | None = field(
        None, "unset: digits for a model of the zoo; an opened one needs its own"
    )
    skip_corrupt: bool = field(False, "leave out files that cannot be read")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(fields.Checked):
    """The first training, and how those of the steps are run."""

    epochs: int | None = field(
        None,
        "unset: 8 for a model of the zoo, none for one that is opened or given",
        kind=int,
        least=0,
    )
    batch_size: int = field(32, "examples a step", least=1)
    optimizer: str = field("adam", "a name in tfslim.training.optimizers")
    learning_rate: float | None = field(
        None, "unset: the optimizer's default", kind=float, above=0
    )
    schedule: str = field("one_cycle", "one_cycle, cosine or constant")
    patience: int = field(
        0, "epochs without progress before stopping; 0: never", least=0
    )
    augment: tuple[str, ...] = field((), "names in tfslim.data.augment: flip,shift")
    strategy: str = field("none", "none, mirrored or multiworker")
    mixed_precision: bool = field(False, "compute in bfloat16")
    log_dir: str | None = field(None, "where to write TensorBoard's logs")
    backup_dir: str | None = field(None, "from which a job that was killed resumes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining(fields.Checked):
    """The training after, or within, a step."""

    epochs: int = field(5, "of the training after the step", least=0)
    learning_rate: float | None = field(
        None, "unset: that of config.training", kind=float, above=0
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(Retraining):
    """How much a step removes: one of the first three."""

    ratio: float | None = field(
        None, "share of channels to remove", kind=float, least=0, below=1
    )
    max_macs: float | None = field(
        None, "multiply-accumulates that may be left", kind=float, above=0
    )
    max_params: float | None = field(
        None, "weights that may be left", kind=float, above=0
    )
    divisor: int = field(16, _DIVISOR, least=1)
    min_channels: int = field(1, "channels that each layer keeps at least", least=1)
    ignore: tuple[str, ...] = field((), _IGNORE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Width(Retraining):
    """The step that makes every layer narrower."""

    alpha: float | None = field(
        None, "width multiplier: 0.5 halves every layer", kind=float, above=0, most=1
    )
    criterion: str = field("l1_norm", "which channels stay")
    divisor: int = field(8, _DIVISOR, least=1)
    ignore: tuple[str, ...] = field((), _IGNORE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slim(Limits):
    """The step that trains channels to be idle and removes them."""

    method: str = field("slimming", "slimming, prox_sg, bayesian or activation")
    strength: float | None = field(
        None, "of the penalty; unset: the method's default", kind=float, above=0
    )
    sparse_epochs: int = field(10, "of the training under the penalty", least=1)
    passes: int = field(1, "how often it cuts", least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Limits):
    """The step that removes channels of a trained model."""

    method: str | None = field(None, "channels; unset: nothing is pruned")
    criterion: str = field("l1_norm", "which channels are the least important")
    scope: str = field(
        "uniform",
        "uniform: the ratio in every layer; global: the least important of all",
        choices=("uniform", "global"),
    )
    fold: str = field("exact", "how the effect of constant channels is kept")
    reconstruct: bool = field(
        False,
        "fit the layers behind a cut to what they gave before it, on training batches",
    )
    ratios: Mapping[str, float] = field(
        {}, "group of channels -> its own ratio; without a ratio the others stay whole"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factorize(Retraining):
    """The step that replaces kernels by low-rank ones: by one of the first three."""

    energy: float | None = field(
        None, "share of a kernel's squared norm to keep", kind=float, above=0, most=1
    )
    target: float | None = field(
        None, "share of the MACs that may be left", kind=float, above=0, most=1
    )
    ranks: str | None = field(None, "vbmf: ranks by variational Bayes")
    method: str | None = field(
        None, "tucker, svd or tucker+svd; unset: nothing is factorized"
    )
    divisor: int = field(8, "ranks are rounded up to a multiple of it", least=1)
    ignore: tuple[str, ...] = field((), _IGNORE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(Retraining):
    """The step in which a teacher trains the model."""

    teacher: str | None = field(
        None, "what `load_model` opens; unset: the model before the steps"
    )
    temperature: float = field(4.0, "softens the teacher's answers", above=0)
    teacher_weight: float = field(
        0.5, "share of the teacher in the loss", least=0, most=1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparsify(Retraining):
    """The step that makes weights zero."""

    method: str = field("magnitude", "magnitude, 2:4, block or xnnpack")
    sparsity: float = field(0.8, "share of zeros", above=0, below=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(Retraining):
    """The step that makes weights share values."""

    num_clusters: int = field(16, "values a kernel has", least=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantize(Retraining):
    """The training that knows of INT8; `Quantization` is that without training."""

    keep: str = field(
        "auto",
        "what earlier steps made: zeros, clusters, both or nothing",
        choices=("auto", "nothing", "zeros", "clusters", "both"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(fields.Checked):
    """The conversion to a float .tflite."""

    allow_flex: bool = field(False, "take ops that need the Flex delegate")
    preprocess: str | None = field(
        None,
        "where pixels are normalized: outside, or inside the files; unset: outside, "
        "but inside where uint8 inputs could not be pixels otherwise",
        choices=("inside", "outside"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantizing(fields.Checked):
    """How a file is quantized; the rooms that do it know the names there are."""

    calibration: str = field("minmax", "minmax, auto, kl, mse, percentile, …")
    equalize: bool = field(True, "balance channels, where it helps")
    rounding: str = field("gptq", "of weights: gptq, used where it helps, or nearest")
    bias_correction: str = field("fast", "fast, full or none; used where it helps")
    target: str = field(
        "xnnpack",
        "where files run: xnnpack, full_integer, gpu, or a .json (docs/targets.md)",
    )
    io: str | None = field(
        None,
        "what inputs and outputs of INT8 are: float, int8, uint8; unset: by the target",
        choices=("float", "int8", "uint8"),
    )
    layers: Mapping[str, str] = field({}, "layer -> the recipe that it takes instead")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantization(Quantizing):
    """How the files of an export are quantized."""

    recipes: tuple[str, ...] | None = field(
        None, "unset: float32, float16, dynamic_int8 and int8, if possible", kind=tuple
    )
    calibration_samples: int = field(300, "samples that ranges are taken from", least=1)
    ranges: str | None = field(None, "a ranges.json to reuse instead of calibrating")
    max_drop: float | None = field(
        None, "points that the accuracy of static INT8 may drop", kind=float
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify(fields.Checked):
    """The comparison of files with the Keras model."""

    num_samples: int = field(64, "random inputs, where there is no data", least=1)
    consumers: tuple[str, ...] = field((), "programs that each file is run in, too")
    original: bool = field(
        True,
        "the model before the steps that make it smaller is measured and timed too",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing(fields.Checked):
    """How often, and on what, a file is run."""

    num_threads: int = field(1, "threads of the inference", least=1)
    warmup_runs: int = field(5, "untimed runs before the first round", least=0)
    warmup_secs: float = field(0.1, "seconds of untimed runs before", least=0)
    num_runs: int = field(50, "timed runs a file, at least", least=1)
    min_secs: float = field(0.0, "seconds of timed runs a file, at least", least=0)
    rounds: int = field(10, "rounds in which files take turns", least=1)
    delegate: str = field(
        "xnnpack",
        "what runs the ops that it can",
        choices=("xnnpack", "gpu", "nnapi", "npu", "none"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phones(fields.Checked):
    """Which phones are used, and how; see docs/android.md."""

    serial: str = field(
        "", "as adb lists it, several by comma, or all; or the only one"
    )
    runtime: str = field(
        "interpreter",
        "whose benchmark_model runs: interpreter, or compiled (LiteRT 2)",
        choices=("interpreter", "compiled"),
    )
    benchmark_binary: str = field("", "benchmark_model for the phone; or a download")
    device_dir: str = field("/data/local/tmp", "folder on the phone for a private one")
    keep_files: bool = field(False, "leave the files on the phone")
    cooldown_secs: float = field(60.0, "longest wait to cool down, each time", least=0)
    timeout_secs: float = field(600.0, "for one push or run on a phone", above=0)
    reconnect_secs: float = field(20.0, "longest wait for a lost phone", least=0)
    profile: bool = field(False, "also time every op")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedPhones(Phones):
    """The phones of an export."""

    delegate: str = field("xnnpack", "what runs the ops on the phone that it can")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(Timing):
    """How an export times its files."""

    runners: tuple[str, ...] = field(
        ("host",), "host, android; empty: nothing is timed"
    )
    android: ExportedPhones = ExportedPhones()


# Each kind of step that makes a model smaller.
STEPS: dict[str, type[Retraining]] = {
    "width": Width,
    "slim": Slim,
    "prune": Prune,
    "factorize": Factorize,
    "distill": Distill,
    "sparsify": Sparsify,
    "cluster": Cluster,
    "quantize": Quantize,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(fields.Checked):
    """All that an export can be told."""

    seed: int = field(0, "of weights, samples and order")
    task: str = field("auto", "by the model and the data, or a name in tasks.TASKS")
    model: Model = Model()
    data: Data = Data()
    training: Training = Training()
    steps: tuple[str, ...] = field(
        (),
        "steps in their order, with options for this one step: "
        "width:0.5,slim:0.6; empty: `prune` and `factorize`, where they have a method",
    )
    width: Width = Width()
    slim: Slim = Slim()
    prune: Prune = Prune()
    factorize: Factorize = Factorize()
    distill: Distill = Distill()
    sparsify: Sparsify = Sparsify()
    cluster: Cluster = Cluster()
    quantize: Quantize = Quantize()
    convert: Convert = Convert()
    quantization: Quantization = Quantization()
    verify: Verify = Verify()
    benchmark: Benchmark = Benchmark()


# "training.epochs" -> its field.
FIELDS = fields.walk(Config())
limits = fields.limits
