"""Retention of the change history: the days for which a tenant keeps it, and deletion of older changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile
from threading import Event
from typing import Final

import orjson

from backends import CONTROL, Backend, Snapshot
from chalk_flask.caching import VersionedCache
from chalk_flask.roster.changes.history_block import COLLECTION
from chalk_flask.storage import RosterStore
from chalk_flask.tenants.store import find_tenant
from chalk_flask.times import format_timestamp

__all__ = ["HistoryPeriods", "history_cutoff", "history_days", "remove_expired_history"]

BATCH_SIZE: Final = 200
"""Blocks that are deleted in one transaction, so that other writers wait only briefly."""
MAX_CACHED_TENANTS: Final = 1000


def history_days(store: RosterStore, tenant: str, default: int) -> int:
    """Return the days for which a tenant keeps its change history, by default those of the service; 0 for none.

    Raises StorageError.
    """
    with store.read(CONTROL) as control:
        found = find_tenant(control, tenant)
    return default if found is None or found.history_days is None else found.history_days


def history_cutoff(days: int, now: datetime) -> str:
    """Return the timestamp before which changes are neither shown nor kept."""
    return format_timestamp(now - timedelta(days=days))


class HistoryPeriods:
    """Retention periods of all tenants of a store, cached until a tenant changes. Thread-safe."""

    def __init__(self, store: Backend, default: int) -> None:
        self._store, self._default = store, default
        self._cache: VersionedCache[str, int] = VersionedCache(MAX_CACHED_TENANTS)

    def days_of(self, tenant: str) -> int:
        """Return the days for which a tenant keeps its change history; 0 for none. Raises StorageError."""
        version = self._store.version(CONTROL)
        days = self._cache.get(tenant, version)
        if days is None:
            days = history_days(self._store, tenant, self._default)
            self._cache.put(tenant, version, days)
        return days


def remove_expired_history(
    store: RosterStore, tenant: str, days: int, now: datetime, stopping: Event | None = None
) -> None:
    """Delete the changes of a tenant that are older than `days`; with 0, all of them.

    Works in short transactions, and ends early when `stopping` is set. Raises StorageError.
    """
    while stopping is None or not stopping.is_set():
        with store.read(tenant) as snapshot:
            keys = list(islice(_expired_keys(snapshot, days, now), BATCH_SIZE))
        if not keys:
            return
        with store.write(tenant) as transaction:
            transaction.delete(COLLECTION, keys)


def _expired_keys(snapshot: Snapshot, days: int, now: datetime) -> Iterator[str]:
    """Yield the keys of the expired blocks, which are the first ones, because numbers rise with time."""
    keys = snapshot.keys(COLLECTION)
    if not days:
        return keys
    cutoff = history_cutoff(days, now)
    return takewhile(lambda key: _time_of(snapshot, key) < cutoff, keys)


def _time_of(snapshot: Snapshot, key: str) -> str:
    time: str = orjson.loads(snapshot.get_many(COLLECTION, [key])[key])["time"]
    return time
