"""Age of rosters: the time since the last import of a tenant that was applied or found nothing to change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from backends import Backend, Snapshot
from chalk_flask.roster.imports.history import find_last_current_run
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import parse_timestamp, utc_now

__all__ = ["RosterAge", "RosterAges"]

CACHE_SECONDS: Final = 15.0
"""Time for which the imports that were found are used again."""

_SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class RosterAge:
    """Time of the last import of a tenant that confirmed its roster; None if no stored run did.

    `has_users` is False for a tenant whose roster has never been loaded.
    """

    imported: datetime | None
    has_users: bool

    def hours_at(self, now: datetime) -> float | None:
        """Return the age in hours, or None if it is unknown."""
        return None if self.imported is None else (now - self.imported).total_seconds() / _SECONDS_PER_HOUR


class RosterAges:
    """Ages of the rosters of all tenants, read from the store at most once in CACHE_SECONDS. Thread-safe."""

    def __init__(
        self,
        store: Backend,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self.now, self._monotonic = store, now, monotonic
        self._lock = threading.Lock()
        self._ages: Mapping[str, RosterAge] = {}
        self._next_read = 0.0

    def read(self) -> Mapping[str, RosterAge]:
        """Return the age of each roster by tenant. Raises StorageError."""
        with self._lock:
            if self._monotonic() >= self._next_read:
                names = [tenant.name for tenant in TenantStore(self._store).list()]
                self._ages = {name: self._read(name) for name in names}
                self._next_read = self._monotonic() + CACHE_SECONDS
            return self._ages

    def _read(self, tenant: str) -> RosterAge:
        with self._store.read(tenant) as snapshot:
            return RosterAge(_last_import(snapshot), snapshot.exists("users"))


def _last_import(snapshot: Snapshot) -> datetime | None:
    run = find_last_current_run(snapshot)
    return None if run is None else parse_timestamp(run.last_used)
