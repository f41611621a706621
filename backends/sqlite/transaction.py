"""Write transactions of a SQLite store.

Records are written in batches, with their multiple values in the side table `_many`. A large load into an empty table
creates the secondary indexes at the end.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import TracebackType
from typing import TypeAlias

import orjson

from backends.base import Transaction
from backends.batching import batched, batched_by_size
from backends.errors import DamagedStoreError
from backends.records import Collection, Record, Value
from backends.sql.dialect import quote_identifier
from backends.sqlite.bulk_insert import bulk_inserter
from backends.sqlite.connection import driver_errors, watched_statement
from backends.sqlite.pool import ReadConnection
from backends.sqlite.schema import SIDE_TABLE_INDEX, indexes, key_index, scalar_paths
from backends.sqlite.snapshot import SQLiteSnapshot
from backends.sqlite.unused_field_paths import PathCleaner
from backends.statement_watch import StatementWatch
from backends.validation import check_dynamic_values, check_record, get_collection

__all__ = ["SQLiteTransaction"]

_PUT_BATCH_SIZE, _MAX_PUT_BATCH_BYTES = 1000, 4 << 20
_DELETE_BATCH_SIZE = 500

_MIN_LARGE_LOAD_RECORDS = 5_000
"""Number of records from which an empty table is loaded without its secondary indexes."""

_MAX_FIRST_BYTES = 16 << 20
"""Size of the records that are read to find out if there are so many. Fewer, larger records are no large load."""


# Row ids of different collections overlap. The plus sign keeps SQLite from a look-up for each pair of id and path.
_OWN_SIDE_ROWS = "id IN (SELECT value FROM json_each(?)) AND +path IN (SELECT id FROM _paths WHERE collection = ?)"
"""Condition for the side-table rows of these row ids (a JSON array) of one collection."""

_MAX_REBUILT_VALUES = 250_000
"""Up to this number of values in the side table, a new index is faster than updates of the old one."""


class SQLiteTransaction(SQLiteSnapshot, Transaction):
    """Write transaction on its own connection.

    `on_finish(connection, committed)` must roll back unless committed, close the connection and release the write lock.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tenant: str,
        collections: Mapping[str, Collection],
        on_finish: Callable[[sqlite3.Connection, bool], None],
        path_cleaner: PathCleaner,
        watch: StatementWatch,
    ) -> None:
        connection.execute("INSERT OR IGNORE INTO _tenants (name) VALUES (?)", (tenant,))
        super().__init__(ReadConnection(connection), tenant, collections, watch=watch)
        self._on_finish = on_finish
        self._path_cleaner = path_cleaner
        self._frees_paths = False
        """True if this transaction may leave dynamic paths without values."""
        self._written: set[str] = set()
        self._postponed_sql: dict[str, None] = {}
        self._path_ids: dict[tuple[str, str], int] = {}

    def put(self, collection: str, records: Iterable[Record]) -> None:
        """Store the records in batches.

        A large load into an empty collection runs in the background and creates the indexes last.
        """
        owner = get_collection(collection, self._collections)
        remaining = iter(records)
        first = _take(remaining, _MIN_LARGE_LOAD_RECORDS, _MAX_FIRST_BYTES)
        table = _RowBuilder(owner, self._tenant_id, self._path_id_for)
        with driver_errors(f"writing {collection}"):
            is_large_load = len(first) == _MIN_LARGE_LOAD_RECORDS and self._is_empty(collection)
            if is_large_load:
                self._postpone_indexes(owner)
            with bulk_inserter(self._open(), in_background=is_large_load) as insert:
                every = chain(first, remaining)
                for batch in batched_by_size(every, _body_length, _PUT_BATCH_SIZE, _MAX_PUT_BATCH_BYTES):
                    self._written.add(collection)
                    self._put_batch(table, batch, insert, fresh=is_large_load)
            if is_large_load:
                self._finish_load(owner)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Delete the records in batches of 500."""
        owner = get_collection(collection, self._collections)
        for batch in batched(keys, _DELETE_BATCH_SIZE):
            self._written.add(collection)
            with driver_errors(f"writing {collection}"):
                self._delete_rows(owner, list(self._row_ids(owner, batch).values()))

    def close(self) -> None:
        """Roll back uncommitted changes and release the write lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._on_finish(connection, False)

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
            for sql in self._postponed_sql:
                connection.execute(sql)
            self._path_cleaner.run_if_due(connection, self._frees_paths)
            if any(self._collections[name].bumps_revision for name in self._written):
                revision = max(self.revision + 1, time.time_ns() // 1000)
                connection.execute("UPDATE _tenants SET revision = ? WHERE id = ?", (revision, self._tenant_id))
        with watched_statement("committing", "COMMIT", self._watch):
            connection.execute("COMMIT")
        self.committed = time.time()
        self._connection = None
        self._on_finish(connection, True)

    def _put_batch(self, table: _RowBuilder, batch: list[Record], insert: _Insert, *, fresh: bool) -> None:
        """Write a batch. With `fresh` the table was empty before the load, so no record is looked up and replaced."""
        latest = {record.key: record for record in batch}
        last = table.last_id or self._max_row_id(table.name)
        table.last_id = last + len(latest)
        existing = {} if fresh else self._row_ids(table.owner, list(latest))
        rows: list[object] = []
        side_rows: list[object] = []
        for row_id, record in enumerate(latest.values(), last + 1):
            if record.key not in existing:
                table.add(row_id, record, rows, side_rows)
        insert(table.target, table.width, rows)
        if side_rows:
            insert("_many (id, path, value)", 3, side_rows)
        if existing:
            self._replace(table, [(row_id, latest[key]) for key, row_id in existing.items()])

    def _replace(self, table: _RowBuilder, records: Sequence[tuple[int, Record]]) -> None:
        rows: list[object] = []
        side_rows: list[object] = []
        for row_id, record in records:
            table.add(row_id, record, rows, side_rows)
        width = table.width
        removed = _update_rows(
            self._open(),
            table.owner,
            table.columns[1:],
            [rows[start : start + width] for start in range(0, len(rows), width)],
            list(zip(*[iter(side_rows)] * 3, strict=True)),
        )
        self._frees_paths = self._frees_paths or (bool(removed) and self._has_dynamic_path(table.owner, removed))

    def _has_dynamic_path(self, owner: Collection, path_ids: Iterable[int]) -> bool:
        ids = orjson.dumps([*path_ids]).decode()
        rows = self._open().execute("SELECT path FROM _paths WHERE id IN (SELECT value FROM json_each(?))", (ids,))
        return any(path not in owner.fields_by_path for (path,) in rows)

    def _max_row_id(self, table: str) -> int:
        (last,) = self._open().execute(f"SELECT ifnull(max(_id), 0) FROM {table}").fetchone()
        return int(last)

    def _finish_load(self, owner: Collection) -> None:
        """Create the index of the keys after a large load. Of records with the same key, the last one stays."""
        connection, name = self._open(), quote_identifier(owner.name)
        try:
            connection.execute(key_index(owner))
        except sqlite3.IntegrityError:
            latest = f"SELECT max(_id) FROM {name} GROUP BY _tenant, _key"
            duplicates = connection.execute(f"SELECT _id FROM {name} WHERE _id NOT IN ({latest})").fetchall()
            self._delete_rows(owner, [row_id for (row_id,) in duplicates])
            connection.execute(key_index(owner))

    def _row_ids(self, owner: Collection, keys: Sequence[str]) -> dict[str, int]:
        marks = ", ".join("?" * len(keys))
        sql = f"SELECT _key, _id FROM {quote_identifier(owner.name)} WHERE _tenant = ? AND _key IN ({marks})"
        return dict(self._open().execute(sql, (self._tenant_id, *keys)).fetchall())

    def _delete_rows(self, owner: Collection, ids: list[int]) -> None:
        connection, rows = self._open(), [(row_id,) for row_id in ids]
        connection.execute(f"DELETE FROM _many WHERE {_OWN_SIDE_ROWS}", (orjson.dumps(ids).decode(), owner.name))
        connection.executemany(f"DELETE FROM {quote_identifier(owner.name)} WHERE _id = ?", rows)
        self._frees_paths = self._frees_paths or any(field.is_dynamic for field in owner.fields)

    def _path_id_for(self, collection: str, path: str) -> int:
        path_id = self._path_ids.get((collection, path))
        if path_id is None:
            get_collection(collection, self._collections).field_for(path)
            self._open().execute("INSERT OR IGNORE INTO _paths (collection, path) VALUES (?, ?)", (collection, path))
            path_id = self._path_ids[collection, path] = self._path_id(collection, path)
        return path_id

    def _postpone_indexes(self, owner: Collection) -> None:
        connection = self._open()
        postponed = indexes(owner)
        if self._should_rebuild_values_index():
            postponed[quote_identifier("_many:value")] = SIDE_TABLE_INDEX
        for name, sql in postponed.items():
            connection.execute(f"DROP INDEX IF EXISTS {name}")
            self._postponed_sql[sql] = None
        connection.execute(f"DROP INDEX IF EXISTS {quote_identifier(f'{owner.name}:_key')}")

    def _should_rebuild_values_index(self) -> bool:
        """Return True if rebuilding the index of the side table is faster than updating it for each row."""
        (count,) = (
            self._open()
            .execute(f"SELECT count(*) FROM (SELECT 1 FROM _many LIMIT {_MAX_REBUILT_VALUES + 1})")
            .fetchone()
        )
        return int(count) <= _MAX_REBUILT_VALUES

    def _is_empty(self, table: str) -> bool:
        row = self._open().execute(f"SELECT EXISTS (SELECT 1 FROM {quote_identifier(table)})").fetchone()
        return bool(row == (0,))


def _take(records: Iterator[Record], max_records: int, max_bytes: int) -> list[Record]:
    """Return the next records: `max_records`, or fewer if they have more than `max_bytes` together."""
    taken: list[Record] = []
    size = 0
    for record in records:
        taken.append(record)
        size += len(record.body)
        if len(taken) == max_records or size > max_bytes:
            break
    return taken


def _body_length(record: Record) -> int:
    return len(record.body)


_Insert: TypeAlias = Callable[[str, int, list[object]], None]


class _RowBuilder:
    """Converter of the records of one collection into table rows and side-table rows."""

    def __init__(self, owner: Collection, tenant: int, path_id: Callable[[str, str], int]) -> None:
        self.owner = owner
        self.name = quote_identifier(owner.name)
        self._tenant = tenant
        self._path_id = path_id
        self._scalars = scalar_paths(owner)
        self._scalar_set = frozenset(self._scalars)
        self._static_paths = frozenset(owner.fields_by_path)
        self._path_ids: dict[str, int] = {}
        kinds = {field.kind for field in owner.fields if field.is_scalar}
        # If all scalar fields are text, their types show that the values are valid. Otherwise each record is checked.
        self._unchecked_types = frozenset({str, type(None)}) if kinds <= {"text"} else frozenset()
        self.columns = ("_id", "_tenant", "_key", "_body", *self._scalars)
        self.target = f"{self.name} ({', '.join(map(quote_identifier, self.columns))})"
        self.width = len(self.columns)
        self.last_id = 0
        """Highest row id in use; 0 before the first."""

    def add(self, row_id: int, record: Record, rows: list[object], side_rows: list[object]) -> None:
        """Append the values of a record's row to `rows`, and of its side-table rows to `side_rows`.

        Both lists are flat. Raises InvalidQueryError.
        """
        key, body, values = record
        scalars = [*map(values.get, self._scalars)]
        if not self._unchecked_types.issuperset(map(type, scalars)):
            check_record(record, self.owner)
            scalars = [float(value) if isinstance(value, (int, float)) else value for value in scalars]
        rows += (row_id, self._tenant, key, body, *scalars)
        if len(values) != len(scalars) - scalars.count(None):
            self._add_side_rows(row_id, key, values, side_rows)

    def _add_side_rows(self, row_id: int, key: str, values: Mapping[str, Value], side_rows: list[object]) -> None:
        paths = values.keys() - self._scalar_set
        if dynamic := paths - self._static_paths:
            check_dynamic_values(key, values, dynamic)
        for path in paths:
            value = values[path]
            if value is None:
                continue
            path_id = self._path_ids.get(path)
            if path_id is None:
                path_id = self._path_ids[path] = self._path_id(self.owner.name, path)
            if not isinstance(value, tuple):
                value = (value,)
            for single in value if len(value) == 1 else dict.fromkeys(value):
                side_rows += (row_id, path_id, single if isinstance(single, str) else float(single))


def _update_rows(
    connection: sqlite3.Connection,
    owner: Collection,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    side_rows: Sequence[tuple[int, int, object]],
) -> set[int]:
    """Update stored rows to `rows`: row id first, then the values of `columns`.

    `side_rows` (row id, path id, value) replace all side-table rows of these rows in their collection. Returns the ids
    of the paths that these rows no longer have.
    """
    row_ids = orjson.dumps([row[0] for row in rows]).decode()
    _update_table_rows(connection, quote_identifier(owner.name), columns, rows, row_ids)
    return _update_side_rows(connection, owner, set(side_rows), row_ids)


def _update_table_rows(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], row_ids: str
) -> None:
    names = ", ".join(map(quote_identifier, columns))
    cursor = connection.execute(
        f"SELECT _id, {names} FROM {table} WHERE _id IN (SELECT value FROM json_each(?))", (row_ids,)
    )
    stored = {row[0]: row for row in cursor}
    if len(stored) < len(rows):
        raise DamagedStoreError(
            f"the index of the keys of {table} refers to missing rows: run `chalk-flask check`, and restore a backup"
        )
    rows_by_changes: dict[tuple[int, ...], list[list[object]]] = {}
    for row in rows:
        old = stored[row[0]]
        differing = tuple(index for index, value in enumerate(row) if value != old[index])
        rows_by_changes.setdefault(differing, []).append([*(row[index] for index in differing), row[0]])
    # SQLite skips an update that changes nothing, and then `data_version` would not show the commit.
    unchanged = [(row_id,) for (row_id,) in rows_by_changes.pop((), ())]
    connection.executemany(f"REPLACE INTO {table} SELECT * FROM {table} WHERE _id = ?", unchanged)
    for differing, values in rows_by_changes.items():
        assignments = ", ".join(f"{quote_identifier(columns[index - 1])} = ?" for index in differing)
        connection.executemany(f"UPDATE {table} SET {assignments} WHERE _id = ?", values)


def _update_side_rows(
    connection: sqlite3.Connection, owner: Collection, side_rows: set[tuple[int, int, object]], row_ids: str
) -> set[int]:
    stored = set(connection.execute(f"SELECT id, path, value FROM _many WHERE {_OWN_SIDE_ROWS}", (row_ids, owner.name)))
    connection.executemany("DELETE FROM _many WHERE id = ? AND path = ? AND value = ?", stored - side_rows)
    connection.executemany("INSERT INTO _many (id, path, value) VALUES (?, ?, ?)", side_rows - stored)
    return {path for _, path, _ in stored} - {path for _, path, _ in side_rows}
