"""Bulk insert for large loads: one thread prepares rows while another one runs the INSERT statements.

SQLite releases the interpreter lock while a statement runs. A statement with hundreds of rows runs long enough for the
other thread to prepare the next rows.
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

__all__ = ["bulk_inserter"]

_MAX_PARAMS = 30_000
"""Maximum number of parameters in one statement. SQLite's own limit is 32,766."""

_MAX_STATEMENT_ROWS = 500
"""Maximum number of rows in one statement."""

_MAX_QUEUED_INSERTS = 8
"""Maximum number of queued inserts. The producer waits while the queue is full."""

_SERIALIZED = 3
"""Value of `sqlite3.threadsafety` if threads may share a connection."""

_SWITCH_INTERVAL_SECONDS = 0.00005
"""Interpreter switch interval while both threads work."""

_Insert: TypeAlias = tuple[str, int, list[object]]


def _insert(connection: sqlite3.Connection, target: str, width: int, values: list[object]) -> None:
    """Insert the rows of the flat list `values`, each `width` long, into a target such as `table (columns)`."""
    max_values = width * min(_MAX_STATEMENT_ROWS, _MAX_PARAMS // width)
    for start in range(0, len(values), max_values):
        part = values[start : start + max_values]
        rows = ", ".join([f"({', '.join('?' * width)})"] * (len(part) // width))
        connection.execute(f"INSERT INTO {target} VALUES {rows}", part)


class _BackgroundInserter:
    """Queue of inserts that a background thread runs. Driver errors are raised again in the calling thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: queue.Queue[_Insert | None] = queue.Queue(_MAX_QUEUED_INSERTS)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="chalk-load", daemon=True)
        self._thread.start()

    def __call__(self, target: str, width: int, values: list[object]) -> None:
        """Queue rows for insertion."""
        self._raise_error()
        self._queue.put((target, width, values))

    def finish(self) -> None:
        """Wait until all rows are inserted. Raises the error of a failed insert."""
        self.stop()
        self._raise_error()

    def stop(self) -> None:
        """End the thread after the queued inserts."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    _insert(self._connection, *item)
                except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
                    self._error = error  # raised in the calling thread; later inserts are dropped


@contextlib.contextmanager
def bulk_inserter(
    connection: sqlite3.Connection, *, in_background: bool
) -> Iterator[Callable[[str, int, list[object]], None]]:
    """Yield a function that inserts rows.

    With `in_background`, a thread runs the inserts if threads may share a connection.
    """
    if not in_background or sqlite3.threadsafety < _SERIALIZED:
        yield partial(_insert, connection)
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, _SWITCH_INTERVAL_SECONDS))
    inserter = _BackgroundInserter(connection)
    try:
        yield inserter
        inserter.finish()
    finally:
        inserter.stop()
        sys.setswitchinterval(interval)
