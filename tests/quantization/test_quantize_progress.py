"""A bar on a terminal, plain lines elsewhere; always on stderr."""

import io
import sys

from rich.console import Console

from tfslim.report import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drawn(on_step):
    console = Console(file=io.StringIO(), width=100)
    console.print(on_step.picture)
    return console.file.getvalue()


def test_a_bar_moves_on_a_terminal(monkeypatch, capsys):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    items = [1, 2, 3]
    with progress.steps() as on_step:
        on_step("calibrating")
        tracked = on_step.track(items, "samples")
        for _ in range(2):  # Passed over as often as wanted.
            passed = iter(tracked)
            assert next(passed) == 1
            assert "0/3" in drawn(on_step)
            assert list(passed) == [2, 3]
            assert "samples" not in drawn(on_step)
    assert "calibrating" in shown.getvalue()
    assert capsys.readouterr().out == ""


def test_the_bar_says_how_far_it_is(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with progress.steps() as on_step:
        passed = iter(on_step.track([1, 2, 3, 4], "samples"))
        next(passed), next(passed), next(passed)
        assert "samples" in drawn(on_step) and "2/4" in drawn(on_step)
        passed.close()
        assert "samples" not in drawn(on_step)


def test_plain_lines_elsewhere(capsys):
    items = [1, 2]
    with progress.steps() as on_step:
        on_step("calibrating")
        assert on_step.track(items, "samples") is items
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and "calibrating" in captured.err
