"""Pool of the read connections of a SQLite store. Read transactions stay open between requests until a commit."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeAlias

from backends.deadline import QueryDeadline
from backends.errors import StorageError, StorageUnavailableError
from backends.sqlite.connection import connect, driver_errors, is_mapping_enabled, map_file, unmap_file
from backends.sqlite.dialect import CHECK_DEADLINE
from backends.sqlite.query_pacer import QueryPacer
from backends.sqlite.schema import escaped_rows
from backends.waiting import WaitRequired, acquire_lock, may_wait, refuse_to_wait

__all__ = ["ConnectionPool", "ReadConnection"]

_DEADLINE_CHECK_OPCODES = 100_000
"""Number of SQLite's virtual machine instructions between two checks of the deadline: about 5 milliseconds of work.

Each check takes the interpreter lock. A page of a usual query needs fewer instructions, so it is never checked.
"""

_MAX_IDLE_SECONDS = 1.0
"""Maximum age of an unused read transaction. An open read transaction keeps the WAL from being emptied."""

_MAX_ESCAPED_ROWS = 1000
"""Maximum number of records with escapes whose row ids are read."""

_INTERRUPT_SECONDS = 0.05
"""Time after which a statement that is in progress is interrupted, when its connection is closed."""

StoreVersion: TypeAlias = tuple[int, int]
"""Number of the keep-alive connection, and its `PRAGMA data_version`."""


@dataclass
class _KeepAliveConnection:
    """Connection that is open as long as the store. It keeps the file in WAL mode and reports commits.

    `is_wal` is False while the file is in another journal mode. In that mode an open read transaction would make a
    writer wait.
    """

    number: int
    connection: sqlite3.Connection
    is_wal: bool


@dataclass(eq=False)
class ReadConnection:
    """Connection with an optional read transaction; `version` is the store version at its start.

    A statement ends with SQLITE_INTERRUPT once `deadline` has passed. None means no time limit. A thread holds `lock`
    while it runs a step of a statement, because SQLite must not close a connection meanwhile.
    """

    connection: sqlite3.Connection
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: StoreVersion | None = None
    tenants: dict[str, tuple[int, int]] = field(default_factory=dict)
    escaped: dict[tuple[int, str], frozenset[int] | None] = field(default_factory=dict)
    last_used: float = 0.0
    deadline: QueryDeadline | None = None
    is_paced: bool = False
    """True if the pacer knows a query of the connection."""
    mapped_bytes: int | None = None
    """Size of the file that the connection for immediate reads has mapped, or 0; None for other connections."""

    def watch_deadline(self, pacer: QueryPacer) -> None:
        """Install the functions that pause long statements, and end them after `deadline`.

        SQLite calls one after a number of instructions, and the other one after each search in a long text.
        """

        def on_progress() -> bool:
            deadline = self.deadline
            if deadline is None or deadline.is_unlimited:
                return False
            if not may_wait():
                return deadline.has_passed()
            self.is_paced = True
            pacer.pause(self, deadline.lock_timeout)
            return deadline.has_passed()

        def check_deadline() -> int:
            if on_progress():
                self.connection.interrupt()
            return 0

        self.connection.create_function(CHECK_DEADLINE, 0, check_deadline)
        self.connection.set_progress_handler(on_progress, _DEADLINE_CHECK_OPCODES)

    def tenant(self, name: str) -> tuple[int, int]:
        """Return the id and revision of a tenant in this transaction; (-1, 0) for an unknown tenant."""
        row = self.tenants.get(name)
        if row is None:
            sql = "SELECT id, revision FROM _tenants WHERE name = ?"
            with self.lock:
                row = self.tenants[name] = self.connection.execute(sql, (name,)).fetchone() or (-1, 0)
        return row

    def has_escapes(self, tenant: int, collection: str, ids: array[int] | None) -> bool:
        """Return True if bodies may have escapes in this transaction: those of the rows `ids`, or all of a tenant."""
        escaped = self._escaped_rows(tenant, collection)
        return escaped is None or (bool(escaped) and (ids is None or not escaped.isdisjoint(ids)))

    def _escaped_rows(self, tenant: int, collection: str) -> frozenset[int] | None:
        """Return the row ids of the records with escapes; None if there are many."""
        key = tenant, collection
        if key not in self.escaped:
            with self.lock:
                rows = self.connection.execute(escaped_rows(collection), (tenant, _MAX_ESCAPED_ROWS + 1)).fetchall()
            self.escaped[key] = frozenset(row[0] for row in rows) if len(rows) <= _MAX_ESCAPED_ROWS else None
        return self.escaped[key]

    def begin(self, version: StoreVersion | None) -> None:
        """Start a transaction on the newest state."""
        self.end()
        with self.lock:
            self.connection.execute("BEGIN")
        self.version = version

    def end(self) -> None:
        """End the transaction if there is one."""
        self.version = None
        self.tenants.clear()
        self.escaped.clear()
        with self.lock:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection. A statement that another thread runs is interrupted."""
        with contextlib.suppress(sqlite3.Error):
            while not self.lock.acquire(timeout=_INTERRUPT_SECONDS):
                self.connection.interrupt()
            try:
                self.connection.close()
            finally:
                self.lock.release()


class ConnectionPool:
    """Pool of read connections. Thread-safe.

    As long as no process commits, the last transaction of a connection shows the newest state and is used again. This
    saves statements on every request. A statement is fast, but it releases the interpreter lock several times.

    `on_idle` is called in a background thread after all unused transactions have been ended.
    """

    def __init__(self, path: Path, on_idle: Callable[[], None]) -> None:
        self._path = path
        self._on_idle = on_idle
        self._idle: deque[ReadConnection] = deque()
        self._mapped: deque[ReadConnection] = deque()
        """Unused connection for immediate reads, which has mapped the file; empty before the first of them."""
        self._open: set[ReadConnection] = set()
        self._lock = threading.Lock()
        self._keep_alive: _KeepAliveConnection | None = None
        self._numbers = count()
        self._pacer = QueryPacer()
        self._sweeper: threading.Thread | None = None
        self._file_name = str(path)
        self._inode: int | None = None
        self._file_bytes = 0

    def version(self) -> StoreVersion:
        """Return a value that changes with every commit of any process. Raises StorageUnavailableError."""
        return self._version_and_mode()[0]

    def acquire(self, at_least: object = None) -> ReadConnection:
        """Return a connection in a transaction on the newest state, or on that of the version `at_least`.

        Raises StorageUnavailableError.
        """
        if not may_wait():
            return self._take_current(at_least)
        reader = self._take()
        if reader.version is None or reader.version != at_least:
            try:
                self._refresh(reader)
            except BaseException:
                self.discard(reader)
                raise
        if self._mapped:
            self._refresh_mapped(reader.version)
        return reader

    def release(self, reader: ReadConnection, *, clean: bool = True) -> None:
        """Put a connection back; `clean` is True if none of its statements is still running."""
        reader.deadline = None
        if reader.is_paced:
            self._forget_query(reader)
        try:
            if not clean or reader.version is None:
                reader.end()
        except sqlite3.Error:
            self.discard(reader)
            return
        reader.last_used = time.monotonic()
        self._put_back(reader)
        if self._sweeper is None and reader.version is not None:
            self._start_sweeper()

    def end_idle_transactions(self) -> None:
        """End the transactions of all unused connections, so that the WAL can be emptied."""
        for reader in list(self._pop_idle()):
            self._end_transaction(reader)

    def discard(self, reader: ReadConnection) -> None:
        """Close a connection for good."""
        self._forget_query(reader)
        self._open.discard(reader)
        reader.close()

    def close_unused(self) -> None:
        """Close every connection that no snapshot uses, and the keep-alive connection. The pool stays usable."""
        with self._lock:
            keep_alive, self._keep_alive = self._keep_alive, None
            if keep_alive is not None:
                keep_alive.connection.close()
        for reader in self._pop_idle():
            self.discard(reader)

    def close(self) -> None:
        """Close every connection. Open snapshots raise StorageUnavailableError from now on."""
        self.close_unused()
        for reader in list(self._open):
            self.discard(reader)

    def _forget_query(self, reader: ReadConnection) -> None:
        reader.is_paced = False
        self._pacer.forget(reader)

    def _take(self) -> ReadConnection:
        try:
            return self._idle.pop()
        except IndexError:
            with driver_errors(f"the database {self._path.name}"):
                reader = ReadConnection(connect(self._path))
            reader.watch_deadline(self._pacer)
            self._open.add(reader)
            return reader

    def _take_current(self, at_least: object) -> ReadConnection:
        """Return the mapped connection if its transaction is recent enough. Raises WaitRequired otherwise.

        Without a mapped connection, an unused one with such a transaction maps the file.
        """
        try:
            reader = self._mapped.pop() if self._mapped else self._idle.pop()
        except IndexError:
            raise WaitRequired from None
        try:
            if reader.version is None or (reader.version != at_least and reader.version != self.version()):
                raise WaitRequired
        except BaseException:
            self._put_back(reader)
            raise
        try:
            self._check_map(reader)
        except BaseException:
            self.discard(reader)
            raise
        return reader

    def _check_map(self, reader: ReadConnection) -> None:
        """Map the file if the connection is new to immediate reads. Raises WaitRequired if its map cannot be read.

        To read a mapped page beyond the end of the file would end the process.
        """
        if reader.mapped_bytes is None:
            if not is_mapping_enabled():
                reader.mapped_bytes = 0
                return
            with driver_errors(f"the database {self._path.name}"), reader.lock:
                map_file(reader.connection)
        elif not reader.mapped_bytes:
            return
        elif self._file_bytes < reader.mapped_bytes or not is_mapping_enabled():
            raise WaitRequired
        reader.mapped_bytes = self._file_bytes

    def _refresh_mapped(self, version: StoreVersion | None) -> None:
        """Let the unused mapped connection show the newest state too, because an immediate read cannot do that."""
        try:
            reader = self._mapped.pop()
        except IndexError:
            return
        try:
            if reader.version != version:
                self._refresh(reader)
        except StorageError:  # the next read that needs a new connection raises it
            self.discard(reader)
        else:
            self._put_back(reader)

    def _put_back(self, reader: ReadConnection) -> None:
        """Add a connection to the unused ones. Of the mapped ones, only one keeps its map."""
        if reader.mapped_bytes is not None and self._mapped:
            with reader.lock:
                unmap_file(reader.connection)
            reader.mapped_bytes = None
        (self._idle if reader.mapped_bytes is None else self._mapped).append(reader)

    def _pop_idle(self) -> Iterator[ReadConnection]:
        for idle in (self._idle, self._mapped):
            with contextlib.suppress(IndexError):
                while True:
                    yield idle.popleft()

    def _refresh(self, reader: ReadConnection) -> None:
        # Read the version before the transaction begins. If a commit comes in between, the version is too old, which
        # costs one refresh.
        version, is_wal = self._version_and_mode()
        if reader.version != version:
            with driver_errors(f"the database {self._path.name}"):
                reader.begin(version if is_wal else None)

    def _version_and_mode(self) -> tuple[StoreVersion, bool]:
        acquire_lock(self._lock)
        try:
            with driver_errors(f"the database {self._path.name}"):
                self._check_file()
                keep_alive = self._keep_alive
                if keep_alive is None or not keep_alive.is_wal:
                    refuse_to_wait()
                if keep_alive is None:
                    keep_alive = self._keep_alive = self._connect_keep_alive()
                (version,) = keep_alive.connection.execute("PRAGMA data_version").fetchone()
                return (keep_alive.number, version), keep_alive.is_wal
        finally:
            self._lock.release()

    def _check_file(self) -> None:
        """Raise StorageUnavailableError if the file is no longer the one that was opened first.

        Open connections still show the contents of a deleted file.
        """
        try:
            status = os.stat(self._file_name)  # noqa: PTH116 - twice as fast, and run for each request
        except FileNotFoundError as error:
            raise StorageUnavailableError(
                f"the database {self._path} is missing: put it back, or stop the service and restore a backup"
            ) from error
        inode = status.st_ino
        if inode != self._inode:
            if self._inode is not None:
                raise StorageUnavailableError(
                    f"the database {self._path} was replaced by another file: start the service again"
                )
            self._inode = inode
        self._file_bytes = status.st_size

    def _connect_keep_alive(self) -> _KeepAliveConnection:
        connection = connect(self._path)
        try:
            connection.execute("SELECT id FROM _tenants LIMIT 1").fetchall()
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        except BaseException:
            connection.close()
            raise
        return _KeepAliveConnection(next(self._numbers), connection, mode == "wal")

    def _start_sweeper(self) -> None:
        with self._lock:
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="chalk-readers", daemon=True)
                self._sweeper.start()

    def _sweep(self) -> None:
        """End transactions that were not used recently. The thread ends when no transaction is open."""
        while True:
            time.sleep(_MAX_IDLE_SECONDS)
            deadline = time.monotonic() - _MAX_IDLE_SECONDS
            for idle in (self._idle, self._mapped):
                for _ in range(len(idle)):
                    with contextlib.suppress(IndexError):
                        self._end_or_requeue(idle.popleft(), deadline)
            if not any(reader.version for reader in [*self._idle, *self._mapped]):
                self._sweeper = None
                self._on_idle()
                return

    def _end_or_requeue(self, reader: ReadConnection, deadline: float) -> None:
        if reader.version is not None and reader.last_used < deadline:
            self._end_transaction(reader)
        else:
            self._put_back(reader)

    def _end_transaction(self, reader: ReadConnection) -> None:
        try:
            reader.end()
        except sqlite3.Error:
            self.discard(reader)
        else:
            if reader.mapped_bytes is None:
                self._idle.appendleft(reader)
            else:
                self._put_back(reader)
