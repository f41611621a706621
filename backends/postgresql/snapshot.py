"""Snapshots of a PostgreSQL store. A page takes one statement; deep pages start from anchors, which are cached keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

from backends.base import MAX_CHUNK_BYTES, Page
from backends.batching import batched, batched_by_size
from backends.deadline import QueryDeadline
from backends.errors import QueryTimeoutError, StorageUnavailableError
from backends.postgresql.connections import Connection
from backends.postgresql.dialect import PostgreSQLDialect
from backends.postgresql.schema import scalar_paths
from backends.postgresql.side_table import side_table_rows
from backends.postgresql.text import encode_text, identifier
from backends.query import KEY, OrderBy, Query, Where
from backends.records import Collection, Record, Value
from backends.sql.compiler import Compiler
from backends.sql.conditions import selects_all_by_keys, selects_by_key
from backends.sql.dialect import Fragment
from backends.sql.query_cache import CacheKey, CompiledQuery, QueryCache
from backends.sql.snapshot import FETCH_ROWS, MAX_CHUNK_RECORDS, SQLSnapshot
from backends.validation import get_collection, validate

__all__ = ["PathCache", "PostgreSQLQuery", "PostgreSQLSnapshot"]

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")

_ANCHOR_ROWS = 512
"""Number of rows from one anchor to the next."""

_ANCHOR_BYTES = 100
"""Estimated memory of an anchor."""

_MIN_STATEMENT_SECONDS = 0.05
"""Minimum time limit of a statement. PostgreSQL may need milliseconds to begin it."""

_LOOK_UP_SECONDS = 5.0
"""Minimum time limit of a look-up by keys. It applies if the limit of the query is shorter."""


@dataclass(slots=True)
class PostgreSQLQuery(CompiledQuery):
    """Compiled query with its anchors, from which deep pages start."""

    is_in_key_order: bool = False
    """True if the page is in ascending order of keys."""
    key_column: str = "_key"
    """Column of the key in the rows of `from_where`."""
    has_side_rows: bool = False
    """True if `from_where` reads the side table, so that the records of a page must be looked up."""
    anchors: list[str] | None = None
    """Keys of rows 0, 512, 1,024 and so on; None if they were not selected yet."""
    has_large_bodies: bool = False
    """True if a page had more than MAX_CHUNK_BYTES, so that pages are read in parts."""

    @property
    def result_bytes(self) -> int:
        """Estimated memory of the anchors in bytes."""
        return _ANCHOR_BYTES * len(self.anchors) if self.anchors else 0


class PathCache:
    """Ids of paths by tenant, collection and path. An id never changes once it was read. Thread-safe."""

    _MAX_PATHS = 100_000

    def __init__(self) -> None:
        self.ids: dict[tuple[int, str, str], int] = {}

    def store(self, key: tuple[int, str, str], path_id: int) -> None:
        """Store an id."""
        if len(self.ids) >= self._MAX_PATHS:
            self.ids.clear()
        self.ids[key] = path_id


class PostgreSQLSnapshot(SQLSnapshot):
    """Snapshot of the transaction of one connection. Without a `query_cache` nothing is cached.

    `on_close(connection, is_intact)` takes the connection back.
    """

    _dialect: PostgreSQLDialect

    def __init__(
        self,
        connection: Connection,
        dialect: PostgreSQLDialect,
        tenant: str,
        tenant_row: tuple[int, int],
        collections: Mapping[str, Collection],
        on_close: Callable[[Connection, bool], None],
        *,
        paths: PathCache | None = None,
        query_cache: QueryCache[PostgreSQLQuery] | None = None,
        query_seconds: float | None = None,
    ) -> None:
        self._connection: Connection | None = connection
        self._dialect = dialect
        self._tenant = tenant
        self._tenant_id, self._revision = tenant_row
        self._collections = collections
        self._on_close = on_close
        self._paths = paths
        self._query_cache = query_cache
        self._query_seconds = query_seconds
        self._deadline = QueryDeadline(query_seconds)
        self._is_intact = True
        if query_seconds is not None:
            query_seconds = max(query_seconds, _MIN_STATEMENT_SECONDS)
        connection.limit_statements(query_seconds)

    def find(self, query: Query) -> Page:
        """Return the page, selected by key, or in order from the last anchor before it."""
        self._deadline.start_step()
        if selects_by_key(query.where) or selects_all_by_keys(query):
            return self._find_by_key(query)
        key = (self._tenant, query.collection, query.where, query.order)
        compiled = self._compiled(key, query)
        total, is_complete = self._limited_total(compiled, query)
        if query.limit == 0 or (
            query.offset >= total and (is_complete or not self._has_row_at(compiled, query.offset))
        ):
            return Page(iter(()), total)
        rows = self._page_rows(key, compiled, query)
        if query.limit is None or query.limit > MAX_CHUNK_RECORDS or compiled.has_large_bodies:
            return Page(self._stream(rows), total)
        bodies = self._fetch_bodies(rows)
        compiled.has_large_bodies = sum(map(len, bodies)) > MAX_CHUNK_BYTES
        return Page(self._while_open([*_chunks(bodies)]), total)

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of the existing records among `keys`, by key."""
        return dict(self._bodies_of(get_collection(collection, self._collections), keys, MAX_CHUNK_RECORDS))

    def get_each(self, collection: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of each existing record among `keys`; reads 8 at a time."""
        yield from self._bodies_of(get_collection(collection, self._collections), dict.fromkeys(keys), 8)

    def _bodies_of(self, owner: Collection, keys: Sequence[str] | dict[str, None], size: int) -> Iterator[Any]:
        sql = f"SELECT _key, _body FROM {self._dialect.table(owner.name)} WHERE _tenant = ? AND _key = ANY (?)"
        self._check_open()
        for batch in batched(keys, size):
            self._deadline.start_step()
            yield from self._look_up(Fragment(sql, (self._tenant_id, tuple(map(encode_text, batch)))))

    def _look_up(self, sql: Fragment) -> list[Any]:
        """Return the rows of some keys. After a timeout with a shorter limit, try once more with `_LOOK_UP_SECONDS`.

        A busy machine may delay a look-up for longer than a short limit of the query.
        """
        try:
            return self._fetch_all(sql)
        except QueryTimeoutError:
            if self._query_seconds is None or self._query_seconds >= _LOOK_UP_SECONDS:
                raise
            self._run(Connection.limit_statements, _LOOK_UP_SECONDS)
            rows = self._fetch_all(sql)
            self._run(Connection.limit_statements, max(self._query_seconds, _MIN_STATEMENT_SECONDS))
            return rows

    def scan(self, collection: str) -> Iterator[Record]:
        """Yield the records in key order; reads up to 512 at a time, limited in bytes."""
        return self._scan(get_collection(collection, self._collections))

    def close(self) -> None:
        """Return the connection to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._on_close(connection, self._is_intact)

    def _compiled(self, key: CacheKey, query: Query) -> PostgreSQLQuery:
        compiled = self._query_cache.get(key, self._revision) if self._query_cache else None
        if compiled is None:
            owner = validate(query, self._collections)
            compiled = self._compile(owner, query)
            self._store(key, compiled)
        elif min(query.offset, query.limit or 0, query.max_total or 0) < 0:
            validate(query, self._collections)
        compiled.look_ups += 1
        return compiled

    def _compile(self, owner: Collection, query: Query) -> PostgreSQLQuery:
        compiler = self._compiler()
        is_in_key_order = query.order in ((), (OrderBy(KEY),))
        if is_in_key_order:
            rows, column = self._rows_in_key_order(compiler, owner, query.where)
            order = Fragment(f"ORDER BY {column}")
        else:
            rows, column = compiler.from_where(owner, query.where), "_key"
            order = compiler.order_by(owner, query.order)
        compiled = PostgreSQLQuery(self._revision, compiler.with_clause(), rows, order)
        compiled.is_in_key_order, compiled.key_column = is_in_key_order, column
        compiled.has_side_rows = column != "_key"
        return compiled

    def _any_row(self, compiler: Compiler, owner: Collection, where: Where) -> Fragment:
        return self._rows_in_key_order(compiler, owner, where)[0]

    def _rows_in_key_order(self, compiler: Compiler, owner: Collection, where: Where) -> tuple[Fragment, str]:
        side = side_table_rows(self._dialect, compiler, owner, where, self._path_id, self._tenant_id)
        return (side, "_m_key") if side else (compiler.from_where(owner, where), "_key")

    def _page_rows(self, key: CacheKey, compiled: PostgreSQLQuery, query: Query) -> Fragment:
        """Return the statement for the bodies of the page."""
        rows, offset = compiled.from_where, query.offset
        if compiled.is_in_key_order and offset >= _ANCHOR_ROWS and self._can_cache(key):
            rows, offset = self._rows_from_anchor(key, compiled, offset)
        table = self._dialect.table(query.collection)
        prefix = compiled.prefix
        limit = "" if query.limit is None else " LIMIT ?"
        page = (() if query.limit is None else (query.limit,)) + (offset,)
        if compiled.is_in_key_order and not compiled.has_side_rows:
            text = f"{prefix.text}SELECT _body {rows.text} {compiled.order_by.text}{limit} OFFSET ?"
            return Fragment(text, (*prefix.params, *rows.params, *page))
        # Only keys are sorted; the bodies of the page are read afterwards.
        order = compiled.order_by
        keys = (
            f"SELECT {compiled.key_column} AS _p_key, row_number() OVER ({order.text}) AS _p_number"
            f" {rows.text} {order.text}{limit} OFFSET ?"
        )
        text = (
            f"{prefix.text}SELECT _body FROM ({keys}) AS page JOIN {table} ON _tenant = ? AND _key = _p_key"
            " ORDER BY _p_number"
        )
        params = (*prefix.params, *order.params, *rows.params, *order.params, *page, self._tenant_id)
        return Fragment(text, params)

    def _rows_from_anchor(self, key: CacheKey, compiled: PostgreSQLQuery, offset: int) -> tuple[Fragment, int]:
        """Return the rows from the last anchor before the offset, and the rest of the offset."""
        if compiled.anchors is None:
            with compiled.lock:
                if compiled.anchors is None:
                    compiled.anchors = self._read_anchors(compiled)
                    self._store(key, compiled)
        if not compiled.anchors:
            return compiled.from_where, offset
        number = min(offset // _ANCHOR_ROWS, len(compiled.anchors) - 1)
        rows = compiled.from_where
        text = f"{rows.text} AND {compiled.key_column} >= ?"
        return Fragment(text, (*rows.params, compiled.anchors[number])), offset - number * _ANCHOR_ROWS

    def _read_anchors(self, compiled: PostgreSQLQuery) -> list[str]:
        column, rows, prefix = compiled.key_column, compiled.from_where, compiled.prefix
        numbered = f"SELECT {column} AS _p_key, row_number() OVER (ORDER BY {column}) AS _p_number {rows.text}"
        text = f"{prefix.text}SELECT _p_key FROM ({numbered}) AS page WHERE _p_number % ? = 1 ORDER BY _p_key"
        found = self._fetch_all(Fragment(text, (*prefix.params, *rows.params, _ANCHOR_ROWS)))
        return [encode_text(anchor) for (anchor,) in found]

    def _can_cache(self, key: CacheKey) -> bool:
        return self._query_cache is not None and self._query_cache.get(key, self._revision) is not None

    def _stream(self, rows: Fragment) -> Iterator[bytes]:
        """Yield the chunks of all bodies that the statement selects, with a cursor."""
        for some in self._fetch(rows, MAX_CHUNK_RECORDS):
            for chunk in _chunks([body for (body,) in some]):
                self._check_open()
                yield chunk

    def _scan(self, owner: Collection) -> Iterator[Record]:
        paths = {
            number: path
            for number, path in self._fetch_all(
                Fragment(
                    "SELECT id, path FROM _paths WHERE tenant = ? AND collection = ?",
                    (self._tenant_id, encode_text(owner.name)),
                )
            )
            if owner.has_field(path)
        }
        scalars = scalar_paths(owner)
        names = ", ".join(["_id", "_key", "_body", *map(identifier, scalars)])
        text = f"SELECT {names} FROM {self._dialect.table(owner.name)} WHERE _tenant = ? ORDER BY _key"
        for rows in self._fetch(Fragment(text, (self._tenant_id,)), MAX_CHUNK_RECORDS):
            multiple = self._side_values([row[0] for row in rows], paths) if paths else {}
            for row_id, key, body, *values in rows:
                present = {path: value for path, value in zip(scalars, values, strict=True) if value is not None}
                yield Record(key, body, present | multiple.get(row_id, {}))

    def _side_values(self, ids: list[int], paths: Mapping[int, str]) -> dict[int, dict[str, Value]]:
        text = (
            f"SELECT _m_id, _m_path, _m_text, _m_number FROM {self._dialect.side_table}"
            " WHERE _m_tenant = ? AND _m_id = ANY (?) ORDER BY _m_id, _m_path, _m_text, _m_number"
        )
        rows = self._fetch_all(Fragment(text, (self._tenant_id, tuple(ids))))
        found: dict[int, dict[str, Value]] = {}
        for (row_id, path), values in groupby(rows, itemgetter(0, 1)):
            if path in paths:
                found.setdefault(row_id, {})[paths[path]] = tuple(n if t is None else t for _, _, t, n in values)
        return found

    def _path_id(self, collection: str, path: str) -> int:
        key = (self._tenant_id, collection, path)
        if self._paths and (known := self._paths.ids.get(key)):
            return known
        text = "SELECT id FROM _paths WHERE tenant = ? AND collection = ? AND md5(path) = md5(?) AND path = ?"
        rows = self._fetch_all(
            Fragment(text, (self._tenant_id, encode_text(collection), encode_text(path), encode_text(path)))
        )
        if not rows:
            return -1
        if self._paths:
            self._paths.store(key, rows[0][0])
        return int(rows[0][0])

    def _fetch(self, sql: Fragment, size: int = FETCH_ROWS) -> Iterator[list[Any]]:
        """Yield the rows of a statement. After large rows, fewer are read at once."""
        self._deadline.start_step()
        name = self._run(Connection.open_cursor, sql.text, sql.params)
        limit = size
        while True:
            rows = self._run(Connection.fetch_cursor, name, limit)
            self._deadline.check()
            if not rows:
                self._run(Connection.close_cursor, name)
                return
            yield rows
            self._check_open()
            limit = _smaller(rows, size, limit)
            self._deadline.start_step()

    def _fetch_all(self, sql: Fragment) -> list[Any]:
        return self._run(Connection.fetch_all, sql.text, sql.params)

    def _fetch_bodies(self, sql: Fragment) -> list[bytes]:
        rows = self._run(Connection.fetch_bytes, sql.text, sql.params)
        self._deadline.check()
        return rows

    def _fetch_one(self, sql: Fragment) -> Any:
        row = self._fetch_all(sql)[0]
        self._deadline.check()
        return row

    def _run(
        self,
        method: Callable[Concatenate[Connection, _Params], _Result],
        *args: _Params.args,
        **options: _Params.kwargs,
    ) -> _Result:
        """Return the result of a method of the connection. After a timeout, the snapshot can still be used."""
        connection = self._open()
        try:
            return method(connection, *args, **options)
        except QueryTimeoutError:
            connection.recover()
            raise
        except BaseException:
            self._is_intact = False
            raise

    def _check_open(self) -> None:
        self._open()

    def _open(self) -> Connection:
        if self._connection is None:
            raise StorageUnavailableError("the snapshot is closed: read again to see the store")
        return self._connection


def _chunks(bodies: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the bodies joined by commas, in chunks that are limited in bytes."""
    if sum(map(len, bodies)) + len(bodies) <= MAX_CHUNK_BYTES:
        yield b",".join(bodies)
        return
    for some in batched_by_size(bodies, lambda body: len(body) + 1, MAX_CHUNK_RECORDS, MAX_CHUNK_BYTES):
        yield b",".join(some)


def _smaller(rows: list[Any], size: int, limit: int) -> int:
    """Return the number of rows to read next, so that they have about MAX_CHUNK_BYTES."""
    length = sum(len(value) for row in rows for value in row if isinstance(value, bytes))
    if length <= MAX_CHUNK_BYTES:
        return min(size, limit * 2)
    return max(len(rows) * MAX_CHUNK_BYTES // length, 1)
