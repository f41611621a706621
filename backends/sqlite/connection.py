"""Connections to a SQLite store, their memory maps, the conversion of driver errors, and the write lock."""

from __future__ import annotations

import contextlib
import mmap
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from backends.errors import (
    DamagedStoreError,
    InvalidQueryError,
    QueryTimeoutError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from backends.files.lock_file import LockFile
from backends.os_errors import storage_error
from backends.sqlite.dialect import CHECK_DEADLINE, FOLD
from backends.statement_watch import StatementWatch

__all__ = [
    "WriteLock",
    "connect",
    "disable_mapping",
    "driver_errors",
    "is_mapping_enabled",
    "map_file",
    "unmap_file",
    "watched_statement",
]


_BUSY_TIMEOUT_SECONDS = 10

_MAX_MAPPED_BYTES = 1 << 40
"""Size of the map; SQLite reduces it to its own limit, which is usually 2 GiB. It reads the rest by system calls."""

_is_disabled = mmap.mmap(-1, 1)
"""Flag that is not 0 after `disable_mapping`. Processes that are forked after the import of this module share it."""

_HAS_ADDRESS_SPACE = sys.maxsize > 2**32

_ERROR_CLASSES: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_BUSY: StorageBusyError,
    sqlite3.SQLITE_LOCKED: StorageBusyError,
    sqlite3.SQLITE_INTERRUPT: QueryTimeoutError,  # only a read connection interrupts itself
}
"""Errors of the contract by primary result code of SQLite, for codes that do not mean a failure of the storage."""


class driver_errors:  # noqa: N801 - named like contextlib.suppress
    """Context manager that converts every driver error into a StorageError whose message starts with `action`.

    It is a class, because a generator takes three times as long, and each read uses it several times.
    """

    __slots__ = ("_action",)

    def __init__(self, action: str) -> None:
        self._action = action

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and (converted := _convert(error, self._action)) is not None:
            raise converted from error


class watched_statement(driver_errors):  # noqa: N801 - as its base
    """Context manager of one statement: it converts errors, and reports the statement if it takes long."""

    __slots__ = ("_started", "_text", "_watch")

    def __init__(self, action: str, text: str, watch: StatementWatch) -> None:
        self._action = action
        self._text = text
        self._watch = watch

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        seconds = time.perf_counter() - self._started
        if seconds > self._watch.seconds:
            self._watch.on_slow(self._text, seconds)
        if error is not None and (converted := _convert(error, self._action)) is not None:
            raise converted from error


def _convert(error: BaseException, action: str) -> Exception | None:
    """Return the error of the contract for an error of the driver or the file system; None for any other error."""
    match error:
        case sqlite3.Error() | sqlite3.Warning():
            return _storage_error(error, action)
        case UnicodeEncodeError():
            return InvalidQueryError(f"{action}: {error.object!r} cannot be encoded as UTF-8")
        case OSError():
            return storage_error(error, action)
        case OverflowError():
            return StorageUnavailableError(f"{action}: {error}")
    return None


def _storage_error(error: Exception, action: str) -> StorageError:
    """Return the storage error for a driver error. SQLite's own messages contain no values."""
    code, name = getattr(error, "sqlite_errorcode", 0), getattr(error, "sqlite_errorname", "")
    if error_class := _ERROR_CLASSES.get(code & 0xFF):
        return error_class(f"{action}: {error}")
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StorageFullError(f"{action}: the disk is full: free space on it")
        case sqlite3.SQLITE_READONLY:
            return StorageUnavailableError(f"{action}: the database file or its folder is read-only")
        case sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailableError(
                f"{action}: the database file cannot be opened: it is missing, or its permissions forbid it"
            )
        case sqlite3.SQLITE_IOERR if code != sqlite3.SQLITE_IOERR_READ:
            return StorageUnavailableError(
                f"{action}: disk I/O error ({name}); the disk fails, or a quota or file size limit is reached"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DamagedStoreError(f"{action}: {error}; run `chalk-flask check`, and restore a backup")
    return StorageUnavailableError(f"{action}: {error}")


def connect(path: Path, *, writes: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode, read-only unless `writes`. It never runs a checkpoint by itself.

    The file must exist: a store that has vanished is not created again.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=_BUSY_TIMEOUT_SECONDS,
    )
    try:
        for pragma in ("wal_autocheckpoint = 0", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function(CHECK_DEADLINE, 0, int)  # for connections without a time limit
        connection.create_function(FOLD, 1, str.casefold, deterministic=True)
        connection.execute(f"PRAGMA {'cache_size = -32768' if writes else 'query_only = 1'}")
    except BaseException:
        connection.close()
        raise
    return connection


def disable_mapping() -> None:
    """Stop this process, and those that were forked from it, from mapping files and reading maps."""
    _is_disabled[0] = 1


def is_mapping_enabled() -> bool:
    """Return True if connections may map files: in programs of 64 bits, before `disable_mapping`."""
    return _HAS_ADDRESS_SPACE and not _is_disabled[0]


def map_file(connection: sqlite3.Connection) -> None:
    """Let a connection read its database from a memory map. If that is impossible, it reads as before.

    The rows of a roster or of a sorted page are scattered over the file. Copying each page from the system takes longer
    than reading the row. A map is shared with the file cache of the system, and takes address space only.

    Reading a mapped page fails with SIGBUS, which ends the process, if the disk has an error or another program has
    truncated the file. So map one connection of a process at most, and none after `disable_mapping`.
    """
    connection.execute(f"PRAGMA mmap_size = {_MAX_MAPPED_BYTES}")


def unmap_file(connection: sqlite3.Connection) -> None:
    """Let a connection read its database by system calls again."""
    connection.execute("PRAGMA mmap_size = 0")


class WriteLock:
    """Exclusive lock for the writers of all threads and processes, on a file beside the store."""

    def __init__(self, path: Path, store: Path) -> None:
        self._threads = threading.Lock()
        self._processes = LockFile(path, store)

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
            self._processes.acquire(max(wait, 0))
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        self._processes.release()
        self._threads.release()
