"""Runs one file in one program; the only part of tfslim that is in its process.

It runs under other Pythons, too (MediaPipe's environment, an emulated one of arm64), so
it needs the standard library and that program's packages alone. Called as
`python -I child.py KIND FOLDER`; the folder holds the job and gets its results.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# (outputs [runs, *shape] in the file's order, facts)
Result = tuple[list[Any], dict[str, Any]]


def interpreter(job: Path, options: dict[str, Any]) -> Result:
    """Runs the LiteRT Interpreter with XNNPACK, on one thread."""
    litert = importlib.import_module("ai_edge_litert.interpreter")
    runner = litert.Interpreter(model_path=str(job / "model.tflite"), num_threads=1)
    runner.allocate_tensors()
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    found: list[list[Any]] = [[] for _ in outputs]
    for sample in _runs(job):
        runner.reset_all_variables()
        for detail, array in zip(inputs, sample, strict=True):
            runner.set_tensor(detail["index"], array)
        runner.invoke()
        for rows, detail in zip(found, outputs, strict=True):
            rows.append(runner.get_tensor(detail["index"]))
    nodes = [n for n in runner._get_ops_details() if n["op_name"] == "DELEGATE"]
    partitions = [
        {key: [int(tensor) for tensor in node[key]] for key in ("inputs", "outputs")}
        for node in nodes
    ]
    return found, {"partitions": partitions}


def compiled(job: Path, options: dict[str, Any]) -> Result:
    """Runs LiteRT 2's CompiledModel on the accelerator that the options name."""
    import numpy as np

    litert = importlib.import_module("ai_edge_litert.compiled_model")
    accelerator = getattr(litert.HardwareAccelerator, options["accelerator"])
    path = str(job / "model.tflite")
    model = litert.CompiledModel.from_file(path, hardware_accel=accelerator)
    given, wanted = model.create_input_buffers(0), model.create_output_buffers(0)
    # By name, as the order of a signature is not that of the graph.
    signature = model.get_signature_by_index(0)
    about = model.get_input_tensor_details(signature["key"])
    places = [options["inputs"].index(about[n]["index"]) for n in signature["inputs"]]
    found: dict[int, list[Any]] = {}
    ends = model.get_output_tensor_details(signature["key"])
    for sample in _runs(job):
        for buffer, place in zip(given, places, strict=True):
            buffer.write(sample[place])
        model.run_by_index(0, given, wanted)
        for buffer, name in zip(wanted, signature["outputs"], strict=True):
            shape = tuple(ends[name]["shape"])
            size = int(np.prod(shape, dtype=np.int64))
            array = buffer.read(size, np.dtype(ends[name]["dtype"])).reshape(shape)
            found.setdefault(ends[name]["index"], []).append(array)
    whole = bool(model.is_fully_accelerated())
    ordered = [found[index] for index in options["outputs"]]
    return ordered, {"is_fully_accelerated": whole}


def mediapipe(job: Path, options: dict[str, Any]) -> Result:
    """Runs MediaPipe's ImageClassifier, the core of its Kotlin and Swift API."""
    import numpy as np

    mp = importlib.import_module("mediapipe")
    tasks = importlib.import_module("mediapipe.tasks.python")
    vision = tasks.vision
    content = (job / "model.tflite").read_bytes()
    chosen = vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=content), max_results=-1
    )
    rows, names = [], {}
    with vision.ImageClassifier.create_from_options(chosen) as classifier:
        for picture in np.asarray(options["pixels"], np.uint8):
            image = mp.Image(mp.ImageFormat.SRGB, np.ascontiguousarray(picture))
            (head,) = classifier.classify(image).classifications
            row = np.zeros((1, options["classes"]), np.float32)
            for category in head.categories:
                row[0, category.index] = category.score
                names[category.index] = category.category_name
            rows.append(row)
    labels = [names.get(index) or "" for index in range(options["classes"])]
    return [rows], {"labels": labels}


def _runs(job: Path) -> Iterator[list[Any]]:
    import numpy as np

    with np.load(job / "inputs.npz", allow_pickle=False) as stored:
        arrays = [stored[name] for name in stored.files]
    return map(list, zip(*arrays, strict=True))


def _versions() -> dict[str, str]:
    found = {}
    for package in ("ai-edge-litert", "mediapipe", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(kind: str, folder: str) -> None:
    """Runs the job in `folder` and leaves outputs.npz and facts.json there."""
    job = Path(folder)
    options = json.loads((job / "options.json").read_text(encoding="utf-8"))
    sys.path[:0] = options["paths"]
    import numpy as np

    kinds = {"interpreter": interpreter, "compiled": compiled, "mediapipe": mediapipe}
    outputs, facts = kinds[kind](job, options)
    np.savez(job / "outputs.npz", *(np.stack(rows) for rows in outputs))
    facts |= {
        "versions": _versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    (job / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
