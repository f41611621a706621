"""Progress of a command on a terminal."""

from __future__ import annotations

import io
import re
import time

import pytest

from chalk_flask.cli import progress as progress_module
from chalk_flask.cli.progress import progress_line

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """Stream whose `isatty` returns True."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress_module, "REDRAW_SECONDS", 0.0)


def drawn_lines(stream: Terminal) -> list[str]:
    """Return each line that was drawn, without control characters."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", stream.getvalue())) if line.strip()]


def test_line_shows_percentage_and_remaining_time() -> None:
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        for rows in (1000, 2000, 3000):
            progress("users", rows, 4000)
            time.sleep(0.02)
        progress("writing users", 300, 300)
    lines = drawn_lines(stream)
    [half] = [line for line in lines if "2,000 rows" in line]
    assert re.fullmatch(r"users .* 50% 2,000 rows.* 0:00:0[0-9]", half)
    assert "100%" in lines[-1]


def test_line_without_an_expected_number_shows_rows_only() -> None:
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        progress("users", 1500, None)
    assert "1,500 rows" in drawn_lines(stream)[-1]
    assert "%" not in drawn_lines(stream)[-1]


def test_line_fits_80_columns_and_is_cleared() -> None:
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        progress("writing academicSessions", 0, 10**9)
        time.sleep(0.11)
        progress("writing academicSessions", 123_456_789, 10**9)
    assert max(map(len, drawn_lines(stream))) <= 80
    assert stream.getvalue().rstrip("\r\n").endswith("\x1b[2K")


def test_more_rows_than_expected_are_at_most_100_percent() -> None:
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        progress("users", 20, 10)
    assert "100%" in drawn_lines(stream)[-1]


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_switches_colors_off(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        progress("users", 5, 10)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", stream.getvalue())) is not no_color


def test_stream_without_a_terminal_has_no_progress() -> None:
    stream = io.StringIO()
    with progress_line(stream) as progress:
        assert progress is None
    assert stream.getvalue() == ""
