"""Numbers of active records of a roster, cached until an import changes them.

Counting the records of a large roster takes seconds, because the status is in no index. A background thread counts
them, and callers get the former numbers until it has finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

from backends import And, Backend, Compare, Query, Snapshot, Where
from chalk_flask.caching import LRUCache
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.roster.changes.version import RosterVersion, only_tools_wrote, roster_version
from chalk_flask.shared_state import SharedState

__all__ = ["EVERY_RECORD", "Counted", "RosterCounter", "RosterCounts"]

MAX_CACHED_TENANTS: Final = 1000
WAIT_SECONDS: Final = 0.04
"""Time that a caller waits for the numbers. Those of a small roster are ready by then."""

SHARED_SCOPE: Final = "roster counts"
SHARED_SECONDS: Final = 90 * 86_400.0
"""Time for which counts are kept in the shared state."""

Counted: TypeAlias = Sequence[tuple[str, str, Where]]
"""Labels of numbers, with the collection and the condition of the records that each one counts."""

EVERY_RECORD: Final = Compare("dateLastModified", ">=", "")
"""Condition of all records: each has a timestamp. With it, SQLite reads the records in the order of the file."""


@dataclass(frozen=True, slots=True)
class RosterCounts:
    """Numbers of active records by label.

    `by_label` is empty until the first count ends. If `is_current` is False, the records are being counted again.
    `is_empty` is True if the roster has no user at all.
    """

    by_label: Mapping[str, int]
    is_current: bool
    is_empty: bool


class RosterCounter:
    """Counter of the records of all tenants. Thread-safe.

    Writes of grade tools do not change the counted collections, so the numbers stay valid after them. With a
    `shared_state`, processes use the numbers that another one has counted, and the numbers survive a restart.
    """

    def __init__(
        self,
        store: Backend,
        counted: Counted,
        wait_seconds: float = WAIT_SECONDS,
        shared_state: SharedState | None = None,
    ) -> None:
        self._store, self._counted, self._wait_seconds = store, counted, wait_seconds
        self._shared = shared_state or SharedState()
        self._cache: LRUCache[str, tuple[RosterVersion, Mapping[str, int]]] = LRUCache(MAX_CACHED_TENANTS)
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}
        self._executor = ThreadPoolExecutor(1, "roster counts")

    def count(self, tenant: str) -> RosterCounts:
        """Return the numbers of a tenant, or the former ones if counting takes longer. Raises StorageError."""
        with self._store.read(tenant) as snapshot:
            version, is_empty = roster_version(snapshot), not snapshot.exists("users")
        if not self._is_current(tenant, version) and not self._load_shared(tenant, version):
            self._start(tenant)
        _, by_label = self._cache.get(tenant, (None, {}))
        return RosterCounts(by_label, self._is_current(tenant, version), is_empty)

    def _is_current(self, tenant: str, version: RosterVersion) -> bool:
        cached = self._cache.get(tenant)
        return cached is not None and only_tools_wrote(cached[0], version)

    def _load_shared(self, tenant: str, version: RosterVersion) -> bool:
        """Use the numbers that another process counted. Return False if they are missing or of another version."""
        found = self._shared.attempt(lambda state: state.get(SHARED_SCOPE, tenant), lambda: None)
        if found is None:
            return False
        counted, by_label = RosterVersion(*found[0]), found[1]
        # A store that was restored can have the same revision again. Then its latest import is another one.
        is_same_import = counted.import_timestamp == version.import_timestamp and only_tools_wrote(counted, version)
        if not is_same_import or by_label.keys() != {label for label, _, _ in self._counted}:
            return False
        self._cache.put(tenant, (counted, by_label))
        return True

    def _start(self, tenant: str) -> None:
        """Start to count, unless that is in progress, and wait `wait_seconds` at most for the end."""
        with self._lock:
            future = self._running.get(tenant)
            if future is None or future.done():
                future = self._running[tenant] = self._executor.submit(self._count, tenant)
        try:
            future.result(self._wait_seconds)
        except TimeoutError:
            return
        with self._lock:
            self._running.pop(tenant, None)

    def _count(self, tenant: str) -> None:
        with self._store.read(tenant) as snapshot:
            version, by_label = roster_version(snapshot), _count(snapshot, self._counted)
        self._cache.put(tenant, (version, by_label))
        expires = time.time() + SHARED_SECONDS
        self._shared.attempt(
            lambda state: state.put(SHARED_SCOPE, tenant, [list(version), by_label], expires), lambda: None
        )


def _count(snapshot: Snapshot, counted: Counted) -> dict[str, int]:
    return {
        label: snapshot.find(Query(name, And((where, ACTIVE_ONLY)), limit=0)).total for label, name, where in counted
    }
