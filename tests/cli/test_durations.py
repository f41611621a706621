"""Durations and points in time on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from chalk_flask.cli.durations import duration, duration_or_zero, timestamp_or_age

CONTEXT, OPTION = click.Context(click.Command("test")), click.Option(["--option"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("1440m", timedelta(days=1)),
        ("48h", timedelta(days=2)),
        ("90d", timedelta(days=90)),
        ("8w", timedelta(weeks=8)),
        (None, None),
    ],
)
def test_duration_is_a_number_with_a_unit(text: str | None, expected: timedelta | None) -> None:
    assert duration(CONTEXT, OPTION, text) == expected
    assert duration_or_zero(CONTEXT, OPTION, text) == expected


def test_duration_of_zero_is_valid_only_where_allowed() -> None:
    assert duration_or_zero(CONTEXT, OPTION, "0s") == timedelta()
    with pytest.raises(click.BadParameter, match="'0d' is not a duration"):
        duration(CONTEXT, OPTION, "0d")


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "90 d", "90D", "36526d", "999999999w", "٣d"])
def test_duration_rejects_other_texts(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        duration(CONTEXT, OPTION, text)
    with pytest.raises(click.BadParameter, match="is not a duration"):
        duration_or_zero(CONTEXT, OPTION, text)


@pytest.mark.parametrize(
    ("text", "age"),
    [("3600s", timedelta(hours=1)), ("60m", timedelta(hours=1)), ("7d", timedelta(days=7)), ("52w", timedelta(364))],
)
def test_age_is_a_time_before_now(text: str, age: timedelta) -> None:
    time = timestamp_or_age(CONTEXT, OPTION, text)
    assert time is not None
    assert abs(datetime.now(UTC) - age - time) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2031-05-02", datetime(2031, 5, 2, tzinfo=UTC)),
        ("2031-05-02T12:00:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
        ("2031-05-02T12:00:00+00:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
        ("2031-05-02T14:00:00+02:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
        (None, None),
    ],
)
def test_timestamp_without_a_zone_is_utc(text: str | None, expected: datetime | None) -> None:
    assert timestamp_or_age(CONTEXT, OPTION, text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "d", "-1d", "2026-13-01", "999999999w", "٣d"])
def test_timestamp_rejects_other_texts(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a date"):
        timestamp_or_age(CONTEXT, OPTION, text)
