"""Times at which records were last used, written in the background so that no request waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from backends import Backend, Record, StorageError, StorageUnavailableError, Transaction
from chalk_flask.background.batch_writer import BatchWriter
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["MIN_INTERVAL", "LastUsedTracker"]

log = logging.getLogger(__name__)

MIN_INTERVAL = timedelta(minutes=1)
"""Minimum time between two writes for the same record."""
FLUSH_INTERVAL_SECONDS = 5.0
LOCK_TIMEOUT_SECONDS = 1.0

SetLastUsed: TypeAlias = Callable[[str, bytes, datetime], Record | None]
"""Function that takes key, stored body and time of the use; it returns the new record, or None for no change."""


class LastUsedTracker:
    """Background writer of the time of the last use, at most once per record and minute. Thread-safe.

    A use is dropped if the store stays locked for a second, for example by a long import.
    """

    def __init__(
        self,
        store: Backend,
        tenant: str,
        collection: str,
        set_last_used: SetLastUsed,
        flush_interval_seconds: float = FLUSH_INTERVAL_SECONDS,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._collection = collection
        self._set_last_used = set_last_used
        # A commit makes every process read its tokens again, so uses are collected and written together.
        self._flush_interval_seconds = flush_interval_seconds
        self._lock = threading.Lock()
        self._recorded: dict[str, datetime] = {}
        self._pending: dict[str, datetime] = {}
        self._errors = RepeatedErrors()
        self._writer = BatchWriter(f"{collection} last used", self._flush, delay=0)

    def record(self, key: str, last_used: datetime | None, now: datetime) -> None:
        """Record a use of the record with this key, unless its last use is less than a minute old.

        `last_used` is the stored time of the last use. Never waits for the store.
        """
        latest = self._recorded.get(key) or last_used
        if latest is not None and abs(now - latest) < MIN_INTERVAL:
            return
        with self._lock:
            self._recorded[key] = self._pending[key] = now
        self._writer.wake()

    def close(self) -> None:
        """Write pending uses and end the thread. Call this before the store is closed. A second call does nothing."""
        self._writer.close()

    def _flush(self) -> float | None:
        uses = self._take_pending()
        if not uses:
            return None
        try:
            with self._store.write(self._tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                self._write(transaction, uses)
            self._errors.clear()
        except StorageError as error:
            level = self._errors.level(str(error) if isinstance(error, StorageUnavailableError) else "")
            log.log(level, "the last use of %d %s is not written: %s", len(uses), self._collection, error)
        return self._flush_interval_seconds

    def _take_pending(self) -> dict[str, datetime]:
        with self._lock:
            uses, self._pending = self._pending, {}
            if not uses:
                self._recorded.clear()
            return uses

    def _write(self, transaction: Transaction, uses: dict[str, datetime]) -> None:
        # Read the records in the transaction: another process may have changed one or written a use since.
        for key, body in transaction.get_many(self._collection, list(uses)).items():
            if record := self._set_last_used(key, body, uses[key]):
                transaction.put(self._collection, [record])
