"""Other people's errors in one line of ours."""

from __future__ import annotations

import pytest

from tfslim import errors


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such layer", "no such layer."),
        ("first.\nsecond", "first."),
        ("", "ValueError."),
        ("The following failed:\n  a shape of 3", "a shape of 3."),
        ("Error. Exception encountered: Exception encountered: a cause", "a cause."),
        ("\x1b[1mbold\x1b[0m\x07 text", "bold\\x07 text."),
        ("{{function_node __wrapped__Conv2D}} no kernel", "no kernel."),
    ],
)
def test_first_line_is_the_cause(text, line):
    assert errors.first_line(ValueError(text)) == line


def test_long_causes_are_cut():
    assert len(errors.first_line(ValueError("x" * 1000))) < 210


def test_raised_as_wraps_what_others_raise():
    with pytest.raises(errors.DataError, match=r"^'f' is damaged: a byte\. Copy") as e:
        with errors.raised_as(
            errors.DataError, lambda cause: f"'f' is damaged: {cause} Copy it."
        ):
            raise OSError("a byte")
    assert isinstance(e.value.__cause__, OSError)


def test_raised_as_leaves_our_own_errors_alone():
    with pytest.raises(errors.ConfigError, match=r"^as it is$"):
        with errors.raised_as(errors.DataError, lambda cause: "another"):
            raise errors.ConfigError("as it is")
