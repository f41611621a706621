"""Records that are in a SQLite store already: only what differs is written.

A statement that names a column costs every index of that column, whether its value changes or not. Most changes of a
roster touch few columns, and a database that is larger than the cache pays for each page that is touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

from backends.sqlite.compiler import quote_identifier

__all__ = ["update_rows"]


def update_rows(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    sides: Sequence[tuple[int, int, object]],
    paths: Sequence[int],
) -> None:
    """Make stored rows what they are to be: row number first, then the values of `columns`.

    `sides` is all that the side table is to hold of them under the paths of their collection, `paths`.
    """
    numbers = orjson.dumps([row[0] for row in rows]).decode()
    _change_rows(connection, table, columns, rows, numbers)
    if paths:
        _change_sides(connection, set(sides), paths, numbers)


def _change_rows(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numbers: str
) -> None:
    names = ", ".join(map(quote_identifier, columns))
    found = connection.execute(
        f"SELECT _id, {names} FROM {table} WHERE _id IN (SELECT value FROM json_each(?))", (numbers,)
    )
    stored = {row[0]: row for row in found}
    alike: dict[tuple[int, ...], list[list[object]]] = {}
    for row in rows:
        former = stored[row[0]]
        differing = tuple(at for at, value in enumerate(row) if value != former[at])
        alike.setdefault(differing, []).append([*(row[at] for at in differing), row[0]])
    # SQLite itself skips an update that changes nothing. But what was committed must be seen to have been.
    same = [(number,) for (number,) in alike.pop((), ())]
    connection.executemany(f"REPLACE INTO {table} SELECT * FROM {table} WHERE _id = ?", same)
    for differing, values in alike.items():
        assignments = ", ".join(f"{quote_identifier(columns[at - 1])} = ?" for at in differing)
        connection.executemany(f"UPDATE {table} SET {assignments} WHERE _id = ?", values)


def _change_sides(
    connection: sqlite3.Connection, wanted: set[tuple[int, int, object]], paths: Sequence[int], numbers: str
) -> None:
    marks = ", ".join("?" * len(paths))
    stored = set(
        connection.execute(
            f"SELECT id, path, value FROM _many WHERE id IN (SELECT value FROM json_each(?)) AND path IN ({marks})",
            (numbers, *paths),
        )
    )
    connection.executemany("DELETE FROM _many WHERE id = ? AND path = ? AND value = ?", stored - wanted)
    connection.executemany("INSERT INTO _many (id, path, value) VALUES (?, ?, ?)", wanted - stored)
