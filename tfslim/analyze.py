"""Says what the zeros in a .tflite are worth: bytes, and perhaps time.

  tfslim analyze model.tflite
  tfslim analyze model.tflite --out=smaller.tflite

The second form also writes the file with its kernels in the sparse format, which is
smaller, and which alone makes XNNPACK use its sparse kernels on a phone.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from absl import flags

from tfslim import cli, errors


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("model", str, "The .tflite."),
        ("out", str, "Where to write the file with its kernels in the sparse format."),
        ("num_runs", 50, "Timed runs; 0: no latency."),
        ("num_threads", 1, "Threads of the timed runs."),
        ("overwrite", False, "Replace an existing file."),
    )


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import analysis, benchmark, files, tflite

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: tfslim analyze model.tflite."
        )
    out = Path(values.out) if values.out else None
    if out is not None and out.exists() and not values.overwrite:
        raise errors.ConfigError(f"{out} exists. Pass --overwrite to replace it.")
    if out is not None:
        files.require_writable(out, "--out")
    data = tflite.open_file(values.model)
    advice = analysis.advise_sparsity(
        data,
        measure_latency=values.num_runs > 0,
        options=benchmark.Options(
            num_runs=max(values.num_runs, 1), num_threads=values.num_threads
        ),
    )
    cli.say(str(advice))
    if out is not None:
        files.write_bytes(out, tflite.store_sparse(data))
        cli.say(f"{out} is written.")


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.analyze",
    __doc__ or "",
    define_flags,
    _run,
    plain="model",
    old={"store_sparse": "out"},
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
