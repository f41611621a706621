"""Formatters of log messages: text for people, and JSON for programs. Times are in UTC.

Neither shows the message of an exception, which may quote personal data, nor a line break of a message.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from chalk_flask.logs.events import event_of, members_of
from chalk_flask.logs.prepared_events import PreparedEvent, frequent_event_of, varying_members_of
from chalk_flask.logs.request_ids import current_request_id
from chalk_flask.times import format_epoch_seconds
from chalk_flask.tracebacks import error_location

__all__ = ["JsonFormatter", "PlainFormatter"]

MAX_LOGGED_FRAMES = 8
"""Maximum number of innermost frames of an exception."""

MAX_FREQUENT_EVENTS = 4096
"""Maximum number of frequent events whose text is kept."""

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BARE_VALUE = re.compile(r"[^\s\"=\x00-\x1f]+")


class PlainFormatter(logging.Formatter):
    """Formatter of lines: time, level, logger and message, then the members as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message, with the members of its event and the id of the current request."""
        time = format_epoch_seconds(record.created)
        if frequent := frequent_event_of(record):
            return f"{time} {_plain_frequent(frequent)}{_plain_pairs(varying_members_of(record))}"
        return f"{time} {_plain_head(record)}{_plain_pairs(_with_request_id(members_of(record)))}"


def _plain_head(record: logging.LogRecord) -> str:
    """Return the part of a line after its time: level, logger, message and the name of the event."""
    event = event_of(record)
    head = f"{record.levelname} {record.name} {_text(record)}"
    return _CONTROL_CHARACTER.sub(_escape, f"{head} event={event}" if event else head)


def _plain_pairs(members: Mapping[str, Any]) -> str:
    pairs = "".join([f" {name}={_plain_value(value)}" for name, value in members.items()])
    return pairs if pairs.isprintable() else _CONTROL_CHARACTER.sub(_escape, pairs)


@lru_cache(maxsize=MAX_FREQUENT_EVENTS)
def _plain_frequent(event: PreparedEvent) -> str:
    """Return the part that the lines of a frequent event share."""
    return _plain_head(event.record) + _plain_pairs(event.members)


class JsonFormatter(logging.Formatter):
    """Formatter of JSON objects, one per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object of a message, with the members of its event and the id of the current request."""
        time = format_epoch_seconds(record.created)
        if frequent := frequent_event_of(record):
            varying = _encode({"process": record.process, **varying_members_of(record)})
            return f'{{"time":"{time}",{_json_frequent(frequent)},{varying[1:]}'
        entry = {"time": time, **_json_head(record), "process": record.process}
        return _encode(entry | _with_request_id(members_of(record)))


def _json_head(record: logging.LogRecord) -> dict[str, Any]:
    """Return the members after the time of a JSON object: level, logger, message and the name of the event."""
    event = event_of(record)
    head = {"level": record.levelname.lower(), "logger": record.name, "message": _text(record)}
    return {**head, "event": event} if event else head


@lru_cache(maxsize=MAX_FREQUENT_EVENTS)
def _json_frequent(event: PreparedEvent) -> str:
    """Return the members that the JSON objects of a frequent event share."""
    return _encode(_json_head(event.record) | dict(event.members))[1:-1]


def _with_request_id(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members with the id of the current request, if there is one."""
    request_id = current_request_id()
    return {"request_id": request_id, **members} if request_id else dict(members)


def _encode(entry: dict[str, Any]) -> str:
    """Return the JSON of an entry in ASCII: some programs take other characters, such as U+2028, for line breaks."""
    try:
        encoded = orjson.dumps(entry, default=str)
    except orjson.JSONEncodeError:  # orjson rejects half of a surrogate pair
        encoded = b"\xff"
    return encoded.decode() if encoded.isascii() else json.dumps(entry, default=str, separators=(",", ":"))


def _text(record: logging.LogRecord) -> str:
    """Return the message of a record, and the location of its exception."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}: {error_location(error, MAX_LOGGED_FRAMES)}"


def _plain_value(value: object) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if _BARE_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()
