"""Spans of time on the command line, 30m, 12h, 90d, and moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

__all__ = ["duration", "duration_or_zero", "timestamp_or_age"]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DURATION = timedelta(days=36525)


def duration(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """The span of time that an option names, from 1 second to a century; None when it is not given."""
    found = duration_or_zero(ctx, option, text)
    if found == timedelta():
        raise _not_a_span(text)
    return found


def duration_or_zero(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """The same, and it may be 0s."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if not match:
        raise _not_a_span(text)
    found = timedelta(**{UNITS[match[2]]: min(int(match[1]), 10**8)})
    if found > MAX_DURATION:
        raise _not_a_span(text)
    return found


def timestamp_or_age(ctx: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """The moment that an option names, or so long before now; None when it is not given."""
    if text is None:
        return None
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip()):
            return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})
        found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no moment such as 2026-01-31 or 2026-01-31T08:00:00Z, and no span such as 30m, 12h or 7d"
        ) from None


def _not_a_span(text: str | None) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not a span such as 30s, 30m, 12h, 90d or 8w, of a hundred years at most")
