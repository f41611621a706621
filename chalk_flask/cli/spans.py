"""Spans of time on the command line: 30m, 12h, 90d."""

from __future__ import annotations

import re
from datetime import timedelta

import click

__all__ = ["span", "span_or_none_at_all"]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36525)


def span(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """The span of time that an option names, from 1 second to a century; None when it is not given."""
    found = span_or_none_at_all(ctx, option, text)
    if found == timedelta():
        raise _not_a_span(text)
    return found


def span_or_none_at_all(ctx: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    """The same, and it may be 0s."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if not match:
        raise _not_a_span(text)
    found = timedelta(**{UNITS[match[2]]: min(int(match[1]), 10**8)})
    if found > LONGEST:
        raise _not_a_span(text)
    return found


def _not_a_span(text: str | None) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not a span such as 30s, 30m, 12h, 90d or 8w, of a hundred years at most")
