"""One worker over all processes of a store."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from filelock import FileLock, Timeout

from backends import InvalidStorageURLError
from backends.base import file_path

__all__ = ["LeaderLock", "leader_lock_for"]

EVERY = 1.0
"""Seconds after which a lease that another process holds is asked for again."""


class LeaderLock:
    """A file that one process at a time has locked; the system lets go of it when the process ends, however that is.

    Without a path nobody else could want it. For one thread.
    """

    def __init__(self, path: Path | None, every: float = EVERY) -> None:
        self._path, self._every = path, every
        self._lock = None if path is None else FileLock(path, mode=0o600, thread_local=False)
        self._next = 0.0

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._lock is None or self._lock.is_locked

    def try_acquire(self) -> bool:
        """Whether this process has it, or gets it now: it is asked for once in `every` seconds. Raises OSError."""
        if self._path is None or self._lock is None or self.held:
            return True
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._every
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Let the next one have it."""
        if self._lock is not None:
            self._lock.release(force=True)


def leader_lock_for(storage: str, data: Path, *, shared: bool) -> LeaderLock:
    """The lease for the store of this URL; its file lies in `data`, which other services may have as their own, too."""
    if not shared:
        return LeaderLock(None)
    try:
        named = f"{storage.partition(':')[0]}:{file_path(storage).resolve()}"
    except InvalidStorageURLError:  # not a store in a file
        named = storage
    return LeaderLock(data / f"webhooks-{hashlib.sha256(named.encode()).hexdigest()[:16]}.lock")
