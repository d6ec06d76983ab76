"""A recorded result, and made-up extras of every kind, for the tests of the page."""

import base64
import copy
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

EVIL = "\x1b[31m<img src=x onerror=a()>\n# Forged | \"x\" '`'</script>\u202e"


def recorded():
    """The result of an export of a small network, channels removed."""
    return json.loads((Path(__file__).parent / "result.json").read_text())


def valid(result, *ratios):
    """The same with times that are valid, the first file first."""
    result = copy.deepcopy(result)
    rows = [result["original"], *result["variants"]]
    for row, ratio in zip(rows, ratios, strict=True):
        row["benchmark"]["invalid"] = {}
        row["benchmark"]["latency"] |= {"p50": 2000.0 * ratio, "p90": 2200.0 * ratio}
        if row["comparison"]:
            verdict = "slower" if ratio > 1.01 else "faster"
            verdict = verdict if abs(ratio - 1) > 0.01 else "no difference found"
            row["comparison"] |= {"ratio": ratio, "verdict": verdict}
    return result


def picture(seed, size=32):
    """A data URI of a PNG."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (size // 4, size // 4, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(out, "png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def extras(name="conv_1", boxes=False):
    """Extras of every kind."""
    random = np.random.default_rng(0)
    counts, edges = np.histogram(random.normal(0, 1, 10_000), 60)
    samples = []
    for seed in range(6):
        answers = [{"answer": name, "score": s} for s in (0.91, 0.89)]
        if seed == 2:
            answers[1]["answer"] = "another"
        if boxes:
            for shift, answer in enumerate(answers):
                box = [0.1, 0.2, 0.6 + shift / 50, 0.7]
                answer["boxes"] = [{"box": box, "label": name, "score": 0.8}]
        samples.append(
            {
                "title": f"test image {seed}",
                "image": picture(seed),
                "label": "" if boxes else name,
                "float": answers[0],
                "int8": answers[1],
            }
        )
    return {
        "command": "tfslim export --model=mlp --data=digits",
        "samples": samples,
        "layers": [
            {"name": f"{name}_{i}", "before": 100.0 / (i + 1), "after": 40.0 / (i + 1)}
            for i in range(30)
        ],
        "histograms": [
            {
                "name": name,
                "edges": edges.tolist(),
                "counts": counts.tolist(),
                "thresholds": {"kl": [-2.5, 2.5], "minmax": [edges[0], edges[-1]]},
            }
        ],
        "gammas": [{"name": name, "edges": edges.tolist(), "counts": counts.tolist()}],
        "front": front(name),
        "sensitivity": [{"layer": name, "sqnr_db": 21.5}],
        "consumers": {
            "columns": ["LiteRT CPU", "MediaPipe"],
            "rows": [{"name": "int8", "cells": ["same answers", f"refuses: {name}"]}],
        },
        "code": {"labels.txt": "0\n1\n2\n", "Classifier.kt": f"// {name}\nval a = 1"},
    }


def front(name="cut"):
    """The content of `optimize.json` of a small search."""
    rows = [
        {
            "metric": 0.9 - 0.05 * number,
            "latency_us": 900.0 / (number + 1),
            "size_bytes": 40_000 // (number + 1),
            "meets": {"max_latency": number > 1, "max_drop": True},
            "candidate": {
                "name": f"{name} {number}",
                "kind": ("cut", "uniform")[number % 2],
                "predicted": {"latency_us": 880.0 / (number + 1)},
            },
        }
        for number in range(6)
    ]
    return {
        "baseline": {"float32": {**rows[0], "metric": 0.95, "latency_us": 1500.0}},
        "trials": rows,
        "final": [{**rows[2], "metric": 0.92, "folder": name}],
        "goal": {"max_latency_us": 400.0},
    }


def analysis(name="conv_1"):
    """What `tfslim analyze --json` writes of a small file, three ops of a name."""
    ops = [
        {
            "index": index,
            "op": "CONV_2D",
            "layer": name,
            "tensor": name,
            "work": {"params": 10 * index, "macs": 1000 * index},
            "intensity": 1.5,
            "us": None if index == 2 else 7.0 + index,
            "share": None if index == 2 else 0.5,
            "bound": "memory",
            "is_outside": False,
        }
        for index in range(3)
    ]
    total = {"size_bytes": 9000, "params": 30, "macs": 3000, "uncounted": []}
    return {
        "model": name,
        "total": total | {"whole_us": None},
        "ops": ops,
        "advice": [{"gain": 0.1, "action": name, "where": name, "text": name}],
        "separable": [],
        "kernels": [],
        "batch_norm": [],
        "dead": [],
        "against": None,
        "notes": [name],
    }
