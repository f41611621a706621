"""A large load into an empty table: one thread makes rows while another hands them to SQLite.

SQLite works without the interpreter's lock for as long as a statement runs. A statement that inserts hundreds of rows
runs long enough for the other thread to prepare the next ones.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

__all__ = ["background_inserts"]

MAX_PARAMS = 30_000
"""Values that one statement takes; SQLite's own limit is 32,766."""

ROWS_PER_STATEMENT = 500
"""Rows that one statement inserts."""

MAX_QUEUED_STATEMENTS = 8
"""Batches that may wait."""

SERIALIZED = 3
"""The driver's `threadsafety` when threads may share a connection."""

SWITCH = 0.00005
"""Seconds after which a thread that waits for the interpreter is let in, while there are two at work."""

Insert: TypeAlias = tuple[str, int, list[object]]


def insert(connection: sqlite3.Connection, target: str, width: int, values: list[object]) -> None:
    """Insert `len(values) / width` rows, given flat, into a target such as `table (columns)`."""
    most = width * min(ROWS_PER_STATEMENT, MAX_PARAMS // width)
    for start in range(0, len(values), most):
        part = values[start : start + most]
        rows = ", ".join([f"({', '.join('?' * width)})"] * (len(part) // width))
        connection.execute(f"INSERT INTO {target} VALUES {rows}", part)


class BackgroundInserter:
    """Does what `insert` does, later and in another thread. Raises what the driver raised there."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: queue.Queue[Insert | None] = queue.Queue(MAX_QUEUED_STATEMENTS)
        self._failure: Exception | None = None
        self._worker = threading.Thread(target=self._work, name="chalk-load", daemon=True)
        self._worker.start()

    def __call__(self, target: str, width: int, values: list[object]) -> None:
        """Have rows inserted."""
        self._raise_failure()
        self._waiting.put((target, width, values))

    def finish(self) -> None:
        """Wait until everything is inserted."""
        self.stop()
        self._raise_failure()

    def stop(self) -> None:
        """End the thread, once what waits was inserted or has failed."""
        if self._worker.is_alive():
            self._waiting.put(None)
            self._worker.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:
                try:
                    insert(self._connection, *item)
                except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
                    self._failure = error  # raised in the thread that adds; what still comes is let through


@contextlib.contextmanager
def background_inserts(
    connection: sqlite3.Connection, *, ahead: bool
) -> Iterator[Callable[[str, int, list[object]], None]]:
    """What inserts rows for one load: at once, or with `ahead` in a thread of its own, where SQLite allows that."""
    if not ahead or sqlite3.threadsafety < SERIALIZED:
        yield partial(insert, connection)
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH))
    inserts = BackgroundInserter(connection)
    try:
        yield inserts
        inserts.finish()
    finally:
        inserts.stop()
        sys.setswitchinterval(interval)
