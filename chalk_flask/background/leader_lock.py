"""Lock that elects one worker for a background task among all processes of a store: a file, or a lease of the store."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from backends import Backend, InvalidStorageURLError, Lease
from backends.base import file_path
from chalk_flask.files import create_private_file, make_private_folder

__all__ = ["LeaderLock", "leader_lock_for", "worker_lock"]

RETRY_INTERVAL_SECONDS: Final = 1.0


class LeaderLock:
    """Lock on a file, or lease of the store, held by at most one process. Only `is_held` is thread-safe.

    The operating system releases the file lock when its process ends. A lease may be lost at any time. Without a path
    and a lease, the lock is always held: no other process can open the store.
    """

    def __init__(
        self, path: Path | None, retry_interval: float = RETRY_INTERVAL_SECONDS, lease: Lease | None = None
    ) -> None:
        self.path = path
        self._retry_interval, self._lease = retry_interval, lease
        self._lock = None if path is None else FileLock(path, mode=0o600, thread_local=False)
        self._next_try = 0.0

    @property
    def journal_path(self) -> Path | None:
        """File for the results of the process of this machine that holds the lock; None for a store in memory."""
        return None if self.path is None else self.path.with_suffix(".results")

    @property
    def is_held(self) -> bool:
        """True if this process holds the lock."""
        if self._lease is not None:
            return self._lease.is_held
        return self._lock is None or self._lock.is_locked

    def has_holder(self) -> bool:
        """Return True if this process or another one holds the lock. Does not create the file.

        A worker that tries to acquire the file lock during this call fails, and tries again after its interval. Raises
        OSError. With a lease, returns False if the store cannot be reached.
        """
        if self._lease is not None:
            return self._lease.has_holder()
        if self.path is None or self.is_held:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # also released when the descriptor is closed
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def try_acquire(self) -> bool:
        """Return True if this process holds the lock or acquires it now; never block.

        Tries at most once per `retry_interval` seconds. Raises OSError if the file cannot be created, and StorageError
        if the lease cannot be acquired because of the store.
        """
        if self._lease is not None and not self.is_held:
            return self._is_due() and self._lease.try_acquire()
        if self.path is None or self._lock is None or self.is_held:
            return True
        if not self._is_due():
            return False
        make_private_folder(self.path.parent)
        create_private_file(self.path)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Release the lock, so that another process can acquire it."""
        if self._lease is not None:
            self._lease.release()
        if self._lock is not None:
            self._lock.release(force=True)

    def _is_due(self) -> bool:
        """Return True if it is time to try the lock again."""
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + self._retry_interval
        return True


def worker_lock(task: str, store: Backend, storage: str, data: Path) -> LeaderLock:
    """Return the lock of a task for an open store: a lease if several machines use the store, and otherwise a file."""
    lock = leader_lock_for(task, storage, data, shared=store.shared or store.has_leases)
    return LeaderLock(lock.path, lease=store.lease(task)) if store.has_leases else lock


def leader_lock_for(task: str, storage: str, data: Path, *, shared: bool) -> LeaderLock:
    """Return the file lock of a task for the store at this URL; `shared` is True if other processes can open the store.

    The file name in the folder `data` contains the task and a hash of the URL, because several services may share that
    folder.
    """
    if not shared:
        return LeaderLock(None)
    try:
        store_name = f"{storage.partition(':')[0]}:{file_path(storage).resolve()}"
    except InvalidStorageURLError:  # not a store in a file
        store_name = storage
    return LeaderLock(data / f"{task}-{hashlib.sha256(store_name.encode()).hexdigest()[:16]}.lock")
