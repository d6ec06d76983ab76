"""`tfslim optimize` on real data: budgets met, and held against uniform widths.

Each case is one call of the command, in a process of its own; trials chosen by
sensitivity and uniform widths of the same latency get the same training.

  python -m benchmarks.search --cases=resnet18_digits,mobilenet_v2_digits
  TFSLIM_DATA=... python -m benchmarks.search --cases=resnet20_cifar10 \
      --name=search_cifar10 --brief_epochs=1 --epochs=5 --seeds=0,1,2

Goals: on digits 4x the float baseline's speed within 1 point in 15 minutes; a family of
five from the CIFAR-10 ResNet-20 in 30 minutes; at each budget 1 point or 1.3x better
than uniform widths.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record

_CIFAR = "resnet20_cifar10"
# Times faster than the float baseline that is asked for on digits.
_SPEED_UP = 4.0


def _cifar_model(folder: Path) -> tuple[str, list[str]]:
    from benchmarks import networks

    data = Path(os.environ["TFSLIM_DATA"])
    weights = data / "models" / "weights" / "resnet20_cifar10_torch.npz"
    path = folder / "resnet20.keras"
    networks.cifar_resnet(20, weights).save(path)
    spec = f"npz:{data / 'cifar10' / 'cifar10_12k.npz'}"
    return str(path), [f"--data={spec}", "--config.model.preprocessing=torch"]


def _run(arguments: list[str], out: Path) -> float:
    """Runs the command; returns its seconds."""
    command = [sys.executable, "-m", "tfslim.optimize", *arguments, f"--out={out}"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def _float_us(out: Path) -> float:
    found = json.loads((out / "baseline" / "result.json").read_text())
    rows = {row["name"]: row for row in found["variants"]}
    latency: float = rows["float32"]["benchmark"]["latency"]["p50"]
    return latency


def compared(rows: list[dict]) -> list[dict]:
    """Holds each uniform width against the chosen trials that are no slower.

    Returns:
        A row for each uniform trial: points gained at its latency or less, and how
        many times faster the fastest trial is that is as good or better.
    """
    chosen = [row for row in rows if row["candidate"]["kind"] == "cut"]
    found = []
    for row in rows:
        if row["candidate"]["kind"] != "uniform":
            continue
        quick = [c for c in chosen if c["latency_us"] <= 1.03 * row["latency_us"]]
        good = [c for c in chosen if c["quality"] >= row["quality"]]
        points = [100 * (c["quality"] - row["quality"]) for c in quick]
        times = [row["latency_us"] / c["latency_us"] for c in good]
        found.append(
            {
                "uniform": row["candidate"]["name"],
                "points": max(points, default=None),
                "times": max(times, default=None),
            }
        )
    return found


def case(name: str, seed: int, folder: Path, training: list[str]) -> dict:
    out = folder / f"{name}_{seed}"
    options = [f"--config.seed={seed}", *training]
    if name == _CIFAR:
        model, own = _cifar_model(folder)
        seconds = _run([model, *own, *options, "--family=5"], out)
    else:
        command = [name.rsplit("_", 1)[0], "--data=digits", *options]
        # Cannot be met, which is said after the baseline; the next call takes that up.
        seconds = _run([*command, "--max_latency=0.001us"], out)
        limit = _float_us(out) / _SPEED_UP
        seconds += _run([*command, f"--max_latency={limit:.0f}us"], out)
    found = json.loads((out / "optimize.json").read_text())
    keys = ("quality", "latency_us", "size_bytes", "macs", "params", "meets")
    return {
        "case": name,
        "seed": seed,
        "seconds": seconds,
        "goal": found["goal"],
        "baseline": found["baseline"],
        "trials": [
            {
                "name": row["candidate"]["name"],
                "predicted_us": row["candidate"]["predicted"]["latency_us"],
                **{key: row[key] for key in keys},
            }
            for row in found["trials"]
        ],
        "final": [
            {"name": row["candidate"]["name"], **{key: row[key] for key in keys}}
            for row in found["final"]
        ],
        "prediction": found["prediction"],
        "against_uniform": compared(found["trials"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=f"resnet18_digits,{_CIFAR}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--brief_epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--name", default="search", help="of the result's file")
    parser.add_argument("--folder", help="keeps the searches, which go on from there")
    options = parser.parse_args()
    rows = []
    training = [f"--brief_epochs={options.brief_epochs}", f"--epochs={options.epochs}"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.cases.split(","):
            for seed in options.seeds.split(","):
                rows.append(case(name, int(seed), folder, training))
                print(json.dumps(rows[-1]), flush=True)
                conditions = {k: v for k, v in vars(options).items() if k != "name"}
                record.save(options.name, rows, **conditions)


if __name__ == "__main__":
    main()
