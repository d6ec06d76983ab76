"""What collecting statistics costs, against plain inference of the same samples.

  TFSLIM_DATA=... python -m benchmarks.collection_cost
  TFSLIM_DATA=... python -m benchmarks.collection_cost --models=resnet8,vww --rounds=9

Each round runs a float file over the samples plainly, one at a time with XNNPACK and
one thread, then gathers `minmax`'s extremes, the histograms and the exact histograms.
Time is the process's CPU time from the file's bytes to the last sample; ratios are
medians over rounds, each against the plain runs of its own round. ResNet-8 and visual
wake words are MLPerf Tiny's, the rest comes from the zoo with random weights; samples
are uniform noise. Goal: 1.5 for the histograms, 3.5 for the exact ones.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import record
from tfslim import tflite
from tfslim.quantization.ranges import collect
from tfslim.quantization.ranges.statistics import Extremes, Histogram

FILES = {"resnet8": "pretrainedResnet.tflite", "vww": "vww_96_float.tflite"}
MODELS = (*FILES, "mobilenet_v1", "mobilenet_v2", "alexnet")
STATISTICS = {
    "minmax": Extremes,
    "histogram": Histogram,
    "exact": functools.partial(Histogram, exact=True),
}


def read(name: str) -> bytes:
    if name in FILES:
        folder = Path(os.environ["TFSLIM_DATA"]) / "models/tflite"
        return (folder / FILES[name]).read_bytes()
    import tfslim

    return tfslim.convert_model(tfslim.build_model(name)).tflite


def images(model: bytes, count: int) -> Iterator[np.ndarray]:
    """Sixteen random images over and over: making them would count, too."""
    shape = tflite.read(model).inputs[0].shape
    random = np.random.default_rng(0)
    few = [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(16)]
    return itertools.islice(itertools.cycle(few), count)


def plain(model: bytes, samples: Iterator[np.ndarray]) -> None:
    runner = tflite.Runner(model)
    for sample in samples:
        runner.set_inputs(sample)
        runner.invoke()


def seconds(run: Callable[..., object], model: bytes, count: int, **options) -> float:
    samples = images(model, count)
    start = time.process_time()
    run(model, samples, **options)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models.split(","):
        model, count = read(name), arguments.samples
        rounds = []
        for _ in range(arguments.rounds):
            times = {"plain": seconds(plain, model, count)}
            for key, statistic in STATISTICS.items():
                times[key] = seconds(collect, model, count, statistic=statistic)
            rounds.append(times)
        row = {
            "model": name,
            "plain_ms": statistics.median(r["plain"] for r in rounds) / count * 1e3,
            **{
                key: statistics.median(r[key] / r["plain"] for r in rounds)
                for key in STATISTICS
            },
            "rounds_s": rounds,
        }
        rows.append(row)
        print({k: v for k, v in row.items() if k != "rounds_s"}, flush=True)
    record.save(
        "collection_cost",
        rows,
        samples=arguments.samples,
        load_at_end=os.getloadavg()[0],
    )


if __name__ == "__main__":
    main()
