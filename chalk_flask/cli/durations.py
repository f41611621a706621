"""Types of parameters: durations (30m, 12h, 90d) and points in time on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

__all__ = ["DURATION", "DURATION_OR_ZERO", "TIMESTAMP_OR_AGE"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DURATION = timedelta(days=36525)


def _parse_duration(text: str) -> timedelta | None:
    """Return the duration that a text such as `90d` describes. Return None for another text."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if match is None:
        return None
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return timedelta.max


class _DurationType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Duration from one second to a century; with `allows_zero`, also 0s."""

    name = "duration"

    def __init__(self, *, allows_zero: bool) -> None:
        self._allows_zero = allows_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration that a text describes. Raises BadParameter."""
        if isinstance(value, timedelta):
            return value
        parsed = _parse_duration(value)
        if parsed is None or parsed > MAX_DURATION or not (parsed or self._allows_zero):
            self.fail(f"{value!r} is not a duration (30s, 30m, 12h, 90d, 8w) of at most 100 years", param, ctx)
        return parsed


class _TimestampOrAgeType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Point in time, or a duration before now. A time without a zone is in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the point in time that a text describes, in UTC. Raises BadParameter."""
        if isinstance(value, datetime):
            return value
        try:
            if (age := _parse_duration(value)) is not None:
                return datetime.now(UTC) - age
            parsed = datetime.fromisoformat(value.strip())
            return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            rule = "a date (2026-01-31, 2026-01-31T08:00:00Z) or a duration (30m, 12h, 7d)"
            self.fail(f"{value!r} is not {rule}", param, ctx)


DURATION = _DurationType(allows_zero=False)
DURATION_OR_ZERO = _DurationType(allows_zero=True)
TIMESTAMP_OR_AGE = _TimestampOrAgeType()
