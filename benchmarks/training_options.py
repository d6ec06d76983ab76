"""What the options of `tfslim.fit` cost, against the default.

Images per second, and processor time per image, which other jobs on the machine disturb
less. ResNet-18 at 32 px in batches of 32, images shuffled and augmented by tf.data.
Every run is a process of its own, as op determinism stays on; the runs take turns. The
first epoch, with its trace, is not timed.

  python -m benchmarks.training_options
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import record

BATCH, STEPS, EPOCHS = 32, 6, 5
CASES = {
    "default": {},
    "deterministic": {"deterministic": True},
    "backup_dir": {"backup_dir": "a new folder"},
    "mixed_precision": {"mixed_precision": True},
    "keras 3 model": {},
}


def measure(case: str) -> tuple[float, float]:
    """Returns images per second and milliseconds of processor time per image."""
    import numpy as np
    import tf_keras

    import tfslim
    from tfslim import data, preprocessing
    from tfslim.data.tf_data import to_tf_data

    options = dict(CASES[case])
    if "backup_dir" in options:
        options["backup_dir"] = tempfile.mkdtemp()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (BATCH * STEPS, 32, 32, 3), np.uint8)
    y = rng.integers(0, 10, BATCH * STEPS)
    examples = data.ArrayExamples(x, y)
    model = tfslim.build_model("resnet18", input_shape=(32, 32, 3), num_classes=10)
    if case == "keras 3 model":
        model = tfslim.to_keras3(model)
    ends = []
    clock = tf_keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: ends.append(
            (time.perf_counter(), time.process_time())
        )
    )
    tfslim.fit(
        model,
        lambda epoch: to_tf_data(
            examples,
            preprocessing.preset("unit", (32, 32, 3)),
            task="classification",
            batch_size=BATCH,
            shuffle=True,
            augment=["flip", "shift"],
            epoch=epoch,
        ),
        task="classification",
        epochs=EPOCHS,
        callbacks=[clock],
        **options,
    )
    # From the second epoch's beginning to the last one's: with what ends an epoch.
    images = BATCH * STEPS * (EPOCHS - 2)
    wall, busy = (ends[-1][i] - ends[1][i] for i in (0, 1))
    return images / wall, 1000 * busy / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=CASES)
    arguments = parser.parse_args()
    if arguments.case:
        print(*measure(arguments.case))
        return
    speeds = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case, found in speeds.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_options", "--case", case],
                capture_output=True,
                text=True,
                check=True,
            )
            found.append([float(value) for value in done.stdout.split()[-2:]])
            print(case, found[-1], flush=True)
    medians = {
        case: [statistics.median(column) for column in zip(*found, strict=True)]
        for case, found in speeds.items()
    }
    rows = [
        {
            "case": case,
            "images_per_second": speed,
            "speed_of_default": speed / medians["default"][0],
            "cpu_ms_per_image": busy,
            "cpu_of_default": busy / medians["default"][1],
            "all": speeds[case],
        }
        for case, (speed, busy) in medians.items()
    ]
    print(json.dumps(rows, indent=2))
    record.save(
        "training_options",
        rows,
        model="resnet18 at 32 px",
        batch=BATCH,
        steps=STEPS,
        epochs=EPOCHS,
        load_average=os.getloadavg(),
    )


if __name__ == "__main__":
    main()
