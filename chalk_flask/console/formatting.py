"""Filters of the templates: numbers, sizes, times and plurals, as text or HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup

from chalk_flask.times import format_timestamp, parse_timestamp, utc_now

__all__ = [
    "FILTERS",
    "format_ago",
    "format_breakable",
    "format_bytes",
    "format_count",
    "format_number",
    "format_plural",
    "format_sentence",
    "format_slug",
    "format_time",
    "format_until",
]

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
_BYTES_PER_UNIT = 1024
MAX_RELATIVE_DAYS = 60
"""Age in days up to which a time is shown as an age."""

Time = datetime | str | None


def format_number(value: int | float | None) -> str:
    """Return a number with commas between thousands: `12,345`. None is a dash."""
    return "—" if value is None else f"{value:,}"


def format_count(value: int, limit: int) -> str:
    """Return a number that was counted up to a limit: `12`, or `more than 10,000`."""
    return format_number(value) if value <= limit else f"more than {format_number(limit)}"


def format_bytes(value: int | float | None) -> str:
    """Return a size with a unit: `3.4 MiB`. None is a dash."""
    if value is None:
        return "—"
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _BYTES_PER_UNIT:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= _BYTES_PER_UNIT
    return f"{size:,.1f} TiB"


def format_plural(count: int, singular: str, plural: str = "") -> str:
    """Return a number and its noun: `1 token`, `3 tokens`."""
    return f"{format_number(count)} {singular if count == 1 else plural or singular + 's'}"


def format_sentence(message: Exception | str) -> str:
    """Return a message as a sentence: with a capital letter and a period. A name such as `sourcedId` stays as it is."""
    text = str(message)
    if text.partition(" ")[0].islower():
        text = text[:1].upper() + text[1:]
    return text + ("." if text and not text.endswith((".", "!", "?")) else "")


def format_time(value: Time, missing: str = "never") -> Markup | str:
    """Return a time in UTC as HTML. A script shows it in the time zone of the browser. `missing` stands for None."""
    time = _parse(value)
    if time is None:
        return missing
    text = f"{time:%Y-%m-%d %H:%M} UTC"
    return _time_tag(time, text, "local")


def format_ago(value: Time, missing: str = "never") -> Markup | str:
    """Return the age of a time as HTML, such as `5 minutes ago`, with the time itself as its title."""
    time = _parse(value)
    if time is None:
        return missing
    age = utc_now() - time
    if age > timedelta(days=MAX_RELATIVE_DAYS):
        return format_time(time)
    return _time_tag(time, _duration_text(age, "ago"), "relative")


def format_until(value: Time, missing: str = "never") -> Markup | str:
    """Return the time that remains until a time as HTML, such as `in 5 days`; `5 days ago` if it is past."""
    time = _parse(value)
    if time is None:
        return missing
    remaining = time - utc_now()
    if remaining < timedelta(0):
        return format_ago(time)
    if remaining > timedelta(days=MAX_RELATIVE_DAYS):
        return format_time(time)
    return _time_tag(time, _duration_text(remaining, "in"), "relative")


def _time_tag(time: datetime, text: str, kind: str) -> Markup:
    title = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}" data-time="{}">{}</time>').format(
        format_timestamp(time), title, kind, text
    )


def _duration_text(duration: timedelta, word: str) -> str:
    seconds = int(duration.total_seconds())
    for unit, length in _UNITS:
        if seconds >= length:
            amount = format_plural(seconds // length, unit)
            return f"in {amount}" if word == "in" else f"{amount} ago"
    return "in less than a minute" if word == "in" else "just now"


def _parse(value: Time) -> datetime | None:
    time = parse_timestamp(value) if isinstance(value, str) else value
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def format_breakable(text: str) -> Markup:
    """Return an address as HTML that may continue on the next line after `@`, `.` and `/`."""
    parts = re.split(r"(?<=[@./])", text)
    return Markup("<wbr>").join(parts)


def format_slug(text: str) -> str:
    """Return a text as an id of HTML: lower-case letters and digits with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": format_number,
    "bytes": format_bytes,
    "plural": format_plural,
    "slug": format_slug,
    "breakable": format_breakable,
    "time": format_time,
    "ago": format_ago,
    "until": format_until,
}
"""Filters of the templates by name."""
