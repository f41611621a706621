"""Writing a SQLite store: batches of rows, the side table beside them, secondary indexes last in a large load."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from types import TracebackType
from typing import TypeAlias

import orjson

from backends.base import Transaction
from backends.iteration import batched
from backends.records import Collection, Record, Value
from backends.sqlite.bulk_insert import background_inserts
from backends.sqlite.compiler import quote_identifier
from backends.sqlite.connection import driver_errors
from backends.sqlite.pool import ReadConnection
from backends.sqlite.schema import MANY_INDEX, indexes, key_index, scalar_paths
from backends.sqlite.snapshot import SQLiteSnapshot
from backends.validation import check_record, get_collection

__all__ = ["SQLiteTransaction"]

BATCH = 1000
LARGE = 5_000
"""From this many records on, an empty table is loaded without its secondary indexes."""


FEW = 250_000
"""So many values in the side table are soon indexed anew."""


class SQLiteTransaction(SQLiteSnapshot, Transaction):
    """The one open write transaction; `finish` is told whether it commits, and gives lock and connection back."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        tenant: str,
        collections: Mapping[str, Collection],
        finish: Callable[[sqlite3.Connection, bool], None],
    ) -> None:
        connection.execute("INSERT OR IGNORE INTO _tenants (name) VALUES (?)", (tenant,))
        super().__init__(ReadConnection(connection), tenant, collections)
        self._finish = finish
        self._touched: set[str] = set()
        self._later: dict[str, None] = {}
        self._path_ids: dict[tuple[str, str], int] = {}

    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records, a thousand at a time."""
        owner = get_collection(collection, self._collections)
        waiting = iter(records)
        first = list(islice(waiting, LARGE))
        table = _TableWriter(owner, self._tenant_id, self._stored_path)
        with driver_errors(f"writing {collection}"):
            empty = len(first) == LARGE and self._empty(collection)
            if empty:
                self._postpone_indexes(owner)
            with background_inserts(self._open(), ahead=empty) as insert:
                for batch in batched(chain(first, waiting), BATCH):
                    self._touched.add(collection)
                    self._put_batch(table, batch, insert, fresh=empty)
            if empty:
                self._finish_load(owner)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Remove the records, a few hundred at a time."""
        owner = get_collection(collection, self._collections)
        for batch in batched(keys, BATCH // 2):
            self._touched.add(collection)
            with driver_errors(f"writing {collection}"):
                self._delete_rows(owner, list(self._ids(owner, batch).values()))

    def close(self) -> None:
        """Undo what was not committed, and let the next writer in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._finish(connection, False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._connection is not None:
                self._commit()
        finally:
            self.close()

    def _commit(self) -> None:
        connection = self._open()
        with driver_errors("committing"):
            for sql in self._later:
                connection.execute(sql)
            if any(self._collections[name].bumps_revision for name in self._touched):
                moved = max(self.revision + 1, time.time_ns() // 1000)
                connection.execute("UPDATE _tenants SET revision = ? WHERE id = ?", (moved, self._tenant_id))
            connection.execute("COMMIT")
        self.committed = time.time()
        self._connection = None
        self._finish(connection, True)

    def _put_batch(self, table: _TableWriter, batch: list[Record], insert: _Insert, *, fresh: bool) -> None:
        """Write a batch; `fresh` when the table was empty, so that nothing need be looked up and replaced."""
        latest = {record.key: record for record in batch}
        last = table.last or self._last(table.name)
        table.last = last + len(latest)
        known = {} if fresh else self._ids(table.owner, list(latest))
        rows: list[object] = []
        sides: list[object] = []
        for number, record in enumerate(latest.values(), last + 1):
            if record.key not in known:
                table.add(number, record, rows, sides)
        insert(table.target, table.width, rows)
        if sides:
            insert("_many (id, path, value)", 3, sides)
        if known:
            self._change(table, [(number, latest[key]) for key, number in known.items()])

    def _change(self, table: _TableWriter, records: Sequence[tuple[int, Record]]) -> None:
        rows: list[object] = []
        sides: list[object] = []
        for number, record in records:
            table.add(number, record, rows, sides)
        width = table.width
        update_rows(
            self._open(),
            table.name,
            table.columns[1:],
            [rows[at : at + width] for at in range(0, len(rows), width)],
            list(zip(*[iter(sides)] * 3, strict=True)),
            self._stored_paths(table.owner),
        )

    def _stored_paths(self, owner: Collection) -> list[int]:
        return [row[0] for row in self._open().execute("SELECT id FROM _paths WHERE collection = ?", (owner.name,))]

    def _last(self, table: str) -> int:
        (last,) = self._open().execute(f"SELECT ifnull(max(_id), 0) FROM {table}").fetchone()
        return int(last)

    def _finish_load(self, owner: Collection) -> None:
        """Index the keys of a table that was loaded without; of a key that came twice the later record stays."""
        connection, name = self._open(), quote_identifier(owner.name)
        try:
            connection.execute(key_index(owner))
        except sqlite3.IntegrityError:
            latest = f"SELECT max(_id) FROM {name} GROUP BY _tenant, _key"
            doubled = connection.execute(f"SELECT _id FROM {name} WHERE _id NOT IN ({latest})").fetchall()
            self._delete_rows(owner, [number for (number,) in doubled])
            connection.execute(key_index(owner))

    def _ids(self, owner: Collection, keys: Sequence[str]) -> dict[str, int]:
        marks = ", ".join("?" * len(keys))
        sql = f"SELECT _key, _id FROM {quote_identifier(owner.name)} WHERE _tenant = ? AND _key IN ({marks})"
        return dict(self._open().execute(sql, (self._tenant_id, *keys)).fetchall())

    def _delete_rows(self, owner: Collection, ids: list[int]) -> None:
        connection, rows = self._open(), [(number,) for number in ids]
        if paths := self._stored_paths(owner):
            marks = ", ".join("?" * len(paths))
            connection.executemany(
                f"DELETE FROM _many WHERE id = ? AND path IN ({marks})", [(number, *paths) for number in ids]
            )
        connection.executemany(f"DELETE FROM {quote_identifier(owner.name)} WHERE _id = ?", rows)

    def _stored_path(self, collection: str, path: str) -> int:
        found = self._path_ids.get((collection, path))
        if found is None:
            get_collection(collection, self._collections).field_for(path)
            self._open().execute("INSERT OR IGNORE INTO _paths (collection, path) VALUES (?, ?)", (collection, path))
            found = self._path_ids[collection, path] = self._path_id(collection, path)
        return found

    def _postpone_indexes(self, owner: Collection) -> None:
        connection = self._open()
        waiting = indexes(owner)
        if self._few_values():
            waiting[quote_identifier("_many:value")] = MANY_INDEX
        for name, sql in waiting.items():
            connection.execute(f"DROP INDEX IF EXISTS {name}")
            self._later[sql] = None
        connection.execute(f"DROP INDEX IF EXISTS {quote_identifier(f'{owner.name}:_key')}")

    def _few_values(self) -> bool:
        """Whether the index of the side table is made anew sooner than it is kept up, row by row, through a load."""
        (last,) = self._open().execute(f"SELECT count(*) FROM (SELECT 1 FROM _many LIMIT {FEW + 1})").fetchone()
        return int(last) <= FEW

    def _empty(self, table: str) -> bool:
        row = self._open().execute(f"SELECT EXISTS (SELECT 1 FROM {quote_identifier(table)})").fetchone()
        return bool(row == (0,))


_Insert: TypeAlias = Callable[[str, int, list[object]], None]


class _TableWriter:
    """How the records of one collection become rows."""

    def __init__(self, owner: Collection, tenant: int, path_id: Callable[[str, str], int]) -> None:
        self.owner = owner
        self.name = quote_identifier(owner.name)
        self._tenant = tenant
        self._path_id = path_id
        self._scalars = scalar_paths(owner)
        self._known = frozenset(self._scalars)
        kinds = {f.kind for f in owner.fields if not (f.multi_valued or f.is_dynamic)}
        # one kind of scalar can be checked by type alone; where both occur every record is looked at
        self._plain = frozenset({str, type(None)}) if kinds <= {"text"} else frozenset()
        self.columns = ("_id", "_tenant", "_key", "_body", *self._scalars)
        self.target = f"{self.name} ({', '.join(map(quote_identifier, self.columns))})"
        self.width = len(self.columns)
        self.last = 0
        """The highest row number given out; 0 before the first."""

    def add(self, number: int, record: Record, rows: list[object], sides: list[object]) -> None:
        """Append a record's row, flat, and what the side table holds of it. Raises InvalidQueryError."""
        values = record.values
        scalars = [*map(values.get, self._scalars)]
        if not self._plain.issuperset(map(type, scalars)):
            check_record(record, self.owner)
            scalars = [float(value) if isinstance(value, (int, float)) else value for value in scalars]
        rows += (number, self._tenant, record.key, record.body, *scalars)
        if len(values) != len(scalars) - scalars.count(None):
            self._add_sides(number, values, sides)

    def _add_sides(self, number: int, values: Mapping[str, Value], sides: list[object]) -> None:
        for path in values.keys() - self._known:
            value = values[path]
            if value is not None:
                path_id = self._path_id(self.owner.name, path)
                for single in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
                    sides += (number, path_id, single if isinstance(single, str) else float(single))


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
