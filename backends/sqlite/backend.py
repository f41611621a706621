"""The default store: one SQLite file in WAL mode, `sqlite:///relative.db` or `sqlite:////absolute.db`.

Readers never wait. Writers and checkpoints take turns under one lock of all processes, because SQLite up to 3.51.2 can
corrupt a WAL when one connection writes while another checkpoints.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from backends.base import Backend, Snapshot, Transaction
from backends.errors import StorageBusyError, StorageError, StorageUnavailableError
from backends.records import Collection
from backends.sqlite.connection import WriteLock, connect, driver_errors
from backends.sqlite.pool import ConnectionPool, ReadConnection
from backends.sqlite.query_cache import QueryCache
from backends.sqlite.schema import has_our_schema, prepare_database
from backends.sqlite.snapshot import PooledSnapshot
from backends.sqlite.transaction import SQLiteTransaction
from backends.validation import file_path

__all__ = ["SQLiteBackend"]

WAL_LIMIT_BYTES = 4 << 20
"""Bytes of WAL after which a writer moves it into the database."""


class SQLiteBackend(Backend):
    """Connections are pooled: a reader takes one and gives it back; there is one writer at a time."""

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections = {collection.name: collection for collection in collections}
        self._path = path
        self._lock = WriteLock(path.with_name(path.name + ".lock"))
        self._readers = ConnectionPool(path, self._tidy)
        self._plans = QueryCache()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the file, creating it (mode 0600), its folder and its tables when they are missing."""
        path = file_path(url)
        store = cls(path, collections)
        prepare_database(path, store.collections.values(), store._lock)
        store._readers.version()
        return store

    @classmethod
    def exists(cls, url: str) -> bool:
        """Whether the file is there."""
        return file_path(url).is_file()

    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        """Return a snapshot on a pooled connection.

        With `at_least`, an open read transaction of that version is reused as it is.
        """
        self._check_open()
        reader = self._readers.acquire(at_least)
        try:
            with driver_errors("reading"):
                return PooledSnapshot(reader, tenant, self.collections, self._plans, self._give_back)
        except BaseException:
            self._readers.discard(reader)
            raise

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """The next turn to write."""
        self._check_open()
        self._lock.acquire(wait)
        connection = None
        try:
            with driver_errors("writing"):
                connection = connect(self._path, writes=True)
                if not tenant.startswith("_"):  # bookkeeping is small, and written while others read
                    self._load_directly(connection)
                connection.execute("BEGIN IMMEDIATE")
                return SQLiteTransaction(connection, tenant, self.collections, self._finish)
        except BaseException:
            if connection is not None:
                connection.close()
            self._lock.release()
            raise

    def tenants(self) -> list[str]:
        """Everybody for whom a transaction was committed."""
        self._check_open()
        with driver_errors("reading"), contextlib.closing(connect(self._path)) as connection:
            return sorted(name for (name,) in connection.execute("SELECT name FROM _tenants"))

    def version(self, tenant: str) -> object:
        """What SQLite tells a connection of the commits by others."""
        self._check_open()
        return self._readers.version()

    def check(self) -> list[str]:
        """SQLite's own integrity check, and rows of the side table that belong to no record."""
        self._check_open()
        with driver_errors("checking"), contextlib.closing(connect(self._path)) as connection:
            if not has_our_schema(connection):
                return [f"{self._path.name} is not a store of Chalk Flask"]
            found = [text for (text,) in connection.execute("PRAGMA integrity_check(20)") if text != "ok"]
            return found + self._orphans(connection)

    def close(self) -> None:
        """Close the pooled connections; the last one to close may checkpoint, so it is done under the lock."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as stack, contextlib.suppress(StorageError):
            with contextlib.suppress(StorageBusyError):
                stack.enter_context(self._lock.held(5))
            self._readers.close()

    def _orphans(self, connection: sqlite3.Connection) -> list[str]:
        problems = []
        for name in self.collections:
            sql = (
                "SELECT count(*) FROM _many WHERE path IN (SELECT id FROM _paths WHERE collection = ?)"
                f' AND id NOT IN (SELECT _id FROM "{name}")'
            )
            (count,) = connection.execute(sql, (name,)).fetchone()
            if count:
                problems.append(f"{count} values of {name} belong to no record")
        return problems

    def _give_back(self, reader: ReadConnection, clean: bool) -> None:
        if self._closed:
            self._readers.discard(reader)
        else:
            self._readers.release(reader, clean=clean)

    def _finish(self, connection: sqlite3.Connection, committed: bool) -> None:
        """After COMMIT or instead of it: fold the WAL in when it has grown, close, and let the next writer in."""
        try:
            with contextlib.suppress(sqlite3.Error):
                if not committed:
                    connection.execute("ROLLBACK")
                if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    connection.execute("PRAGMA journal_mode = WAL")
                    self._readers.close()  # what was opened meanwhile took the file for one without a WAL
                self._checkpoint(connection)
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        finally:
            self._lock.release()

    def _load_directly(self, connection: sqlite3.Connection) -> None:
        """Write the first records of all straight into the file: through the WAL everything would be written twice.

        A rollback journal keeps that just as safe. It is used only while nobody else has the file open, because it
        would make readers wait; every open store keeps a connection, so SQLite itself tells.
        """
        (begun,) = connection.execute("SELECT EXISTS (SELECT 1 FROM _tenants WHERE revision > 0)").fetchone()
        if not begun:
            self._readers.close()
            connection.execute("PRAGMA busy_timeout = 0")
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA busy_timeout = 10000")

    def _tidy(self) -> None:
        """Fold the WAL in while nobody reads or writes: what was deleted is in there, too, until then."""
        if self._closed:
            return  # the lock, and so its file, are none of ours any more
        with contextlib.suppress(StorageError, sqlite3.Error), self._lock.held(0):
            if not self._closed:
                with contextlib.closing(connect(self._path, writes=True)) as connection:
                    self._checkpoint(connection, most=0)

    def _checkpoint(self, connection: sqlite3.Connection, most: int = WAL_LIMIT_BYTES) -> None:
        wal = self._path.with_name(self._path.name + "-wal")
        with contextlib.suppress(OSError):
            if wal.stat().st_size > most:
                self._readers.close_idle()
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed")
