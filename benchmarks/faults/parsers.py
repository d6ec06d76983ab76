"""What tfslim reads: for each kind a good file, its damages, and who takes it."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.faults import mutate

Damage = Callable[[bytes, random.Random], bytes]


@dataclasses.dataclass(frozen=True)
class Parser:
    """A kind of file that may come damaged.

    Attributes:
        name: of the kind.
        file: what the damaged file is called.
        seeds: good files of the kind.
        damages: one of them is done.
        take: opens the file at a path, as a user's command would.
        share: of all inputs.
    """

    name: str
    file: str
    seeds: Sequence[bytes]
    damages: Sequence[Damage]
    take: Callable[[Path], object]
    share: int


def all_parsers(inputs: Path) -> list[Parser]:
    """Returns the parsers; `inputs` is a folder of `work.write_inputs`.

    TensorFlow is in memory already where this is called.
    """
    return [
        *_models(inputs),
        *_settings(inputs),
        *_data(inputs),
        *_darknet(),
        Parser(
            "benchmark_model's output",
            "said.txt",
            [_SAID],
            [mutate.damage_bytes],
            _take_output,
            6,
        ),
    ]


def _models(inputs: Path) -> list[Parser]:
    import tfslim

    tflite = (inputs / "model.tflite").read_bytes()
    samples = [np.random.default_rng(0).random((1, 8, 8, 1)).astype("float32")]
    int8 = tfslim.quantize_tflite(tflite, "int8", samples=samples * 4).tflite
    archive = (inputs / "model0.keras").read_bytes()
    old, h5 = _keras2_files()

    def quantize(path: Path) -> None:
        tfslim.quantize_tflite(path.read_bytes(), "dynamic_int8")

    members = [
        mutate.in_archive("config.json", mutate.damage_json),
        mutate.in_archive("metadata.json", mutate.damage_json),
        mutate.in_archive("model.weights.h5", mutate.damage_bytes),
        mutate.damage_bytes,
    ]
    flat = [mutate.in_tflite, mutate.in_tflite, mutate.damage_bytes]
    return [
        Parser(".tflite", "a.tflite", [tflite, int8], flat, quantize, 12),
        Parser(".keras", "a.keras", [archive, old], members, tfslim.load_model, 9),
        Parser(
            ".h5",
            "a.h5",
            [h5],
            [mutate.in_h5, mutate.damage_bytes],
            tfslim.load_model,
            8,
        ),
    ]


def _keras2_files() -> tuple[bytes, bytes]:
    import tf_keras

    layers = tf_keras.layers
    start = tf_keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="relu")(start)
    x = layers.BatchNormalization()(x) + 1.0
    end = layers.Dense(3, activation="softmax")(layers.Flatten()(x))
    model = tf_keras.Model(start, end)
    files = []
    for suffix in (".keras", ".h5"):
        path = Path.cwd() / f"seed{suffix}"  # Children at once share `inputs`.
        model.save(path)
        files.append(path.read_bytes())
    return files[0], files[1]


def _settings(inputs: Path) -> list[Parser]:
    import tfslim
    from tfslim import config, quantization

    tflite = (inputs / "model.tflite").read_bytes()
    samples = [np.random.default_rng(0).random((1, 8, 8, 1)).astype("float32")] * 4
    done = tfslim.quantize_tflite(tflite, "int8", samples=samples)
    ranges_file = Path.cwd() / "seed.ranges.json"
    quantization.write_ranges(ranges_file, done.calibration, model=tflite)
    rule = {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {
            "activation_tensor_config": {
                "num_bits": 8,
                "symmetric": False,
                "granularity": "TENSORWISE",
                "dtype": "INT",
            },
            "weight_tensor_config": {
                "num_bits": 8,
                "symmetric": True,
                "granularity": "CHANNELWISE",
                "dtype": "INT",
            },
            "compute_precision": "INTEGER",
        },
    }

    def take_recipe(path: Path) -> None:
        recipe = quantization.get_recipe(str(path))
        tfslim.quantize_tflite(tflite, recipe, samples=samples)

    def take_ranges(path: Path) -> None:
        ranges = quantization.read_ranges(path)
        tfslim.quantize_tflite(tflite, "int8", ranges=ranges)

    fields = json.dumps(config.default_config().to_dict(), default=list).encode()
    damages = [mutate.damage_json, mutate.damage_json, mutate.damage_bytes]
    return [
        Parser(
            "recipe.json",
            "recipe.json",
            [json.dumps([rule]).encode()],
            damages,
            take_recipe,
            9,
        ),
        Parser(
            "ranges.json",
            "ranges.json",
            [ranges_file.read_bytes()],
            damages,
            take_ranges,
            9,
        ),
        Parser(
            "config.json",
            "config.json",
            [fields],
            damages,
            lambda path: config.load(str(path)),
            16,
        ),
    ]


def _data(inputs: Path) -> list[Parser]:
    from PIL import Image

    import tfslim

    made = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), "uint8")
    Image.fromarray(pixels).save(made, "JPEG")

    def take_npz(path: Path) -> None:
        found = tfslim.load_data(f"npz:{path}")
        found.train.inputs([0])
        found.test.inputs([0])

    def take_photo(path: Path) -> None:
        for part in ("train", "test"):
            for name in ("a", "b"):
                folder = path.parent / "photos" / part / name
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(2):
                    (folder / f"{number}.jpg").write_bytes(path.read_bytes())
        found = tfslim.load_data(f"folder:{path.parent / 'photos'}")
        found.train.inputs([0])

    return [
        Parser(
            ".npz",
            "a.npz",
            [(inputs / "data.npz").read_bytes()],
            [mutate.in_npz, mutate.damage_bytes],
            take_npz,
            13,
        ),
        Parser(
            "photo",
            "a.jpg",
            [made.getvalue()],
            [mutate.damage_bytes],
            take_photo,
            6,
        ),
    ]


def _darknet() -> list[Parser]:
    from tfslim.detection import darknet
    from tfslim.detection.darknet import weights

    def take_cfg(path: Path) -> None:
        darknet.read_darknet(path)

    def take_weights(path: Path) -> None:
        cfg = path.with_suffix(".cfg")
        cfg.write_bytes(_CFG)
        darknet.read_darknet(cfg, path)

    network = darknet._read_network  # The only reader without weights.
    place = Path(__file__).with_name("small.cfg")
    found = network(place)
    good = weights.encode(weights.Header(), weights.random(found))
    return [
        Parser(".cfg", "a.cfg", [_CFG], [mutate.damage_bytes], take_cfg, 8),
        Parser(".weights", "a.weights", [good], [mutate.damage_bytes], take_weights, 4),
    ]


_CFG = Path(__file__).with_name("small.cfg").read_bytes()
_SAID = b"""INFO: STARTING!
INFO: Loaded model /data/local/tmp/a.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Inference timings in us: Init: 1200, \
First inference: 3000, Warmup (avg): 2000.5, Inference (avg): 1999
count=50 first=2100 curr=1990 min=1900 max=2500 avg=1999 std=30
"""


def _take_output(path: Path) -> None:
    from tfslim.benchmark import parse

    parse.parse(path.read_text(errors="replace"))
