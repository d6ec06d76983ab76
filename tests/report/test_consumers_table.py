"""The table of a verification on a terminal of 80 columns."""

import io

from tfslim.report import consumers_to_terminal


def _row(status, reason="", figures=None):
    return {
        "status": status,
        "reason": reason,
        "fell_back": [],
        "is_fully_accelerated": None,
        "against": {"interpreter": figures} if figures else {},
    }


FIGURES = {"max_abs_error": 0, "sqnr_db": 200, "agreement": 1.0, "reason": ""}
ROWS = {
    "interpreter": _row("right", figures=FIGURES),
    "mediapipe": _row("refused", "Only RGB color space is supported for now. " * 3),
}


def test_it_fits_80_columns_and_reasons_stand_below_it():
    file = io.StringIO()
    consumers_to_terminal({"int8.tflite": ROWS}, file)
    lines = file.getvalue().splitlines()
    *table, note = lines
    assert max(map(len, table)) <= 80
    assert note.startswith("mediapipe: Only RGB") and "int8" not in file.getvalue()
    assert any(line.split() == ["mediapipe", "refused"] for line in table)


def test_of_several_files_each_has_a_table_of_its_own():
    file = io.StringIO()
    consumers_to_terminal({"int8.tflite": ROWS, "float16.tflite": ROWS}, file)
    first, second = file.getvalue().split("float16.tflite\n")
    assert first.startswith("int8.tflite\n") and first.split()[1:] == second.split()
