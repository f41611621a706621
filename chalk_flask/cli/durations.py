"""Callbacks that parse durations (30m, 12h, 90d) and points in time on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

__all__ = ["duration", "duration_or_zero", "timestamp_or_age"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DURATION = timedelta(days=36525)


def duration(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """Parse a duration from one second to a century; None if the option is missing."""
    parsed = duration_or_zero(ctx, option, text)
    if parsed == timedelta():
        raise _invalid_duration(text)
    return parsed


def duration_or_zero(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """Parse a duration that can be 0s; None if the option is missing."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if not match:
        raise _invalid_duration(text)
    parsed = timedelta(**{_UNITS[match[2]]: min(int(match[1]), 10**8)})
    if parsed > MAX_DURATION:
        raise _invalid_duration(text)
    return parsed


def timestamp_or_age(ctx: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Parse a point in time, or a duration before now; None if the option is missing."""
    if text is None:
        return None
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        parsed = datetime.fromisoformat(text.strip())
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a date (2026-01-31, 2026-01-31T08:00:00Z) or a duration (30m, 12h, 7d)"
        ) from None


def _invalid_duration(text: str | None) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not a duration (30s, 30m, 12h, 90d, 8w) of at most 100 years")
