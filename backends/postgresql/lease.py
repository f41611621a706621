"""Leases of background tasks: rows with an end, by the clock of the database."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from backends.base import Lease
from backends.errors import StorageError
from backends.postgresql.text import encode_text

__all__ = ["LEASE_TABLE", "PostgreSQLLease"]

log = logging.getLogger(__name__)

LEASE_TABLE = {"_leases": '(task text COLLATE "C" PRIMARY KEY, holder text NOT NULL, ends timestamptz NOT NULL)'}

LEASE_SECONDS = 10.0
RENEWAL_INTERVAL_SECONDS = 2.0
MARGIN_SECONDS = 2.0
"""Time before the end of a lease at which a holder that cannot renew it stops."""

RELEASE_SECONDS = 2.0
"""Maximum time for which a release waits for a renewal."""

FetchAll: TypeAlias = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
"""Function that runs a statement in a transaction of its own. Raises StorageError."""

_ACQUIRE = (
    "INSERT INTO _leases AS lease VALUES (?, ?, clock_timestamp() + make_interval(secs => ?))"
    " ON CONFLICT (task) DO UPDATE SET holder = excluded.holder, ends = excluded.ends"
    " WHERE lease.holder = excluded.holder OR lease.ends < clock_timestamp() RETURNING 1"
)


class PostgreSQLLease(Lease):
    """Lease of one task. A thread renews it from the first success of `try_acquire` to `release`."""

    def __init__(self, fetch_all: FetchAll, task: str) -> None:
        self._fetch_all, self._task = fetch_all, encode_text(task)
        self._holder = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._held_until = 0.0
        self._renewal: tuple[threading.Thread, threading.Event] | None = None

    @property
    def is_held(self) -> bool:
        """True until some seconds before another process can get the lease."""
        return time.monotonic() < self._held_until

    def has_holder(self) -> bool:
        sql = "SELECT 1 FROM _leases WHERE task = ? AND ends > clock_timestamp()"
        with contextlib.suppress(StorageError):
            return bool(self._fetch_all(sql, (self._task,)))
        return False

    def try_acquire(self) -> bool:
        if not self.is_held and self._acquire() and self._renewal is None:
            stopping = threading.Event()
            thread = threading.Thread(target=self._renew, args=(stopping,), name="postgresql: lease", daemon=True)
            self._renewal = thread, stopping
            thread.start()
        return self.is_held

    def release(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is None:
            return
        thread, stopping = renewal
        stopping.set()
        self._held_until = 0.0
        # A renewal holds the lock, for as long as a silent server does not answer. Then the lease ends on its own.
        if self._lock.acquire(timeout=RELEASE_SECONDS):
            try:
                self._held_until = 0.0
                with contextlib.suppress(StorageError):
                    self._fetch_all("DELETE FROM _leases WHERE task = ? AND holder = ?", (self._task, self._holder))
            finally:
                self._lock.release()
            thread.join()

    def _acquire(self, stopping: threading.Event | None = None) -> bool:
        """Acquire or renew the lease. Return False if another process has it, or if `stopping` is set."""
        with self._lock:
            if stopping is not None and stopping.is_set():
                return False
            started = time.monotonic()
            rows = self._fetch_all(_ACQUIRE, (self._task, self._holder, LEASE_SECONDS))
            is_held = bool(rows) and not (stopping is not None and stopping.is_set())
            self._held_until = started + LEASE_SECONDS - MARGIN_SECONDS if is_held else 0.0
        return is_held

    def _renew(self, stopping: threading.Event) -> None:
        """Renew the lease until `stopping` is set. If it was lost, try to acquire it again."""
        was_held = True
        while not stopping.wait(RENEWAL_INTERVAL_SECONDS):
            try:
                is_held = self._acquire(stopping)
            except StorageError:
                is_held = self.is_held
            if was_held and not is_held and not stopping.is_set():
                log.warning("this process has lost the lease of a background task: another one goes on with it")
            was_held = is_held
