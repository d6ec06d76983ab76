"""Names of others on a terminal and in Markdown."""

import re

import pytest

from tfslim import escape

HOSTILE = "x`<img src=x onerror=alert(1)>\x1b[31mRED\x1b]0;title\x07\n# Forged|a*b*"


def test_terminal_writes_out_what_would_act():
    assert escape.terminal(HOSTILE) == (
        "x`<img src=x onerror=alert(1)>\\x1b[31mRED\\x1b]0;title\\x07\\n# Forged|a*b*"
    )


@pytest.mark.parametrize(
    "character", [*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u202e"]
)
def test_no_control_character_survives(character):
    shown = escape.terminal(f"a{character}b")
    assert character not in shown
    assert shown.isprintable() and shown.startswith("a\\") and shown.endswith("b")


def test_a_name_that_is_no_unicode_is_shown_in_any_encoding():
    name = b"conv\xe9".decode("utf-8", "surrogateescape")
    assert escape.terminal(name).encode("utf-8") == b"conv\\udce9"


@pytest.mark.parametrize("text", ["größe/conv_1:0", "模型", "C:\\models\\a b.tflite"])
def test_ordinary_names_stay(text):
    assert escape.terminal(text) == text


def test_lines_keeps_its_line_breaks():
    assert escape.lines("one\ntwo\x1b\n") == "one\ntwo\\x1b\n"


def test_markdown_has_no_tag_no_new_line_and_no_bar():
    shown = escape.markdown(HOSTILE)
    assert not set("\n\x1b<>") & set(shown)
    # Each mark has a backslash of its own before it.
    bare = re.sub(r"\\[^A-Za-z0-9]", "", shown)
    assert not set("`|*#\\") & set(bare)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("conv_1", "conv_1"), ("_a_", "\\_a\\_"), ("a&b", "a&amp;b"), (3, "3")],
)
def test_markdown_by_hand(text, shown):
    assert escape.markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a|b\n", "`a\\|b\\n`"),
        ("", "`  `"),
    ],
)
def test_code_spans_end_where_they_should(text, shown):
    assert escape.code(text) == shown
