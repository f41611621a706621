"""Storage in one SQLite file in WAL mode: `sqlite:///relative.db` or `sqlite:////absolute.db`.

Readers never wait. One write lock for all processes covers writes and checkpoints. Without it, SQLite up to 3.51.2 can
corrupt a WAL when one connection writes while another one runs a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from backends.base import Backend, Snapshot, Transaction
from backends.errors import StorageError, StorageUnavailableError
from backends.records import Collection
from backends.repair import rebuild_values
from backends.sql.query_cache import QueryCache
from backends.sqlite.backup import back_up_database, exclusive_lock
from backends.sqlite.cached_query import CachedQuery
from backends.sqlite.connection import WriteLock, connect, driver_errors
from backends.sqlite.pool import ConnectionPool, ReadConnection
from backends.sqlite.schema import (
    SCHEMA_VERSION,
    declared_parts,
    describe,
    prepare_database,
    read_schema,
    restore_parts,
)
from backends.sqlite.snapshot import PooledSnapshot
from backends.sqlite.transaction import SQLiteTransaction
from backends.sqlite.unused_field_paths import PathCleaner
from backends.statement_watch import StatementWatch
from backends.validation import file_path
from backends.waiting import limit_seconds, refuse_to_wait

__all__ = ["SQLiteBackend"]

_MAX_WAL_BYTES = 4 << 20
"""Size of the WAL above which a writer runs a checkpoint."""

_CLOSE_LOCK_TIMEOUT_SECONDS = 5.0
_BUSY_TIMEOUT_MILLISECONDS = 10_000

_BACKUP_FILE = "chalk.db"
"""Name of the database in a backup."""


class SQLiteBackend(Backend):
    """Backend with a pool of read connections and a new connection for each write transaction."""

    parallel = True
    has_immediate_reads = True
    schema_version = SCHEMA_VERSION

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections = {collection.name: collection for collection in collections}
        self._path = path
        self._lock = WriteLock(_lock_path(path), path)
        self._readers = ConnectionPool(path, self._checkpoint_when_idle)
        self._query_cache = QueryCache[CachedQuery]()
        self._path_cleaner = PathCleaner()
        self._watch = StatementWatch()
        self._is_described = False
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        """Open the file; create it (mode 0600), its folder and its tables if they are missing.

        New columns get their values from the bodies of the records.
        """
        path = file_path(url)
        store = cls(path, collections)
        schema, extended = prepare_database(path, store.collections.values(), store._lock)
        store.store_id = schema.store_id
        store._is_described = schema.is_described(declared_parts(store.collections.values()))
        store._readers.version()
        if extended:
            rebuild_values(store, extended)
        return store

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return True if there is a file, or something else in its place."""
        return os.path.lexists(file_path(url))

    @classmethod
    def repair(cls, url: str, collections: Iterable[Collection]) -> list[str]:
        """Create missing tables, columns and indexes, and rebuild the values of all records."""
        path = file_path(url)
        declared = list(collections)
        restored = restore_parts(path, declared, WriteLock(_lock_path(path), path))
        return [*(f"created {part}" for part in restored), *super().repair(url, declared)]

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        """Return a snapshot on a pooled connection.

        With `at_least`, an open read transaction of that version is reused as it is.
        """
        self._check_open()
        reader = self._readers.acquire(at_least)
        try:
            with driver_errors("reading"):
                return PooledSnapshot(
                    reader,
                    tenant,
                    self.collections,
                    self._query_cache,
                    self._release_reader,
                    limit_seconds(query_seconds),
                    self._watch,
                )
        except BaseException:
            self._readers.discard(reader)
            raise

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the write lock and return a transaction on a new connection."""
        self._check_open()
        refuse_to_wait()
        self._lock.acquire(wait)
        connection = None
        try:
            with driver_errors("writing"):
                connection = connect(self._path, writes=True)
                if not self._is_described:
                    self._describe(connection)
                if not tenant.startswith("_"):  # tenants of the service itself have few records
                    self._disable_wal_for_first_load(connection)
                connection.execute("BEGIN IMMEDIATE")
                return SQLiteTransaction(
                    connection, tenant, self.collections, self._finish_write, self._path_cleaner, self._watch
                )
        except BaseException:
            if connection is not None:
                connection.close()
            self._lock.release()
            raise

    def tenants(self) -> list[str]:
        """Return the names of all tenants for which a transaction was committed."""
        self._check_open()
        with driver_errors("reading"), contextlib.closing(connect(self._path)) as connection:
            return sorted(name for (name,) in connection.execute("SELECT name FROM _tenants"))

    def version(self, tenant: str) -> object:
        """Return SQLite's `data_version` of a connection that stays open, with the number of that connection."""
        self._check_open()
        return self._readers.version()

    def watch_statements(self, seconds: float, on_slow: Callable[[str, float], None]) -> None:
        """Report slow statements of reads, and slow commits."""
        self._watch.set(seconds, on_slow)

    def check(self) -> list[str]:
        """Look for missing parts and for values without a record, and run SQLite's integrity check."""
        self._check_open()
        with driver_errors("checking"), contextlib.closing(connect(self._path)) as connection:
            schema = read_schema(connection)
            if not schema.is_own:
                return [f"{self._path.name} is not a Chalk Flask store"]
            if missing := schema.damage(declared_parts(self.collections.values())):
                return [f"{part} is missing: run `chalk-flask check --repair`" for part in missing]
            problems = [text for (text,) in connection.execute("PRAGMA integrity_check(20)") if text != "ok"]
            return problems + self._orphaned_values(connection)

    def back_up(self, folder: Path, on_pinned: Callable[[], None], wait: float = 60.0) -> None:
        """Copy the database with the online backup API. Writers wait for `on_pinned` only."""
        self._check_open()
        back_up_database(self._path, folder / _BACKUP_FILE, self._lock, wait, on_pinned)

    @classmethod
    def backed_up_store(cls, folder: Path) -> Path:
        """Return the database file of a backup."""
        return folder / _BACKUP_FILE

    @classmethod
    def store_files(cls, path: Path) -> list[Path]:
        """Return the WAL and its index, and the database file."""
        return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")] + [path]

    @classmethod
    def lock_exclusively(cls, path: Path) -> contextlib.AbstractContextManager[None]:
        """Return a context manager with an exclusive lock of SQLite on the file. A folder in its place needs none."""
        return exclusive_lock(path) if path.is_file() else contextlib.nullcontext()

    def close(self) -> None:
        """Close all read connections, including those of open snapshots.

        The last connection of a file may run a checkpoint as it closes, so this holds the write lock.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(StorageError):  # a lock that is busy or unusable keeps no connection open
                stack.enter_context(self._lock.hold(_CLOSE_LOCK_TIMEOUT_SECONDS))
            self._readers.close()

    def _describe(self, connection: sqlite3.Connection) -> None:
        """Describe a store of an earlier version of the program, before its first write."""
        connection.execute("BEGIN IMMEDIATE")
        describe(connection, self.collections.values())
        connection.execute("COMMIT")
        schema = read_schema(connection)
        self.store_id, self._is_described = schema.store_id, True

    def _orphaned_values(self, connection: sqlite3.Connection) -> list[str]:
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

    def _release_reader(self, reader: ReadConnection, clean: bool) -> None:
        if self._closed:
            self._readers.discard(reader)
        else:
            self._readers.release(reader, clean=clean)

    def _finish_write(self, connection: sqlite3.Connection, committed: bool) -> None:
        """Roll back unless committed, run a checkpoint if the WAL is large, close, and release the write lock."""
        try:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(connection):
                if not committed:
                    connection.execute("ROLLBACK")
                if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    connection.execute("PRAGMA journal_mode = WAL")
                    self._readers.close_unused()  # connections that were opened in the meantime expect no WAL
                self._checkpoint(connection)
        finally:
            self._lock.release()

    def _disable_wal_for_first_load(self, connection: sqlite3.Connection) -> None:
        """Use a rollback journal for the first records of a store, because a WAL would write everything twice.

        A rollback journal is equally safe, but makes readers wait. SQLite changes the mode only if no other connection
        is open. Every open store keeps one open, so the change fails while another process uses the file.
        """
        (has_records,) = connection.execute("SELECT EXISTS (SELECT 1 FROM _tenants WHERE revision > 0)").fetchone()
        if not has_records:
            self._readers.close_unused()
            connection.execute("PRAGMA busy_timeout = 0")
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MILLISECONDS}")

    def _checkpoint_when_idle(self) -> None:
        """Move the WAL into the database. Until then it still contains deleted records."""
        if self._closed:
            return  # the folder may have been deleted, and the lock file must not be created again
        with contextlib.suppress(StorageError, sqlite3.Error), self._lock.hold(0):
            if not self._closed:
                with contextlib.closing(connect(self._path, writes=True)) as connection:
                    self._checkpoint(connection, max_bytes=0)

    def _checkpoint(self, connection: sqlite3.Connection, max_bytes: int = _MAX_WAL_BYTES) -> None:
        wal = self._path.with_name(self._path.name + "-wal")
        with contextlib.suppress(OSError):
            if wal.stat().st_size > max_bytes:
                self._readers.end_idle_transactions()
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailableError("the store is closed: open it again to use it")


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
