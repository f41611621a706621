"""The reading connections of a SQLite store, whose transactions outlive a request for as long as nobody writes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeAlias

from backends._sqlite_file import connect, driver_errors
from backends._sqlite_header import WalHeader

__all__ = ["Reader", "Readers"]

IDLE = 1.0
"""Seconds that an unused read transaction may live: it keeps the WAL from being emptied."""

Header: TypeAlias = tuple[int, bytes] | None
"""Which index was read (a new one begins as the old one did) and what it said."""


@dataclass(eq=False)
class Reader:
    """A connection, perhaps in a read transaction: `header` is what the WAL index said when that began."""

    connection: sqlite3.Connection
    header: Header = None
    tenants: dict[str, tuple[int, int]] = field(default_factory=dict)
    used: float = 0.0

    def tenant(self, name: str) -> tuple[int, int]:
        """Number and revision of a tenant in this transaction; (-1, 0) for one that never wrote."""
        found = self.tenants.get(name)
        if found is None:
            sql = "SELECT id, revision FROM _tenants WHERE name = ?"
            found = self.tenants[name] = self.connection.execute(sql, (name,)).fetchone() or (-1, 0)
        return found

    def begin(self, header: Header) -> None:
        """Start a transaction on what is newest now."""
        self.end()
        self.connection.execute("BEGIN")
        self.header = header

    def end(self) -> None:
        """End the transaction, if there is one."""
        self.header = None
        self.tenants.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


class Readers:
    """A pool. While the WAL index stands as it did, a reader's last transaction still shows what is newest.

    So a request that follows another needs no statement but its own: each costs little, but gives the interpreter's
    lock away several times. One connection more is held as long as the pool is open: it keeps the file in WAL mode and
    its index in place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[Reader] = deque()
        self._anchoring = threading.Lock()
        self._anchor: sqlite3.Connection | None = None
        self._index: WalHeader | None = None
        self._numbers = count()
        self._sweeper: threading.Thread | None = None

    def header(self) -> Header:
        """What the WAL index says now: another value after every commit by anyone; None when that cannot be told."""
        index = self._index or self._anchored()
        found = index.read()
        return None if found is None else (index.number, found)

    def take(self) -> Reader:
        """A reader in a transaction on what is newest. Raises StoreFailed."""
        header = self.header()
        with driver_errors(f"the database {self._path.name}"):
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = Reader(connect(self._path))
            if header is None or reader.header != header:
                try:
                    reader.begin(header)
                except BaseException:
                    self.drop(reader)
                    raise
            return reader

    def give(self, reader: Reader, *, clean: bool = True) -> None:
        """Give a reader back; `clean` when none of its statements is still running."""
        try:
            if not clean or reader.header is None:
                reader.end()
        except sqlite3.Error:
            self.drop(reader)
            return
        reader.used = time.monotonic()
        self._idle.append(reader)
        if self._sweeper is None and reader.header is not None:
            self._sweep_later()

    def drop(self, reader: Reader) -> None:
        """Close a reader for good."""
        with contextlib.suppress(sqlite3.Error):
            reader.connection.close()

    def close(self) -> None:
        """Close every connection that no snapshot uses, the one that is always held too; `take` opens them again."""
        with self._anchoring:
            index, anchor = self._index, self._anchor
            self._index = self._anchor = None
            if index is not None:
                index.close()
            if anchor is not None:
                anchor.close()
        with contextlib.suppress(IndexError):
            while True:
                self.drop(self._idle.pop())

    def _anchored(self) -> WalHeader:
        with self._anchoring, driver_errors(f"the database {self._path.name}"):
            if self._index is None:
                self._anchor = connect(self._path)
                self._anchor.execute("SELECT id FROM _tenants LIMIT 1").fetchall()
                self._index = WalHeader(self._path, next(self._numbers))
            return self._index

    def _sweep_later(self) -> None:
        with self._anchoring:
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="chalk-readers", daemon=True)
                self._sweeper.start()

    def _sweep(self) -> None:
        """End transactions that nobody has used for a while; over when there are none."""
        while True:
            time.sleep(IDLE)
            late = time.monotonic() - IDLE
            for _ in range(len(self._idle)):
                with contextlib.suppress(IndexError):
                    self._sweep_one(self._idle.popleft(), late)
            if not any(reader.header for reader in list(self._idle)):
                self._sweeper = None
                return

    def _sweep_one(self, reader: Reader, late: float) -> None:
        if reader.header is not None and reader.used < late:
            try:
                reader.end()
            except sqlite3.Error:
                self.drop(reader)
                return
            self._idle.appendleft(reader)
        else:
            self._idle.append(reader)
