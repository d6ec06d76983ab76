"""Which file is better than another, by rows written by hand."""

import pytest

from tfslim import report


def row(name, size, db, ms=None):
    time = None if ms is None else 1000 * ms
    return {"name": name, "size_bytes": size, "sqnr_db": db, "p50_us": time}


FLOAT = row("float32", 400_000, 200.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        # All is well: INT8 is the smallest and fastest, float16 the most right.
        ([row("int8", 110_000, 30, 0.5), row("float16", 200_000, 70, 1.0)], []),
        (
            [row("int8", 110_000, 30, 1.41), row("dynamic_int8", 105_000, 38, 0.9)],
            [("int8 is slower than float32 (1.41 against 1 ms)", "take dynamic_int8")],
        ),
        (
            [row("int8", 110_000, 30, 1.41), row("dynamic_int8", 105_000, 38, 1.3)],
            [("int8 is slower", "only smaller"), ("dynamic_int8 is slower", "only")],
        ),
        (
            [row("int8", 110_000, 0.5, 0.5), row("dynamic_int8", 105_000, 38, 0.9)],
            [
                (
                    "int8 has an error as large as the signal (0.5 dB)",
                    "dynamic_int8 (105",
                )
            ],
        ),
        ([row("int8", 110_000, 0.5, 0.5)], [("int8 has an error", "take float32")]),
        (
            [row("int8", 110_000, 20, 0.95), row("dynamic_int8", 105_000, 38, 0.9)],
            [("int8 (110 kB", "no better in anything than dynamic_int8 (105 kB")],
        ),
        (  # What was given is float16 already.
            [row("int8", 110_000, 30, 1.41), row("float16", 399_000, 200, 1.0)],
            [("int8 is slower than float32", "it is only smaller")],
        ),
        # Smaller by a fifth is better in something; so is what was not measured.
        ([row("int8", 80_000, 20, 0.95), row("dynamic_int8", 105_000, 38, 0.9)], []),
        ([row("int8", 110_000, 20, 0.95), row("dynamic_int8", 105_000, 38)], []),
        ([row("int8", 110_000, None, 0.9), row("float16", 105_000, None, 0.5)], []),
    ],
)
def test_what_is_said(rows, wanted):
    found = report.better_files([FLOAT, *rows])
    assert len(found) == len(wanted)
    for note, parts in zip(found, wanted, strict=True):
        assert all(part in note for part in parts), note


def test_without_times_size_and_error_decide():
    rows = [row("float32", 400, 200.0), row("int8", 110, 20), row("dynamic", 90, 38)]
    (note,) = report.better_files(rows)
    assert note.startswith("int8 (0 kB, 20.0 dB) is no better")


def test_microseconds_are_noise():
    quick = row("float32", 400, 200.0, 0.004)
    assert report.better_files([quick, row("int8", 110, 30, 0.007)]) == []
    assert report.is_slower(row("int8", 110, 30, 0.02), quick)
