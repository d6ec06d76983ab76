"""`report.md` and the terminal show names of others as text."""

import io
import json

import pytest

from tfslim import report
from tfslim.pipeline import doubts
from tfslim.report import table

EVIL = "\x1b[31m<img src=x onerror=a()>\n# Forged | `x` ```.keras"


def _row(name, **more):
    parity = {
        "num_samples": 9,
        "max_abs_error": 0.0,
        "relative_error": 0.0,
        "sqnr_db": 40.0,
        "agreement": 1.0,
    }
    return {
        "name": name,
        "against": "Keras",
        "size_bytes": 1000,
        "gzip_bytes": 900,
        "metric": 0.5,
        "parity": parity,
        "kept_float": [{"op": "ADD", "reason": EVIL}],
        **more,
    }


@pytest.fixture
def result():
    """A result of which every text may come from a stranger's file."""
    step = {
        "step": EVIL,
        "params": [2, 1],
        "macs": [2, 1],
        "metric": {"before": 0.5},
        "trains": "5 epochs",
        "training": None,
        "layers": [EVIL],
        "proof_error": None,
        "skipped": {EVIL: EVIL},
        "notes": [EVIL],
    }
    return {
        "model": {
            "name": EVIL,
            "input_shape": [[4]],
            "params": 1,
            "macs": 1,
            "keras": "keras 3",
            "preprocessing": {"resize": EVIL},
        },
        "data": {"spec": EVIL, "notes": [EVIL]},
        "training": None,
        "task": {"metric": EVIL, "agreement": EVIL},
        "config": {"seed": 0},
        "keras_metric": 0.5,
        "original": None,
        "slimming": [step],
        "variants": [_row(EVIL)],
        "failed": {EVIL: EVIL},
        "warnings": [EVIL],
        "skipped": [EVIL],
    }


def test_nothing_of_a_name_is_markup(result):
    text = report.to_markdown(result)
    assert "\x1b" not in text
    assert "\n# Forged" not in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings and not any("<img" in line for line in headings)
    # Outside of code, where tags are text, there is none at all.
    outside, fence = [], None
    for line in text.splitlines():
        ticks = len(line) - len(line.lstrip("`"))
        if fence is None and ticks >= 3 and "`" not in line[ticks:]:
            fence = ticks
        elif fence is not None and line == "`" * fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    bare = [line for line in outside if "<img" in line]
    assert all(
        line.lstrip("- ").startswith(("Model: `", "Data: `", "`")) for line in bare
    )
    widths = {line.count(" | ") for line in outside if line.startswith("| ")}
    assert widths <= {8, 9}


def test_the_terminal_shows_it_as_text(result):
    out = io.StringIO()
    report.to_terminal(result, out)
    assert "\x1b" not in out.getvalue()
    assert r"\x1b[31m" in out.getvalue()
    json.dumps(result)


def test_speed_is_against_the_model_before_the_steps(result):
    latency = {"p50": 10.0, "p90": 20.0}
    result["original"] = {
        "name": "original",
        "size_bytes": 4000,
        "gzip_bytes": 3000,
        "metric": 0.75,
        "params": 100,
        "macs": 200,
        "benchmark": {"latency": {"p50": 40.0, "p90": 50.0}},
    }
    result["variants"] = [_row("float32", benchmark={"latency": latency})]
    first, second = table.rows(result)
    assert first[0] == "original" and first[-1] == "1.00x" and first[3] == "100"
    assert second[-1] == "4.00x" and second[3] == "1"
    assert first[6] == "-"


def test_times_that_are_not_valid_are_said_and_decide_nothing(result):
    def timed(name, size, p50, load):
        invalid = {"load": f"The load was {load}."}
        row = _row(name, benchmark={"latency": {"p50": p50}, "invalid": invalid})
        return row | {"size_bytes": size}

    rows = [timed("float32", 4000, 100.0, 9), timed("int8", 1000, 300.0, 8)]
    remarks = table.remarks(result | {"variants": rows, "failed": {}, "warnings": []})
    assert remarks == ["The latencies are not valid figures: The load was 9."]
    assert doubts.of_variants(rows) == []
    for row in rows:
        row["benchmark"]["invalid"] = {}
    assert "int8 is slower" in doubts.of_variants(rows)[0]
