"""Formatters of log messages: text for people, and JSON for programs. Times are in UTC.

Neither shows the message of an exception, which may quote personal data, nor a line break of a message.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import orjson

from chalk_flask.logs.events import event_of, members_of
from chalk_flask.logs.request_ids import current_request_id
from chalk_flask.times import format_epoch_seconds
from chalk_flask.tracebacks import error_location

__all__ = ["JsonFormatter", "PlainFormatter"]

MAX_LOGGED_FRAMES = 8
"""Maximum number of innermost frames of an exception."""

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BARE_VALUE = re.compile(r"[^\s\"=\x00-\x1f]+")


class PlainFormatter(logging.Formatter):
    """Formatter of lines: time, level, logger and message, then the members as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message, with the members of its event and the id of the current request."""
        members = dict(members_of(record))
        if event := event_of(record):
            members = {"event": event, **members}
        if request_id := current_request_id():
            members.setdefault("request_id", request_id)
        pairs = "".join(f" {name}={_plain_value(value)}" for name, value in members.items())
        line = f"{format_epoch_seconds(record.created)} {record.levelname} {record.name} {_text(record)}{pairs}"
        return _CONTROL_CHARACTER.sub(_escape, line)


class JsonFormatter(logging.Formatter):
    """Formatter of JSON objects, one per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object of a message, with the members of its event."""
        entry: dict[str, Any] = {
            "time": format_epoch_seconds(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(record),
            "process": record.process,
        }
        if event := event_of(record):
            entry["event"] = event
        if request_id := current_request_id():
            entry["request_id"] = request_id
        return _encode(entry | dict(members_of(record)))


def _encode(entry: dict[str, Any]) -> str:
    """Return the JSON of an entry in ASCII: some programs take other characters, such as U+2028, for line breaks."""
    try:
        encoded = orjson.dumps(entry, default=str)
    except orjson.JSONEncodeError:  # orjson rejects half of a surrogate pair
        encoded = b"\xff"
    return encoded.decode() if encoded.isascii() else json.dumps(entry, default=str)


def _text(record: logging.LogRecord) -> str:
    """Return the message of a record, and the location of its exception."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}: {error_location(error, MAX_LOGGED_FRAMES)}"


def _plain_value(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if _BARE_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()
