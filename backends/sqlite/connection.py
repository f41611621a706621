"""Connections to a SQLite store, the conversion of driver errors, and the write lock."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from backends.errors import (
    InvalidQueryError,
    QueryTimeoutError,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
)

__all__ = [
    "WriteLock",
    "connect",
    "driver_errors",
]


_BUSY_TIMEOUT_SECONDS = 10
_LOCK_POLL_SECONDS = 0.01

_ERROR_CLASSES: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_BUSY: StorageBusyError,
    sqlite3.SQLITE_LOCKED: StorageBusyError,
    sqlite3.SQLITE_INTERRUPT: QueryTimeoutError,  # only the progress handler of a read connection interrupts
}
"""Errors of the contract by primary result code of SQLite. Other codes are a StorageUnavailableError."""


@contextlib.contextmanager
def driver_errors(action: str) -> Iterator[None]:
    """Convert every driver error into a StorageError whose message starts with `action`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        error_class = _ERROR_CLASSES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, StorageUnavailableError)
        raise error_class(f"{action}: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidQueryError(f"{action}: {error.object!r} cannot be encoded as UTF-8") from error
    except (sqlite3.Error, sqlite3.Warning, OSError, OverflowError) as error:
        raise StorageUnavailableError(f"{action}: {error}") from error


def connect(path: Path, *, writes: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode, read-only unless `writes`. It never runs a checkpoint by itself."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=_BUSY_TIMEOUT_SECONDS
    )
    try:
        for pragma in ("wal_autocheckpoint = 0", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA {'cache_size = -32768' if writes else 'query_only = 1'}")
    except BaseException:
        connection.close()
        raise
    return connection


class WriteLock:
    """Exclusive lock for the writers of all threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._processes = FileLock(path, mode=0o600, thread_local=False)

    @contextlib.contextmanager
    def hold(self, wait: float) -> Iterator[None]:
        """Hold the lock during a `with` block. Raises StorageBusyError if it is not free within `wait` seconds."""
        self.acquire(wait)
        try:
            yield
        finally:
            self.release()

    def acquire(self, wait: float) -> None:
        """Take the lock. Raises StorageBusyError if it is not free within `wait` seconds."""
        if not self._threads.acquire(timeout=max(wait, 0)):
            raise StorageBusyError(f"another thread locked the store for more than {wait:g} seconds: try again")
        try:
            self._processes.acquire(timeout=max(wait, 0), poll_interval=_LOCK_POLL_SECONDS)
        except BaseException as error:
            self._threads.release()
            if isinstance(error, Timeout):
                raise StorageBusyError(
                    f"another process locked the store for more than {wait:g} seconds: try again"
                ) from None
            if isinstance(error, OSError):
                raise StorageUnavailableError(
                    f"cannot use the lock file {self._path}: {error.strerror or error}; check its owner and permissions"
                ) from error
            raise

    def release(self) -> None:
        """Release the lock."""
        self._processes.release()
        self._threads.release()
