"""Work of SQLite in a snapshot, so that tests can bound it without measuring time."""

from __future__ import annotations

from backends import Snapshot
from backends.sqlite.snapshot import SQLiteSnapshot

__all__ = ["statements_of", "steps_of"]


def steps_of(snapshot: Snapshot) -> list[int]:
    """Return a list that grows by one item for each 100 steps of SQLite's virtual machine."""
    assert isinstance(snapshot, SQLiteSnapshot)
    connection, steps = snapshot._connection, list[int]()
    assert connection is not None
    connection.set_progress_handler(lambda: steps.append(100), 100)
    return steps


def statements_of(snapshot: Snapshot) -> list[str]:
    """Return a list that grows by the SQL text of each statement, with its values."""
    assert isinstance(snapshot, SQLiteSnapshot)
    connection, statements = snapshot._connection, list[str]()
    assert connection is not None
    connection.set_trace_callback(statements.append)
    return statements
