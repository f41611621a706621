"""Snapshots of a SQLite store. Most pages take one statement; deep pages use cached arrays of row ids."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter, lt
from typing import Any

import orjson

from backends.base import MAX_CHUNK_BYTES, Page
from backends.batching import batched, batched_by_size
from backends.deadline import QueryDeadline
from backends.errors import DamagedStoreError, QueryTimeoutError, StorageUnavailableError
from backends.query import KEY, MATCH_ALL, Query, Scalar
from backends.records import Collection, Record, Value
from backends.sql.conditions import (
    scans_records,
    selects_all_by_keys,
    selects_by_key,
    uses_equality_index,
    uses_range_index,
)
from backends.sql.dialect import Fragment, quote_identifier
from backends.sql.query_cache import CacheKey, CompiledQuery, QueryCache
from backends.sql.snapshot import FETCH_ROWS, MAX_CHUNK_RECORDS, SQLSnapshot
from backends.sqlite.cached_query import CachedQuery, parse_ids
from backends.sqlite.connection import driver_errors, watched_statement
from backends.sqlite.dialect import SQLITE
from backends.sqlite.pool import ReadConnection
from backends.sqlite.schema import scalar_paths
from backends.statement_watch import StatementWatch
from backends.validation import get_collection, validate
from backends.waiting import refuse_to_wait

__all__ = ["PooledSnapshot", "SQLiteSnapshot"]

_MAX_CHEAP_PARAMS = 50
"""Number of parameters above which a condition is costly. It is then evaluated once, not for the total and the page."""

_MAX_IMMEDIATE_IDS = 1000
"""Maximum number of row ids that an immediate read selects."""


_MAX_PAGES_IN_ORDER = 3
"""Number of look-ups of a query up to which each one reads its page. Selecting all row ids takes as long as they."""

_MAX_SORTED_ROWS = 5_000
"""Up to this number, sorting the rows that an index finds is faster than reading all rows in order."""

_UNWATCHED = StatementWatch()


class SQLiteSnapshot(SQLSnapshot):
    """Snapshot of the transaction of one connection. Without a `query_cache` nothing is cached."""

    _dialect = SQLITE

    def __init__(
        self,
        reader: ReadConnection,
        tenant: str,
        collections: Mapping[str, Collection],
        query_cache: QueryCache[CachedQuery] | None = None,
        query_seconds: float | None = None,
        watch: StatementWatch = _UNWATCHED,
    ) -> None:
        self._reader = reader
        self._connection: sqlite3.Connection | None = reader.connection
        self._lock = reader.lock
        self._deadline = reader.deadline = QueryDeadline(query_seconds)
        self._tenant = tenant
        self._collections = collections
        self._query_cache = query_cache
        self._watch = watch
        self._running = 0
        self._tenant_id, self._revision = reader.tenant(tenant)

    def find(self, query: Query) -> Page:
        """Return the page, selected by key, by cached row ids, or directly from an index."""
        self._deadline.start_step()
        if selects_by_key(query.where) or selects_all_by_keys(query):
            return self._find_by_key(query)
        key = (self._tenant, query.collection, query.where, query.order)
        cached = self._compiled(key, query)
        if cached.ids is None and (
            query.limit is None or query.limit > MAX_CHUNK_RECORDS or _should_select_ids(cached, query)
        ):
            self._select_ids(key, cached)
        if cached.ids is None:
            if (page := self._find_page(cached, query)) is not None:
                return page
            self._select_ids(key, cached)
        assert cached.ids is not None
        end = len(cached.ids) if query.limit is None else query.offset + query.limit
        total, ids = query.limited_total(len(cached.ids)), cached.ids[query.offset : end]
        return Page(self._bodies(query.collection, cached, ids), total, self._has_escapes(query.collection, ids))

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of the existing records among `keys`, by key."""
        table = quote_identifier(get_collection(collection, self._collections).name)
        self._deadline.start_step()
        bodies: dict[str, bytes] = {}
        for batch in batched(keys, MAX_CHUNK_RECORDS):
            marks = ", ".join("?" * len(batch))
            sql = f"SELECT _key, _body FROM {table} WHERE _tenant = ? AND _key IN ({marks})"
            bodies.update(self._fetch_all(Fragment(sql, (self._tenant_id, *batch))))
        return bodies

    def in_storage_order(self, collection: str) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of all records in the order of their row ids; reads some hundred at a time."""
        table = quote_identifier(get_collection(collection, self._collections).name)
        # Because of the plus sign, SQLite uses no index of the tenant, which has another order.
        sql = f"SELECT _key, _body, _id FROM {table} WHERE _id > ? AND +_tenant = ? ORDER BY _id LIMIT {FETCH_ROWS}"
        last = 0
        while True:
            self._deadline.start_step()
            rows = self._fetch_all(Fragment(sql, (last, self._tenant_id)))
            yield from ((key, body) for key, body, _ in rows)
            if len(rows) < FETCH_ROWS:
                return
            last = rows[-1][2]

    def get_each(self, collection: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of each existing record among `keys`; reads one row at a time."""
        table = quote_identifier(get_collection(collection, self._collections).name)
        for batch in batched(dict.fromkeys(keys), MAX_CHUNK_RECORDS):
            marks = ", ".join("?" * len(batch))
            sql = f"SELECT _key, _body FROM {table} WHERE _tenant = ? AND _key IN ({marks})"
            yield from self._fetch_each(Fragment(sql, (self._tenant_id, *batch)))

    def scan(self, collection: str) -> Iterator[Record]:
        """Yield the records in key order; reads up to 1,000 at a time, limited in bytes."""
        return self._scan(get_collection(collection, self._collections))

    def _scan(self, owner: Collection) -> Iterator[Record]:
        loader = _RecordLoader(owner)
        self._deadline.start_step()
        paths = {number: path for number, path in self._fetch_all(loader.paths()) if owner.has_field(path)}
        every_row = self._fetch_each(loader.rows(self._tenant_id))
        for rows in batched_by_size(every_row, loader.body_length, FETCH_ROWS, MAX_CHUNK_BYTES):
            values = self._fetch_all(loader.side_values(rows, paths)) if paths else []
            yield from loader.records(rows, values, paths)

    def _compiled(self, key: CacheKey, query: Query) -> CachedQuery:
        cached = self._query_cache.get(key, self._revision) if self._query_cache else None
        if cached is None:
            owner = validate(query, self._collections)
            if query.where == MATCH_ALL or scans_records(owner, query.where):
                refuse_to_wait()  # all records of the tenant must be counted
            compiler = self._compiler()
            rows, order = compiler.from_where(owner, query.where), compiler.order_by(owner, query.order)
            range_field = uses_range_index(owner, query.where)
            range_rows = compiler.from_where(owner, query.where, use_range_index=True) if range_field else None
            # The WITH clause must have the subtrees of both forms, so it is compiled last.
            cached = CachedQuery(self._revision, compiler.with_clause(), rows, order, range_from_where=range_rows)
            if uses_equality_index(owner, query.where):
                cached.sorting_order_by = compiler.order_by(owner, query.order, sorts_rows=True)
            cached.scans_records = scans_records(owner, query.where)
            if range_field:
                cached.range_is_ordered = bool(query.order) and query.order[0].field == range_field
            self._store(key, cached)
        elif min(query.offset, query.limit or 0, query.max_total or 0) < 0:
            validate(query, self._collections)
        cached.look_ups += 1
        return cached

    def _path_id(self, collection: str, path: str) -> int:
        sql = Fragment("SELECT id FROM _paths WHERE collection = ? AND path = ?", (collection, path))
        row = self._fetch_one(sql)
        return int(row[0]) if row else -1

    def _find_page(self, cached: CachedQuery, query: Query) -> Page | None:
        """Return the page as one chunk, or None if that has more than MAX_CHUNK_BYTES."""
        total, is_complete = self._limited_total(cached, query)
        if not query.limit or (query.offset >= total and (is_complete or not self._has_row_at(cached, query.offset))):
            return Page(iter(()), total)
        page = Fragment(
            f"{cached.prefix.text}SELECT CAST(group_concat(_body) AS BLOB) FROM"
            f" (SELECT _body {cached.from_where.text} {cached.order_by.text} LIMIT ? OFFSET ?)",
            (*cached.prefix.params, *cached.from_where.params, *cached.order_by.params, query.limit, query.offset),
        )
        chunk = self._fetch_chunk(page)
        cached.has_large_bodies = chunk is None
        return None if chunk is None else Page(self._while_open([chunk]), total, self._has_escapes(query.collection))

    def _has_escapes(self, collection: str, ids: array[int] | None = None) -> bool:
        """Return True if bodies may have escapes: those of the rows `ids`, or all."""
        if self._query_cache is None or not self._collections[collection].tracks_escapes:
            return True
        with driver_errors("reading"):
            return self._reader.has_escapes(self._tenant_id, collection, ids)

    def _limited_total(self, compiled: CompiledQuery, query: Query) -> tuple[int, bool]:
        if isinstance(compiled, CachedQuery) and compiled.range_from_where and query.limit:
            self._total(compiled)
        return super()._limited_total(compiled, query)

    def _total(self, compiled: CompiledQuery) -> int:
        """Return the number of matching rows, and choose the faster way to read them from now on."""
        is_new = compiled.total is None
        total = super()._total(compiled)
        if is_new and isinstance(compiled, CachedQuery):
            if compiled.range_is_ordered or total <= _MAX_SORTED_ROWS:
                compiled.from_where = self._counted_rows(compiled)
            if total <= _MAX_SORTED_ROWS:
                compiled.order_by = compiled.sorting_order_by or compiled.order_by
        return total

    def _counted_rows(self, compiled: CompiledQuery) -> Fragment:
        return (isinstance(compiled, CachedQuery) and compiled.range_from_where) or compiled.from_where

    def _select_ids(self, key: CacheKey, cached: CachedQuery) -> None:
        """Select the row ids once. Concurrent readers of the same query wait instead of sorting too."""
        if cached.total is None or cached.total > _MAX_IMMEDIATE_IDS or cached.lock.locked():
            refuse_to_wait()
        if not cached.lock.acquire(timeout=self._deadline.lock_timeout):
            raise QueryTimeoutError("reading: another reader sorts the same records for longer than the time limit")
        try:
            if cached.ids is None:
                ids = self._read_ids(cached)
                cached.ids_ascend = all(map(lt, ids, islice(ids, 1, None)))
                cached.total, cached.ids = len(ids), ids
                self._store(key, cached)
        finally:
            cached.lock.release()

    def _read_ids(self, cached: CachedQuery) -> array[int]:
        if cached.range_from_where is not None:
            self._total(cached)
        order_by = cached.sorting_order_by or cached.order_by
        params = cached.prefix.params + cached.from_where.params + order_by.params
        rows = f"SELECT _id {cached.from_where.text} {order_by.text}"
        # Selecting one text takes a third of the time of selecting a row for each id.
        text = f"{cached.prefix.text}SELECT CAST(group_concat(_id) AS BLOB) FROM ({rows})"
        return parse_ids(self._fetch_one(Fragment(text, params))[0] or b"")

    def _bodies(self, collection: str, cached: CachedQuery, ids: array[int]) -> Iterator[bytes]:
        """Yield chunks of the documents with these row ids, which are a part of those of the query, in their order.

        The sizes of documents are looked up only after a chunk was too large, because that takes a further statement.
        """
        ascending = cached.ids_ascend
        for start in range(0, len(ids), MAX_CHUNK_RECORDS):
            part = ids[start : start + MAX_CHUNK_RECORDS]
            self._deadline.start_step()
            rows = _from_clause(collection, part, ascending)
            chunk = None if cached.has_large_bodies else self._fetch_chunk(_chunk_statement(rows))
            if chunk is not None:
                yield chunk
            else:
                cached.has_large_bodies = True
                yield from self._large_bodies(collection, part, ascending)

    def _large_bodies(self, collection: str, ids: array[int], ascending: bool) -> Iterator[bytes]:
        """Yield the chunks of some documents, divided by their sizes. A larger document is a chunk of its own."""
        rows = _from_clause(collection, ids, ascending)
        self._deadline.start_step()
        # SQLite knows the length of a body without reading it.
        sizes = self._fetch_all(Fragment(f"SELECT d._id, ifnull(length(d._body), 0) + 1 FROM {rows.text}", rows.params))
        for some in batched_by_size(sizes, itemgetter(1), MAX_CHUNK_RECORDS, MAX_CHUNK_BYTES):
            sql = _chunk_statement(_from_clause(collection, array("q", [row_id for row_id, _ in some]), ascending))
            self._deadline.start_step()
            yield _checked_chunk(self._fetch_one(sql)[0])

    def _fetch_chunk(self, sql: Fragment) -> bytes | None:
        """Return the only value that a statement selects, or None if it has more than MAX_CHUNK_BYTES."""
        connection = self._open()
        with watched_statement("reading", sql.text, self._watch), self._lock:
            limit = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CHUNK_BYTES)
            try:
                return _checked_chunk(connection.execute(sql.text, sql.params).fetchone()[0])
            except sqlite3.DataError as error:
                if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_TOOBIG:
                    raise
                return None
            finally:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)

    def _fetch(self, sql: Fragment) -> Iterator[list[Any]]:
        self._running += 1  # if the caller stops early, the statement keeps running
        self._deadline.start_step()
        cursor = self._execute(sql)
        while True:
            self._open()
            with watched_statement("reading", sql.text, self._watch), self._lock:
                rows = cursor.fetchmany(FETCH_ROWS)
            if not rows:
                self._running -= 1
                return
            yield rows
            self._deadline.start_step()

    def _fetch_each(self, sql: Fragment) -> Iterator[Any]:
        """Yield the rows one by one, so that no other row is in memory."""
        self._running += 1  # if the caller keeps the unfinished iterator, the statement keeps running
        try:
            self._deadline.start_step()
            cursor = self._execute(sql)
            with driver_errors("reading"):
                while True:
                    with self._lock:
                        row = cursor.fetchone()
                    if row is None:
                        return
                    yield row
                    self._open()
                    self._deadline.start_step()
        finally:
            self._running -= 1

    def _execute(self, sql: Fragment) -> sqlite3.Cursor:
        with driver_errors("reading"), self._lock:
            return self._open().execute(sql.text, sql.params)

    def _fetch_all(self, sql: Fragment) -> list[Any]:
        with watched_statement("reading", sql.text, self._watch), self._lock:
            return self._open().execute(sql.text, sql.params).fetchall()

    def _fetch_one(self, sql: Fragment) -> Any:
        with watched_statement("reading", sql.text, self._watch), self._lock:
            return self._open().execute(sql.text, sql.params).fetchone()

    def _check_open(self) -> None:
        self._open()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageUnavailableError("the snapshot is closed: read again to see the store")
        return self._connection


class PooledSnapshot(SQLiteSnapshot):
    """Snapshot whose connection returns to the pool on close."""

    def __init__(
        self,
        reader: ReadConnection,
        tenant: str,
        collections: Mapping[str, Collection],
        query_cache: QueryCache[CachedQuery],
        release: Callable[[ReadConnection, bool], None],
        query_seconds: float | None,
        watch: StatementWatch,
    ) -> None:
        super().__init__(reader, tenant, collections, query_cache, query_seconds, watch)
        self._release = release

    def close(self) -> None:
        """Return the connection to the pool."""
        if self._connection is not None:
            self._connection = None
            self._release(self._reader, self._running == 0)


def _from_clause(collection: str, ids: array[int], ascending: bool) -> Fragment:
    """Return the FROM clause that selects the rows `d` with these ids. SQLite reads them in their order."""
    table = quote_identifier(collection)
    if ascending and ids[-1] - ids[0] == len(ids) - 1:
        return Fragment(f"{table} AS d WHERE d._id BETWEEN ? AND ?", (ids[0], ids[-1]))
    # The outer loop of a CROSS JOIN is its left side, so the rows come in the order of the array.
    return Fragment(f"json_each(?) AS n CROSS JOIN {table} AS d ON d._id = n.value", (str(ids.tolist()),))


def _chunk_statement(rows: Fragment) -> Fragment:
    """Return the statement for the documents of the rows, joined by commas. A subquery would copy each once more."""
    return Fragment(f"SELECT CAST(group_concat(d._body) AS BLOB) FROM {rows.text}", rows.params)


def _checked_chunk(value: object) -> bytes:
    """Return a chunk that SQLite joined. Raises DamagedStoreError if no document was found."""
    if not isinstance(value, bytes):
        raise DamagedStoreError("a record has no body: run `chalk-flask check`, and restore a backup")
    return value


def _should_select_ids(cached: CachedQuery, query: Query) -> bool:
    """Return True if caching row ids pays, because the query skips, sorts or filters many rows or ran before."""
    if query.limit == 0 or not (query.offset > MAX_CHUNK_RECORDS or query.order or query.where != MATCH_ALL):
        return False
    is_deep, is_sorted = query.offset > MAX_CHUNK_RECORDS, bool(query.order) and query.order[0].field != KEY
    return (
        (query.max_total is None and (cached.scans_records or (is_deep and is_sorted)))
        or (is_deep and cached.look_ups > 1)
        or cached.look_ups > _MAX_PAGES_IN_ORDER
        or len(cached.from_where.params) > _MAX_CHEAP_PARAMS
    )


class _RecordLoader:
    """Converter of the table rows of one collection into records.

    SQLite returns numbers as floats, and the values of a path in ascending order without duplicates. That is the
    canonical form of `normalize`.
    """

    def __init__(self, owner: Collection) -> None:
        self._owner = owner
        self._scalars = scalar_paths(owner)

    def paths(self) -> Fragment:
        """Return the query for the ids and names of the paths with values in the side table."""
        return Fragment("SELECT id, path FROM _paths WHERE collection = ?", (self._owner.name,))

    def rows(self, tenant: int) -> Fragment:
        """Return the query for row id, key, body and scalar values of a tenant's records, in key order."""
        names = ", ".join(["_id", "_key", "_body", *map(quote_identifier, self._scalars)])
        return Fragment(
            f"SELECT {names} FROM {quote_identifier(self._owner.name)} WHERE _tenant = ? ORDER BY _key", (tenant,)
        )

    @staticmethod
    def body_length(row: Sequence[Any]) -> int:
        """Return the length of the body of a row; 0 for a damaged one."""
        return len(row[2]) if isinstance(row[2], bytes) else 0

    def side_values(self, rows: Sequence[Sequence[Any]], paths: Mapping[int, str]) -> Fragment:
        """Return the query for the side-table values of these rows and paths: row id, path id and value, ascending."""
        row_ids, path_ids = (orjson.dumps(ids).decode() for ids in ([row[0] for row in rows], list(paths)))
        return Fragment(
            "SELECT id, path, value FROM _many WHERE id IN (SELECT value FROM json_each(?))"
            " AND +path IN (SELECT value FROM json_each(?)) ORDER BY id, path, value",
            (row_ids, path_ids),
        )

    def records(
        self, rows: Sequence[Sequence[Any]], side_values: Sequence[tuple[int, int, Scalar]], paths: Mapping[int, str]
    ) -> Iterator[Record]:
        """Yield the records of the rows, without values of paths that are no longer declared."""
        multiple: dict[int, dict[str, tuple[Scalar, ...]]] = {}
        for row_id, path_id, value in side_values:
            row_values = multiple.setdefault(row_id, {})
            row_values[paths[path_id]] = (*row_values.get(paths[path_id], ()), value)
        for row_id, key, body, *scalars in rows:
            values: dict[str, Value] = {
                path: value for path, value in zip(self._scalars, scalars, strict=True) if value is not None
            }
            if not isinstance(body, bytes):
                raise DamagedStoreError(
                    f"a body of {self._owner.name} is not bytes: run `chalk-flask check`, and restore a backup"
                )
            yield Record(key, body, values | multiple.get(row_id, {}))
