"""Schedule of syncs: when the next sync of a source is due, and which ones are due now."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Final

from backends import CONTROL, Backend
from chalk_flask.sources.errors import SourceError
from chalk_flask.sources.record import Source, list_sources
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import parse_timestamp

__all__ = [
    "MIN_INTERVAL",
    "SyncSchedule",
    "check_schedule",
    "describe_interval",
    "describe_schedule",
    "next_sync",
    "parse_time_of_day",
]

MIN_INTERVAL: Final = timedelta(minutes=5)
FIRST_RETRY: Final = timedelta(minutes=15)
"""Time after a failure until the next attempt. It doubles with each failure."""
MAX_RETRY: Final = timedelta(hours=6)

_NEVER_READ: Final = object()


def check_schedule(every: timedelta | None, at: str | None) -> None:
    """Raise SourceError unless this is a valid schedule: an interval, a time of day such as `02:30`, or none."""
    if every is not None and at is not None:
        raise SourceError("a source cannot have an interval and a time of day: give one of them")
    if every is not None and every < MIN_INTERVAL:
        minutes = MIN_INTERVAL.seconds // 60
        raise SourceError(f"the interval must be at least {minutes} minutes, not {every.total_seconds():.0f} seconds")
    if at is not None:
        parse_time_of_day(at)


def parse_time_of_day(text: str) -> str:
    """Return a time of day as `HH:MM`. Raises SourceError for another text."""
    match = re.fullmatch("([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if match is None:
        raise SourceError(
            f"{text[:20]!r} is not a time of day: write hours from 00 to 23 and minutes in UTC, such as 02:30"
        )
    return f"{match[1]:0>2}:{match[2]}"


def describe_schedule(source: Source) -> str:
    """Return the schedule of a source in words: `every day at 02:30 UTC`, `every 2 hours`, or `only by hand`."""
    if source.at is not None:
        return f"every day at {source.at} UTC"
    return "only by hand" if source.every_seconds is None else describe_interval(source.every_seconds // 60)


def describe_interval(minutes: int) -> str:
    """Return an interval in words: `every 90 minutes`, `every hour`, `every 24 hours`."""
    hours, rest = divmod(minutes, 60)
    if rest:
        return f"every {minutes:,} minutes"
    return "every hour" if hours == 1 else f"every {hours:,} hours"


def next_sync(source: Source) -> datetime | None:
    """Return when the next sync is due; None if the source has no schedule. After a failure, it may be due earlier."""
    regular = _regular_time(source)
    failed = parse_timestamp(source.last_failure)
    if regular is None or not source.failures or failed is None:
        return regular
    retry: datetime = failed + min(FIRST_RETRY * 2 ** min(source.failures - 1, 10), MAX_RETRY)
    return min(regular, retry)


def _regular_time(source: Source) -> datetime | None:
    last = parse_timestamp(source.last_started)
    created = datetime.fromisoformat(source.created)
    if source.every_seconds is not None:
        return created if last is None else last + timedelta(seconds=source.every_seconds)
    if source.at is None:
        return None
    after = last or created
    same_day = datetime.combine(after, time.fromisoformat(source.at), after.tzinfo)
    return same_day if same_day > after else same_day + timedelta(days=1)


class SyncSchedule:
    """Schedules of the sources of all tenants. It reads a tenant only after a change. Not thread-safe."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._control_version: object = _NEVER_READ
        self._tenants: dict[str, tuple[object, list[Source]]] = {}

    def due(self, now: datetime) -> list[Source]:
        """Return the sources whose next sync is due, the longest due first. Raises StorageError."""
        due = []
        for name in self._tenant_names():
            for source in self._scheduled(name):
                time_due = next_sync(source)
                if time_due is not None and time_due <= now:
                    due.append((time_due, source.tenant, source.name, source))
        return [source for *_, source in sorted(due, key=lambda item: item[:3])]

    def _tenant_names(self) -> list[str]:
        version = self._store.version(CONTROL)
        if version != self._control_version:
            names = [tenant.name for tenant in TenantStore(self._store).list()]
            self._tenants = {name: self._tenants.get(name, (_NEVER_READ, [])) for name in names}
            self._control_version = version
        return list(self._tenants)

    def _scheduled(self, name: str) -> list[Source]:
        version = self._store.version(name)
        if self._tenants[name][0] != version:
            with self._store.read(name) as snapshot:
                sources = [source for source in list_sources(snapshot) if source.is_scheduled]
            self._tenants[name] = (version, sources)
        return self._tenants[name][1]
