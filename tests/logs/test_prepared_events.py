"""Events that are logged very often: their messages are those of other events."""

from __future__ import annotations

import json
import logging

import pytest

from chalk_flask.logs import PreparedEvent, log_event
from chalk_flask.logs.events import LogValue
from chalk_flask.logs.formatters import JsonFormatter, PlainFormatter

log = logging.getLogger(__name__)

SHARED: dict[str, LogValue] = {"status": 200, "route": "/users/{id}", "tenant": 'a "b" \u2028\x85\nc\u00e9', "by": None}
VARYING: dict[str, str | float] = {"request_id": "7f3a-1", "ms": 1.5, "bytes": 515}


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter()], ids=["plain", "json"])
def test_message_is_the_same_as_that_of_another_event(
    formatter: logging.Formatter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = PreparedEvent(log, logging.INFO, "request.completed", "answered", **SHARED)
    event.log(**VARYING)
    log_event(log, logging.INFO, "request.completed", "answered", **SHARED, **VARYING)
    frequent, other = caplog.records
    assert 0 <= other.created - frequent.created < 60
    frequent.created = other.created
    line = formatter.format(frequent)
    assert line.splitlines() == [line]
    assert _members(line) == _members(formatter.format(other))
    names = ("name", "levelno", "levelname", "msg", "args", "exc_info", "process", "event", "members")
    assert [getattr(frequent, name) for name in names] == [getattr(other, name) for name in names]


def _members(line: str) -> object:
    return dict(json.loads(line)) if line.startswith("{") else line


def test_message_below_the_level_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    PreparedEvent(log, logging.INFO, "request.completed", "answered").log()
    assert not caplog.records


def test_unknown_event_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"unknown log event 'request\.lost'"):
        PreparedEvent(log, logging.INFO, "request.lost", "lost")
