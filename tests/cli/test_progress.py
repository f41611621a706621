"""Progress line of an import."""

from __future__ import annotations

import io

from chalk_flask.cli.progress import progress_line


class Terminal(io.StringIO):
    """Stream whose `isatty` returns True."""

    def isatty(self) -> bool:
        return True


def test_progress_line_is_cleared_at_the_end() -> None:
    stream = Terminal()
    with progress_line(stream) as progress:
        assert progress
        progress("users", 1500)
        progress("writing", 0)
    assert "users: 1,500 rows" in stream.getvalue()
    assert "writing" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_stream_without_a_terminal_has_no_progress() -> None:
    stream = io.StringIO()
    with progress_line(stream) as progress:
        assert progress is None
    assert stream.getvalue() == ""
