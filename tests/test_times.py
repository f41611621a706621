from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chalk_flask.times import (
    format_epoch_seconds,
    format_precise_timestamp,
    format_timestamp,
    parse_timestamp,
    utc_now,
)

TIME = datetime(2026, 9, 1, 8, 0, 5, 123999, tzinfo=UTC)


def test_utc_now_is_in_utc() -> None:
    assert utc_now().tzinfo is UTC


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (TIME, "2026-09-01T08:00:05.123Z"),
        (TIME.replace(microsecond=0), "2026-09-01T08:00:05.000Z"),
        (TIME.astimezone(timezone(timedelta(hours=2))), "2026-09-01T08:00:05.123Z"),
        (None, None),
    ],
)
def test_format_timestamp_cuts_off_at_milliseconds_in_utc(time: datetime | None, text: str | None) -> None:
    assert format_timestamp(time) == text


def test_format_precise_timestamp_keeps_microseconds() -> None:
    assert format_precise_timestamp(TIME) == "2026-09-01T08:00:05.123999Z"
    assert format_precise_timestamp(TIME.replace(microsecond=0)) == "2026-09-01T08:00:05.000000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1.0005, "1970-01-01T00:00:01.000Z"),
        (1.0006, "1970-01-01T00:00:01.001Z"),
        (1.9996, "1970-01-01T00:00:02.000Z"),
        (TIME.timestamp(), "2026-09-01T08:00:05.124Z"),
    ],
)
def test_format_epoch_seconds_rounds_to_milliseconds(seconds: float, text: str) -> None:
    assert format_epoch_seconds(seconds) == text


def test_parse_timestamp_reads_what_was_formatted() -> None:
    assert parse_timestamp(format_timestamp(TIME)) == TIME.replace(microsecond=123000)
    assert parse_timestamp(format_precise_timestamp(TIME)) == TIME
    assert parse_timestamp(None) is None


def test_parse_timestamp_rejects_other_text() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        parse_timestamp("yesterday")
