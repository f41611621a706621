"""Durations and points in time on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from chalk_flask.cli.durations import DURATION, DURATION_OR_ZERO, TIMESTAMP_OR_AGE

CONTEXT, OPTION = click.Context(click.Command("test")), click.Option(["--option"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("1440m", timedelta(days=1)),
        ("48h", timedelta(days=2)),
        ("90d", timedelta(days=90)),
        ("8w", timedelta(weeks=8)),
        ("999999999s", timedelta(seconds=999_999_999)),
    ],
)
def test_duration_is_a_number_with_a_unit(text: str, expected: timedelta) -> None:
    assert DURATION.convert(text, OPTION, CONTEXT) == expected
    assert DURATION_OR_ZERO.convert(text, OPTION, CONTEXT) == expected


def test_duration_of_zero_is_valid_only_where_allowed() -> None:
    assert DURATION_OR_ZERO.convert("0s", OPTION, CONTEXT) == timedelta()
    with pytest.raises(click.BadParameter, match="'0d' is not a duration"):
        DURATION.convert("0d", OPTION, CONTEXT)


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "90 d", "90D", "36526d", "999999999w", "٣d"])
def test_duration_rejects_other_texts(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        DURATION.convert(text, OPTION, CONTEXT)
    with pytest.raises(click.BadParameter, match="is not a duration"):
        DURATION_OR_ZERO.convert(text, OPTION, CONTEXT)


@pytest.mark.parametrize(
    ("text", "age"),
    [("3600s", timedelta(hours=1)), ("60m", timedelta(hours=1)), ("7d", timedelta(days=7)), ("52w", timedelta(364))],
)
def test_age_is_a_time_before_now(text: str, age: timedelta) -> None:
    time = TIMESTAMP_OR_AGE.convert(text, OPTION, CONTEXT)
    assert abs(datetime.now(UTC) - age - time) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2031-05-02", datetime(2031, 5, 2, tzinfo=UTC)),
        ("2031-05-02T12:00:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
        ("2031-05-02T12:00:00+00:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
        ("2031-05-02T14:00:00+02:00", datetime(2031, 5, 2, 12, tzinfo=UTC)),
    ],
)
def test_timestamp_without_a_zone_is_utc(text: str, expected: datetime) -> None:
    assert TIMESTAMP_OR_AGE.convert(text, OPTION, CONTEXT) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "d", "-1d", "2026-13-01", "999999999w", "٣d"])
def test_timestamp_rejects_other_texts(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a date"):
        TIMESTAMP_OR_AGE.convert(text, OPTION, CONTEXT)
