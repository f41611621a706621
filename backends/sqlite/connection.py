"""The file of a SQLite store: how connections are made, what tables there are, and the one lock for writers."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from backends.errors import InvalidQueryError, StorageBusyError, StorageUnavailableError

if TYPE_CHECKING:
    pass

__all__ = [
    "WriteLock",
    "connect",
    "driver_errors",
]


@contextlib.contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """Turn every error of the driver into one of the contract, with the driver's as its cause."""
    try:
        yield
    except sqlite3.OperationalError as error:
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        raise (StorageBusyError if busy else StorageUnavailableError)(f"{what}: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidQueryError(f"{what}: {error.object!r} cannot be written as UTF-8") from error
    except (sqlite3.Error, sqlite3.Warning, OSError, OverflowError) as error:
        raise StorageUnavailableError(f"{what}: {error}") from error


def connect(path: Path, *, writes: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. Only writers checkpoint, and they do it under the lock (design section 3)."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=10)
    try:
        for pragma in ("wal_autocheckpoint = 0", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA {'cache_size = -32768' if writes else 'query_only = 1'}")
    except BaseException:
        connection.close()
        raise
    return connection


class WriteLock:
    """One writer at a time, among the threads of this process and among processes."""

    def __init__(self, path: Path) -> None:
        self._threads = threading.Lock()
        self._processes = FileLock(path, mode=0o600, thread_local=False)

    @contextlib.contextmanager
    def held(self, wait: float) -> Iterator[None]:
        """Hold the lock. Raises StorageBusyError when it is not free within `wait` seconds."""
        self.acquire(wait)
        try:
            yield
        finally:
            self.release()

    def acquire(self, wait: float) -> None:
        """Take the lock. Raises StorageBusyError when it is not free within `wait` seconds."""
        if not self._threads.acquire(timeout=max(wait, 0)):
            raise StorageBusyError(f"another thread has been writing for more than {wait:g} s")
        try:
            self._processes.acquire(timeout=max(wait, 0), poll_interval=0.01)
        except BaseException as error:
            self._threads.release()
            if isinstance(error, Timeout):
                raise StorageBusyError(f"another process has been writing for more than {wait:g} s") from None
            if isinstance(error, OSError):
                raise StorageUnavailableError(f"the lock file cannot be used: {error}") from error
            raise

    def release(self) -> None:
        """Give the lock back."""
        self._processes.release()
        self._threads.release()
