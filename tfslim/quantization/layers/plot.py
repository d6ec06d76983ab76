"""The sensitivity of layers as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, files
from tfslim.quantization.layers.sensitivity import LayerError

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path | str) -> None:
    """Raises ConfigError unless a plot can be written to `path`."""
    if Path(path).suffix not in SUFFIXES:
        raise errors.ConfigError(
            f"'{path}' is no picture that can be drawn: expected a name ending with "
            f"{', '.join(SUFFIXES)}."
        )
    _figure()


def plot_layers(rows: Sequence[LayerError], path: Path | str) -> None:
    """Draws the SQNR of every layer that `rank_layers` quantized alone.

    Layers stand in the order given, the worst on top; a line marks the worst sample.

    Args:
        rows: as `rank_layers` gives them.
        path: file to write, .png, .svg or .pdf.

    Raises:
        ConfigError: another suffix, or matplotlib is missing.
    """
    check_plot(path)
    if not rows:
        raise errors.ConfigError("No layer is quantized: there is nothing to draw.")
    # Without pyplot no window system is needed, and nothing stays in memory.
    figure = _figure()(figsize=(8, 1.5 + 0.22 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    values = [row.sqnr_db for row in rows]
    axes.barh(places, values, color="#4c78a8", label="mean of the samples")
    worst = [row.worst_sample_db for row in rows]
    axes.plot(worst, places, "|", color="#d62728", markersize=9, label="worst sample")
    axes.set_yticks(places, [f"{row.layer or row.tensor} ({row.op})" for row in rows])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("SQNR of the worst output, this layer alone in INT8 (dB)")
    figure.legend(loc="outside upper center", ncols=2)
    drawn = io.BytesIO()
    # No date: the same rows give the same file.
    suffix = Path(path).suffix[1:]
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with _plain_svg():
        figure.savefig(drawn, format=suffix, dpi=150, metadata=dates[suffix])
    files.write_bytes(path, drawn.getvalue())


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise errors.MissingExtraError(
            "matplotlib", extra="plots", needed_for="A plot of the sensitivity"
        ) from error
    return Figure


def _plain_svg() -> Any:
    """Keeps text as text, and the names of parts the same from run to run."""
    import matplotlib

    return matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfslim"})
