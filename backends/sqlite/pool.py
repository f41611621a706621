"""The reading connections of a SQLite store, whose transactions outlive a request for as long as nobody writes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeAlias

from backends.sqlite.connection import connect, driver_errors

__all__ = ["ConnectionPool", "ReadConnection"]

IDLE_SECONDS = 1.0
"""Seconds that an unused read transaction may live: it keeps the WAL from being emptied."""

Version: TypeAlias = tuple[int, int] | None
"""What a connection that is always held says of commits by others: which connection, and its `data_version`."""


@dataclass
class KeepAliveConnection:
    """A connection that is held as long as the store is open: it keeps the file in WAL mode, and tells of commits.

    `wal` is False while the file is in another mode, in which a read transaction that is left open would keep a writer
    waiting.
    """

    number: int
    connection: sqlite3.Connection
    wal: bool


@dataclass(eq=False)
class ReadConnection:
    """A connection, perhaps in a read transaction: `version` is the store's when that began."""

    connection: sqlite3.Connection
    version: Version = None
    tenants: dict[str, tuple[int, int]] = field(default_factory=dict)
    used: float = 0.0

    def tenant(self, name: str) -> tuple[int, int]:
        """Number and revision of a tenant in this transaction; (-1, 0) for one that never wrote."""
        found = self.tenants.get(name)
        if found is None:
            sql = "SELECT id, revision FROM _tenants WHERE name = ?"
            found = self.tenants[name] = self.connection.execute(sql, (name,)).fetchone() or (-1, 0)
        return found

    def begin(self, version: Version) -> None:
        """Start a transaction on what is newest now."""
        self.end()
        self.connection.execute("BEGIN")
        self.version = version

    def end(self) -> None:
        """End the transaction, if there is one."""
        self.version = None
        self.tenants.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


class ConnectionPool:
    """A pool. While nobody commits, a reader's last transaction still shows what is newest.

    `at_rest` is called, in a thread of its own, when nobody has read for a while and no transaction is open any more.

    So a request that follows another needs few statements beside its own: each costs little, but gives the
    interpreter's lock away several times.
    """

    def __init__(self, path: Path, at_rest: Callable[[], None]) -> None:
        self._path = path
        self._at_rest = at_rest
        self._idle: deque[ReadConnection] = deque()
        self._anchoring = threading.Lock()
        self._anchor: KeepAliveConnection | None = None
        self._numbers = count()
        self._sweeper: threading.Thread | None = None

    def version(self) -> tuple[int, int]:
        """Another value after every commit by anyone, in this process or another. Raises StorageUnavailableError."""
        return self._version()[0]

    def acquire(self, since: object = None) -> ReadConnection:
        """A reader in a transaction on what is newest, or on what was so at the version `since`. Raises StorageUnavailableError."""
        reader = self._pooled()
        if reader.version is None or reader.version != since:
            try:
                self._renew(reader)
            except BaseException:
                self.discard(reader)
                raise
        return reader

    def _pooled(self) -> ReadConnection:
        try:
            return self._idle.pop()
        except IndexError:
            with driver_errors(f"the database {self._path.name}"):
                return ReadConnection(connect(self._path))

    def _renew(self, reader: ReadConnection) -> None:
        # The version is asked for before the transaction begins: a commit in between makes it too old, never too new.
        version, wal = self._version()
        if reader.version != version:
            with driver_errors(f"the database {self._path.name}"):
                reader.begin(version if wal else None)

    def release(self, reader: ReadConnection, *, clean: bool = True) -> None:
        """Give a reader back; `clean` when none of its statements is still running."""
        try:
            if not clean or reader.version is None:
                reader.end()
        except sqlite3.Error:
            self.discard(reader)
            return
        reader.used = time.monotonic()
        self._idle.append(reader)
        if self._sweeper is None and reader.version is not None:
            self._sweep_later()

    def close_idle(self) -> None:
        """End the transactions of all readers that nobody uses: what they hold of the WAL cannot be emptied."""
        waiting: list[ReadConnection] = []
        with contextlib.suppress(IndexError):
            while True:
                waiting.append(self._idle.popleft())
        for reader in waiting:
            self._ended(reader)

    def discard(self, reader: ReadConnection) -> None:
        """Close a reader for good."""
        with contextlib.suppress(sqlite3.Error):
            reader.connection.close()

    def close(self) -> None:
        """Close every connection that no snapshot uses, the one that is always held too; `take` opens them again."""
        with self._anchoring:
            anchor, self._anchor = self._anchor, None
            if anchor is not None:
                anchor.connection.close()
        with contextlib.suppress(IndexError):
            while True:
                self.discard(self._idle.pop())

    def _version(self) -> tuple[tuple[int, int], bool]:
        with self._anchoring, driver_errors(f"the database {self._path.name}"):
            anchor = self._anchor
            if anchor is None:
                anchor = self._anchor = self._anchored()
            (version,) = anchor.connection.execute("PRAGMA data_version").fetchone()
            return (anchor.number, version), anchor.wal

    def _anchored(self) -> KeepAliveConnection:
        connection = connect(self._path)
        connection.execute("SELECT id FROM _tenants LIMIT 1").fetchall()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        return KeepAliveConnection(next(self._numbers), connection, mode == "wal")

    def _sweep_later(self) -> None:
        with self._anchoring:
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="chalk-readers", daemon=True)
                self._sweeper.start()

    def _sweep(self) -> None:
        """End transactions that nobody has used for a while; over when there are none."""
        while True:
            time.sleep(IDLE_SECONDS)
            late = time.monotonic() - IDLE_SECONDS
            for _ in range(len(self._idle)):
                with contextlib.suppress(IndexError):
                    self._sweep_one(self._idle.popleft(), late)
            if not any(reader.version for reader in list(self._idle)):
                self._sweeper = None
                self._at_rest()
                return

    def _sweep_one(self, reader: ReadConnection, late: float) -> None:
        if reader.version is not None and reader.used < late:
            self._ended(reader)
        else:
            self._idle.append(reader)

    def _ended(self, reader: ReadConnection) -> None:
        try:
            reader.end()
        except sqlite3.Error:
            self.discard(reader)
        else:
            self._idle.appendleft(reader)
