"""The closing table and its verdict, on a recorded result."""

import io

import pages
import pytest

from tfslim import evaluation, report
from tfslim.report import formats, table, verdict

RATIOS = (1.0, 0.9, 0.93, 0.99, 1.3)


def _lines(result):
    out = io.StringIO()
    report.to_terminal(result, out)
    return out.getvalue().splitlines()


def test_table_fits_80_columns_and_begins_with_the_model_as_given():
    lines = _lines(pages.recorded())
    rows = [line for line in lines if line.startswith(" ") and "kB" in line]
    assert all(len(line) <= 80 for line in rows)
    assert [line.split()[0] for line in rows] == [
        "original",
        "float32",
        "float16",
        "dynamic_int8",
        "int8",
    ]
    assert "as given" in rows[0] and "+8.1 [+3.9, +12.5]" in rows[1]
    assert "1.9 us*" in rows[0] and "1.15x*" in rows[1] and "~" not in rows[1]
    assert "* not a valid figure." in lines


def test_long_names_and_metrics_fit_too():
    result = pages.valid(pages.recorded(), *RATIOS)
    result["task"]["metric"] = "mean squared error"
    for row in result["variants"]:
        row["name"] = f"weight_only_wi8_afp32_{row['name']}"
        row["change"] = None
    text = "\n".join(_lines(result))
    head = text.split("Take")[0]
    assert max(map(len, head.splitlines())) <= 80
    # Figures are whole; only names and titles are broken.
    assert "12.0 kB" in head and "1.80 ms" in head and "…" not in head


def test_times_that_are_not_valid_do_not_decide():
    told = verdict.sentences(pages.recorded())
    assert told[0].startswith("Take dynamic_int8.tflite: 5.4 kB (4.0x smaller than or")
    assert told[1:] == ["The times are not valid figures, so they did not decide."]


def test_the_fastest_is_taken_and_of_equals_the_smallest():
    result = pages.valid(pages.recorded(), *RATIOS)
    assert verdict.recommended(result).name == "float16"
    told = verdict.sentences(result)
    assert "1.86 ms, 1.08x as fast as original" in told[0]
    assert told[1] == (
        "int8 takes 1.30x the time of original: 1 SOFTMAX stayed in float, between "
        "conversions."
    )
    result["variants"][3]["benchmark"]["outside"] = {"SOFTMAX": 1, "QUANTIZE": 2}
    assert "run 1 SOFTMAX and 2 QUANTIZE" in verdict.sentences(result)[1]


def test_a_file_that_loses_accuracy_is_not_taken():
    result = pages.recorded()
    for row in result["variants"][1:]:
        row["change"]["verdict"] = "beyond"
    assert verdict.recommended(result).name == "float32"
    result["variants"][0]["change"]["verdict"] = "beyond"
    assert verdict.sentences(result) == [
        "No file keeps its accuracy: none is worth taking as it is."
    ]


def test_of_a_metric_without_an_interval_a_worse_one_is_not_taken():
    result = pages.recorded()
    result["task"]["metric"] = "mAP@0.5"
    for row in result["variants"]:
        row |= {"change": None, "metric": 0.72}
    result["variants"][2]["metric"] = 0.6
    told = verdict.sentences(result)[0]
    assert (
        told.startswith("Take int8.tflite")
        and "mAP@0.5 0.72 (original: 0.7437)" in told
    )
    assert table.compact(result)[0][3] == "change"
    result["task"]["higher_is_better"] = False
    assert verdict.recommended(result).name == "dynamic_int8"


def test_without_accuracy_the_error_decides():
    result = pages.recorded()
    for row in (result["original"], *result["variants"]):
        row |= {"metric": None, "change": None}
    result["variants"][2]["parity"]["sqnr_db"] = 3.0
    assert verdict.recommended(result).name == "int8"
    assert "top-1 agreement 0.9889" in verdict.sentences(result)[0]
    titles, _ = table.compact(result)
    assert titles[2] == "top-1 agreement"


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (([1] * 400, [1] * 400), "a drop of 1 point is ruled out with 95% confidence"),
        (([1] * 360, [1] * 320 + [0] * 40), "it drops by more than 1 point with 95%"),
        (
            ([1] * 180, [1] * 180),
            "is not ruled out: that takes 310 test examples like these 180",
        ),
    ],
)
def test_change_in_words(answers, text):
    change = evaluation.paired_change(*answers).to_json()
    assert text in verdict.change_text(change)


def test_formats():
    assert formats.points(-0.0061) == "-0.6" and formats.points(-0.0001) == "0.0"
    assert formats.plain_points(0.01) == "1 point"
    assert formats.plain_points(0.005) == "0.5 points"
