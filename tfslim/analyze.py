"""Says what the zeros in a .tflite are worth: bytes, and perhaps time.

  python -m tfslim.analysis model.tflite
  python -m tfslim.analysis model.tflite --store_sparse=smaller.tflite

The second form also writes the file with its kernels in the sparse format, which is
smaller, and which alone makes XNNPACK use its sparse kernels on a phone.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tfslim import cli, errors


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    text, number = flags.DEFINE_string, flags.DEFINE_integer
    text("model", None, "The .tflite; may also stand alone.", flag_values=values)
    text("store_sparse", None, "Where to write the sparse file.", flag_values=values)
    number("num_runs", 50, "Timed runs; 0: no latency.", flag_values=values)
    number("num_threads", 1, "Threads of the timed runs.", flag_values=values)
    flags.DEFINE_bool(
        "overwrite", False, "Replace an existing file.", flag_values=values
    )


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import analysis, benchmark, files, tflite

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: python -m tfslim.analysis model.tflite."
        )
    out = Path(values.store_sparse) if values.store_sparse else None
    if out is not None and out.exists() and not values.overwrite:
        raise errors.ConfigError(f"{out} exists. Pass --overwrite to replace it.")
    if out is not None:
        files.require_writable(out, "--store_sparse")
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


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.analysis", doc, define_flags, _run, argv, plain="model")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
