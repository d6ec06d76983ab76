"""A small YOLO before and after slimming and INT8: does it still find the objects?

After Li, "The Optimization Strategy of Deep Learning Algorithm Based on Image
Recognition and Object Detection", sections 3.2 and 3.3 (YOLOv3 without 60% of its
channels, by batch normalization's gamma), at a size that trains on two cores:
YOLOv3-tiny at half width and 192 pixels on made-up scenes of four kinds of shapes, on
photographs where there are some ($TFSLIM_DATA/coco/images, or --photos), each
photograph in one split only.

Trains, trains on under an L1 penalty on gamma, removes 60% of all channels, fine-tunes,
and quantizes in five ways: every head as it is ("raw"); boxes, objectness and classes
of a head apart, each with a scale of its own ("split"); the heads' last convolutions
in float; boxes and scores computed inside the file, in INT8 or in float. Goals:
the slim network within 1 point of mAP@0.5 of the whole one, the best INT8 file within
2 points of the float one.

  python -m benchmarks.papers.paper_001_small_yolo --work_dir=/tmp/small_yolo

Models and their heads stay in work_dir; a run that was killed goes on from them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record

SIZE, NUM_CLASSES, ALPHA = 192, 4, 0.5
RATIO, DIVISOR = 0.6, 8
# Of the L1 penalty. The loss is a sum over the boxes of an image, about a hundred
# times that of a classifier, whose 1e-4 the paper's source takes.
STRENGTH = 0.01
TRAINING = {"batch_size": 8, "augment": ("flip",), "seed": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Data and heads, the same for all stages."""

    data: Any
    heads: tuple[Any, ...]
    task: Any
    preprocessing: Any

    def training(self) -> dict[str, Any]:
        """Returns what `fit` takes."""
        from tfslim.data.tf_data import to_tf_data

        def batches(examples: Any, **options: Any) -> Any:
            return to_tf_data(
                examples,
                self.preprocessing,
                task=self.task,
                batch_size=TRAINING["batch_size"],
                seed=TRAINING["seed"],
                **options,
            )

        return {
            "train": lambda epoch: batches(
                self.data.train, shuffle=True, augment=TRAINING["augment"], epoch=epoch
            ),
            "validation": batches(self.data.validation),
            "task": self.task,
        }

    def precision(self, predict: Callable[[Any], Any]) -> dict[str, float]:
        """Returns the mean average precision on the test split, in percent."""
        from tfslim import data
        from tfslim.detection.evaluation import evaluate_detector

        batches = data.batches(self.data.test, self.preprocessing, batch_size=50)
        found = evaluate_detector(predict, batches, heads=self.heads)
        return {
            "map_50": 100 * found.map_50,
            "map_50_95": 100 * found.map_50_95,
        }


def prepare(photos: str, num_examples: int) -> Case:
    """Draws the scenes once and finds their anchors."""
    from tfslim import data, detection
    from tfslim.detection.anchors import heads_for
    from tfslim.detection.task import detection_task
    from tfslim.preprocessing import preset

    spec = f"scenes:classes={NUM_CLASSES},size={SIZE},examples={num_examples}"
    dataset = data.load(spec + (f",photos={photos}" if photos else ""))

    def in_memory(examples: Any) -> Any:
        images = examples.inputs(np.arange(len(examples)))
        return data.ArrayExamples(images, examples.targets)

    parts = {k: in_memory(getattr(dataset, k)) for k in ("train", "validation", "test")}
    shape = (SIZE, SIZE, 3)
    like = detection.with_classes(detection.YOLOV3_TINY_HEADS, NUM_CLASSES)
    heads = heads_for(dataset.train.targets, like, input_shape=shape)
    return Case(
        data=dataclasses.replace(dataset, **parts),
        heads=heads,
        task=detection_task(heads),
        preprocessing=preset("unit", shape),
    )


def cost(model: Any) -> dict[str, int]:
    """Returns what a Keras model costs."""
    from tfslim.graph import count, keras

    counts = count.count(keras.read(model))
    return {"params": counts.params, "macs": counts.macs}


def stage(
    name: str, folder: Path, case: Case, make: Callable[[], Any]
) -> tuple[Any, dict[str, Any]]:
    """Makes a model and measures it, or takes both from an earlier run."""
    import tf_keras

    model_file, row_file = folder / f"{name}.keras", folder / f"{name}.json"
    if not row_file.exists():
        started = time.perf_counter()
        model, more = make()
        row = {
            "stage": name,
            "seconds": round(time.perf_counter() - started, 1),
            # Of the last minute; above 2 others used the cores, too.
            "load_average": os.getloadavg()[0],
            **cost(model),
            **case.precision(model.predict_on_batch),
            **more,
        }
        model.save(model_file)
        row_file.write_text(json.dumps(row))
        print(json.dumps(row), flush=True)
    # A later stage trains its own copy.
    model = tf_keras.models.load_model(model_file, compile=False)
    return model, json.loads(row_file.read_text())


def slim(
    case: Case, folder: Path, epochs: dict[str, int]
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Runs the stages in Keras: name -> model and figures."""
    import tfslim
    from tfslim.training import FitOptions

    training = tfslim.Training(
        **case.training(), options=FitOptions(seed=TRAINING["seed"])
    )

    def train() -> tuple[Any, dict[str, Any]]:
        model = tfslim.build_model(
            "yolov3_tiny",
            input_shape=(SIZE, SIZE, 3),
            num_classes=NUM_CLASSES,
            alpha=ALPHA,
        )
        training.run(model, epochs=epochs["train"], learning_rate=2e-3)
        return model, {"epochs": epochs["train"]}

    def sparse() -> tuple[Any, dict[str, Any]]:
        callback = tfslim.callbacks.NetworkSlimming(STRENGTH)
        training.run(
            whole,
            [callback],
            epochs=epochs["sparse"],
            best_from_epoch=epochs["sparse"] - 1,
            learning_rate=1e-3,
        )
        return whole, {
            "epochs": epochs["sparse"],
            "gammas_below_0.01": callback.history[-1]["sparsity"],
        }

    def cut() -> tuple[Any, dict[str, Any]]:
        smaller, report = tfslim.prune_channels(
            sparse_model,
            criterion=tfslim.Scoring(criterion="bn_scale", normalization="none"),
            budget=tfslim.Budget(pruning_ratio=RATIO, scope="global", divisor=DIVISOR),
        )
        return smaller, {"proof_error": report.error}

    def fine_tune() -> tuple[Any, dict[str, Any]]:
        training.run(smaller, epochs=epochs["fine_tune"], learning_rate=1e-3)
        return smaller, {"epochs": epochs["fine_tune"]}

    done = {}
    whole, _ = done["trained"] = stage("trained", folder, case, train)
    sparse_model, _ = done["sparse"] = stage("sparse", folder, case, sparse)
    smaller, _ = done["cut"] = stage("cut", folder, case, cut)
    done["fine_tuned"] = stage("fine_tuned", folder, case, fine_tune)
    return done


# Variant -> format of the file (see tfslim.detection.outputs), layers left in float.
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "raw": ("raw", {}),
    "split": ("split", {}),
    "raw_float_heads": ("raw", {"head32": "float32", "head16": "float32"}),
    "decoded": ("decoded", {}),
    "decoded_in_float": ("decoded", {"decode_*": "float32"}),
}


def precision_of_file(case: Case, form: str, file: bytes) -> dict[str, float]:
    """Returns the precision of a `.tflite` of a format, in percent."""
    from tfslim import data, evaluation
    from tfslim.detection import mean_average_precision, nms, outputs
    from tfslim.detection.evaluation import EVERYTHING, truths_of

    predict = evaluation.Predictor(file)
    if form == "raw":
        return case.precision(predict)
    if form == "split":
        size = (SIZE, SIZE)
        return case.precision(
            lambda x: outputs.join_parts(predict(x), case.heads, size=size)
        )
    detections, truths = [], []
    for x, targets in data.batches(case.data.test, case.preprocessing, batch_size=50):
        for boxes, scores in zip(*predict(x), strict=True):
            detections.append(nms(boxes.clip(0, 1), scores, EVERYTHING))
        truths += truths_of(targets)
    found = mean_average_precision(detections, truths)
    return {"map_50": 100 * found.map_50, "map_50_95": 100 * found.map_50_95}


def quantize(case: Case, name: str, model: Any, *, timed: bool) -> list[dict[str, Any]]:
    """Measures a model as float file and in all ways of INT8."""
    import tfslim
    from tfslim import benchmark, data
    from tfslim.detection import outputs
    from tfslim.graph import keras

    graph = keras.read(model)
    forms = {
        "raw": graph,
        "split": outputs.split_heads(graph, case.heads),
        "decoded": outputs.decode_heads(graph, case.heads),
    }
    floats = {
        form: tfslim.convert_model(keras.write(each, "tf_keras")).tflite
        for form, each in forms.items()
    }
    samples = list(
        data.calibration_samples(case.data.train, case.preprocessing, num_samples=300)
    )
    files = {"float32": ("raw", floats["raw"])}
    for variant, (form, layers) in VARIANTS.items():
        done = tfslim.quantize_tflite(
            floats[form], "int8", samples=samples, layers=layers
        )
        files[f"int8_{variant}"] = (form, done.tflite)
    latencies: dict[str, Any] = {}
    if timed:
        timings = benchmark.run_host(
            {variant: file for variant, (_, file) in files.items()},
            benchmark.Options(num_runs=100, rounds=10),
        )
        for variant, timing in zip(files, timings, strict=True):
            latencies[variant] = {"p50_us": timing.latency.p50}
    rows = []
    for variant, (form, file) in files.items():
        rows.append(
            {
                "model": name,
                "file": variant,
                "size_bytes": len(file),
                **latencies.get(variant, {}),
                **precision_of_file(case, form, file),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work_dir", default="~/.cache/tfslim/small_yolo")
    parser.add_argument("--photos", default=None, help="'' draws textures instead")
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--epochs", default="14,6,8", help="train, sparse, fine-tune")
    parser.add_argument("--time", action="store_true", help="on an idle machine")
    parser.add_argument("--note", default="", help="on the machine, for the result")
    options = parser.parse_args()
    photos = options.photos
    if photos is None:
        photos = f"{os.environ.get('TFSLIM_DATA', '')}/coco/images"
        photos = photos if Path(photos).is_dir() else ""
    folder = Path(options.work_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train", "sparse", "fine_tune")
    epochs = dict(zip(names, map(int, options.epochs.split(",")), strict=True))
    case = prepare(photos, options.examples)
    heads = [head.to_json() for head in case.heads]
    (folder / "heads.json").write_text(json.dumps(heads))
    stages = slim(case, folder, epochs)
    files = []
    for name in ("trained", "fine_tuned"):
        files += quantize(case, name, stages[name][0], timed=options.time)
    record.save(
        "paper_001_small_yolo",
        {"stages": [row for _, row in stages.values()], "files": files},
        model=f"yolov3_tiny, alpha {ALPHA}",
        input_side=SIZE,
        scenes=options.examples,
        test_images=len(case.data.test),
        backgrounds="photographs" if photos else "textures",
        pruning_ratio=RATIO,
        divisor=DIVISOR,
        strength=STRENGTH,
        note=options.note,
    )


if __name__ == "__main__":
    main()
