"""Copy of a SQLite store at one point in time, and the lock that keeps all other processes out of a store."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from backends.errors import StoreInUseError
from backends.files.private_files import create_private_file
from backends.sqlite.connection import WriteLock, connect, driver_errors

__all__ = ["back_up_database", "exclusive_lock"]

_PAGES_PER_STEP = 4096

_PENDING_BYTE, _LOCKED_BYTES = 0x40000000, 512
"""Bytes of a database file that SQLite locks (see its file os.h). Each open store locks some of them for reading."""


def back_up_database(path: Path, target: Path, lock: WriteLock, wait: float, on_pinned: Callable[[], None]) -> None:
    """Copy a database to a new file with the online backup API. Writers wait for `on_pinned` only.

    `on_pinned` is called while the write lock is held and the read transaction of the copy has begun.
    """
    with driver_errors("the backup"), contextlib.closing(connect(path)) as source:
        with lock.hold(wait):
            source.execute("BEGIN")
            source.execute("SELECT id FROM _tenants LIMIT 1").fetchall()  # the transaction begins with its first read
            on_pinned()
        create_private_file(target)
        with contextlib.closing(sqlite3.connect(target)) as copy:
            source.backup(copy, pages=_PAGES_PER_STEP, sleep=0)


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Keep all other processes from using the database file until the block ends.

    Uses the locks of SQLite itself, so that it works for damaged files too. Raises StoreInUseError if a process has
    the store open, and OSError. The calling process must not have the file open otherwise.
    """
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKED_BYTES, _PENDING_BYTE)
        except (BlockingIOError, PermissionError):
            raise StoreInUseError(f"{path} is in use: stop the service and every import first") from None
        yield
