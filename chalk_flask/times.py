"""Points in time: the current one, and the text forms in which the service stores and shows them.

All texts are ISO 8601 in UTC with a fixed number of digits and `Z`, so that they sort in the order of time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

__all__ = ["format_epoch_seconds", "format_precise_timestamp", "format_timestamp", "parse_timestamp", "utc_now"]


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@overload
def format_timestamp(time: datetime) -> str: ...
@overload
def format_timestamp(time: None) -> None: ...
@overload
def format_timestamp(time: datetime | None) -> str | None: ...
def format_timestamp(time: datetime | None) -> str | None:
    """Return `YYYY-MM-DDTHH:MM:SS.sssZ`, cut off at the millisecond; None for None. `time` must have a time zone."""
    return None if time is None else _format(time, "milliseconds")


def format_precise_timestamp(time: datetime) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.ssssssZ`, with microseconds. `time` must have a time zone."""
    return _format(time, "microseconds")


def format_epoch_seconds(seconds: float) -> str:
    """Return seconds since the epoch as `YYYY-MM-DDTHH:MM:SS.sssZ`, rounded to the millisecond."""
    second, millis = divmod(round(seconds * 1000), 1000)
    return f"{_format_second(second)}.{millis:03}Z"


@lru_cache(maxsize=16)
def _format_second(second: int) -> str:
    """Return the part of a timestamp up to the second. Many log messages share it."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


@overload
def parse_timestamp(text: str) -> datetime: ...
@overload
def parse_timestamp(text: None) -> None: ...
@overload
def parse_timestamp(text: str | None) -> datetime | None: ...
def parse_timestamp(text: str | None) -> datetime | None:
    """Return the time of a text in one of these forms; None for None. Raises ValueError for another text."""
    return None if text is None else datetime.fromisoformat(text)


def _format(time: datetime, timespec: str) -> str:
    return time.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
