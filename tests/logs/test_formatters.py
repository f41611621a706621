"""Lines of the log: text and JSON, in UTC, without line breaks and without messages of exceptions."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import pytest

from chalk_flask.logs import LOG_EVENTS, log_event
from chalk_flask.logs.formatters import JsonFormatter, PlainFormatter

EPOCH_SECONDS = 1769828400.0625
TIME = "2026-01-31T03:00:00.062Z"


def record_of(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("chalk_flask.test", logging.WARNING, "file", 1, message, args, None)
    record.created = EPOCH_SECONDS
    record.__dict__.update(extra)
    return record


def test_plain_line_has_time_level_logger_and_members() -> None:
    members = {"tenant": "north", "files": ["users", "orgs"], "reason": 'no "key"', "count": 2}
    line = PlainFormatter().format(record_of("held %s", "now", event="import.held", members=members))
    assert line == (
        f"{TIME} WARNING chalk_flask.test held now event=import.held tenant=north files=users,orgs"
        ' reason="no \\"key\\"" count=2'
    )


def test_json_line_is_one_object() -> None:
    members = {"tenant": "north", "files": ["users"], "ms": 1.5}
    entry = orjson.loads(JsonFormatter().format(record_of("held", event="import.held", members=members)))
    assert entry.pop("process")
    expected = {"time": TIME, "level": "warning", "logger": "chalk_flask.test", "message": "held"}
    assert entry == {**expected, "event": "import.held", **members}


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter()], ids=["plain", "json"])
@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x85b", "a\ud800b"],
    ids=["lf", "crlf", "esc", "ls", "nel", "half"],
)
def test_line_breaks_and_control_characters_are_escaped(formatter: logging.Formatter, text: str) -> None:
    line = formatter.format(record_of("%s", text, event="import.held", members={"reason": text}))
    assert line.splitlines() == [line]
    assert "\x1b" not in line
    assert line.encode()


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter()], ids=["plain", "json"])
def test_message_of_exception_is_left_out(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("secret cell")
    except ValueError:
        record = record_of("failed", exc_info=sys.exc_info())
    line = formatter.format(record)
    assert "failed: ValueError at " in line
    assert "secret cell" not in line


def test_unknown_event_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"unknown log event 'import\.lost'"):
        log_event(logging.getLogger(__name__), logging.INFO, "import.lost", "lost")
    assert not caplog.records
    assert all(description.endswith(".") for description in LOG_EVENTS.values())


def test_members_without_value_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log_event(logging.getLogger(__name__), logging.ERROR, "import.held", "held", tenant="north", run=None)
    [record] = caplog.records
    assert record.__dict__["members"] == {"tenant": "north"}
