"""Base of the snapshots of SQL databases: statements that are the same in all of them, except for the dialect."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backends.base import Page, Snapshot
from backends.deadline import QueryDeadline
from backends.query import MATCH_ALL, Query, Where
from backends.records import Collection
from backends.sql.compiler import Compiler
from backends.sql.conditions import collections_read, uses_range_index
from backends.sql.dialect import Dialect, Fragment
from backends.sql.query_cache import CacheKey, CompiledQuery, QueryCache
from backends.validation import get_collection, validate, validate_where

__all__ = ["FETCH_ROWS", "MAX_CHUNK_RECORDS", "SQLSnapshot"]

MAX_CHUNK_RECORDS = 512
"""Maximum number of documents in one chunk, which has about 64 to 800 KiB."""

FETCH_ROWS = 1000
"""Maximum number of rows that an iteration reads at once."""


class SQLSnapshot(Snapshot):
    """Snapshot of one transaction of a SQL database. Without a `_query_cache` nothing is cached.

    A subclass runs statements (`_fetch_all`, `_fetch_one`, `_fetch`), finds pages and reads records.
    """

    _dialect: Dialect
    _collections: Mapping[str, Collection]
    _deadline: QueryDeadline
    _query_cache: QueryCache[Any] | None
    _tenant: str
    _tenant_id: int
    _revision: int

    @property
    def revision(self) -> int:
        """Revision of the tenant at the time of the snapshot."""
        self._check_open()
        return self._revision

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record matches. The database stops at the first match; the result is not cached."""
        owner = get_collection(collection, self._collections)
        validate_where(where, owner, self._collections)
        self._deadline.start_step()
        compiler = self._compiler()
        rows = self._any_row(compiler, owner, where)
        prefix = compiler.with_clause()
        sql = Fragment(f"{prefix.text}SELECT EXISTS (SELECT 1 {rows.text})", prefix.params + rows.params)
        return bool(self._fetch_one(sql)[0])

    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """Yield the matching keys in order; reads 1,000 at a time."""
        owner = get_collection(collection, self._collections)
        validate_where(where, owner, self._collections)
        self._deadline.start_step()
        compiler = self._compiler()
        rows, column = self._rows_in_key_order(compiler, owner, where)
        prefix = compiler.with_clause()
        sql = Fragment(f"{prefix.text}SELECT {column} {rows.text} ORDER BY {column}", prefix.params + rows.params)
        return (key for batch in self._fetch(sql) for (key,) in batch)

    def _any_row(self, compiler: Compiler, owner: Collection, where: Where) -> Fragment:
        """Return the `FROM ... WHERE ...` with which a database finds any matching row fastest."""
        return compiler.from_where(owner, where, use_range_index=uses_range_index(owner, where) is not None)

    def _rows_in_key_order(self, compiler: Compiler, owner: Collection, where: Where) -> tuple[Fragment, str]:
        """Return the `FROM ... WHERE ...` of matching rows that are read in key order, and the column of the key."""
        return compiler.from_where(owner, where), "_key"

    def _compiler(self) -> Compiler:
        return Compiler(self._dialect, self._collections, self._path_id, self._tenant_id)

    def _store(self, key: CacheKey, compiled: CompiledQuery) -> None:
        names = {key[1]} | collections_read(key[2])
        if self._query_cache and all(self._collections[name].bumps_revision for name in names):
            self._query_cache.store(key, compiled)

    def _find_by_key(self, query: Query) -> Page:
        owner = validate(query, self._collections)
        compiler = self._compiler()
        rows = compiler.from_where(owner, query.where)
        prefix = compiler.with_clause()
        sql = Fragment(f"{prefix.text}SELECT _body {rows.text} ORDER BY _key", prefix.params + rows.params)
        bodies = [body for (body,) in self._fetch_all(sql)]
        end = len(bodies) if query.limit is None else query.offset + query.limit
        return Page(self._while_open(bodies[query.offset : end]), query.limited_total(len(bodies)))

    def _limited_total(self, compiled: CompiledQuery, query: Query) -> tuple[int, bool]:
        """Return the total of the page, and True if it is the number of all matching rows."""
        if query.max_total is None or compiled.total is not None:
            total = self._total(compiled)
            return query.limited_total(total), total == query.limited_total(total)
        from_where = self._counted_rows(compiled)
        rows = Fragment(f"SELECT 1 {from_where.text} LIMIT ?", (*from_where.params, query.max_total))
        counting = Fragment(
            f"{compiled.prefix.text}SELECT count(*) FROM ({rows.text}) AS counted", compiled.prefix.params + rows.params
        )
        total = int(self._fetch_one(counting)[0]) if query.max_total else 0
        return total, total < query.max_total

    def _has_row_at(self, compiled: CompiledQuery, offset: int) -> bool:
        """Return True if more rows match than `offset`."""
        prefix, rows = compiled.prefix, compiled.from_where
        text = f"{prefix.text}SELECT EXISTS (SELECT 1 {rows.text} LIMIT 1 OFFSET ?)"
        return bool(self._fetch_one(Fragment(text, (*prefix.params, *rows.params, offset)))[0])

    def _total(self, compiled: CompiledQuery) -> int:
        """Return the number of matching rows, which is counted once."""
        if compiled.total is None:
            rows = self._counted_rows(compiled)
            counting = Fragment(
                f"{compiled.prefix.text}SELECT count(*) {rows.text}", compiled.prefix.params + rows.params
            )
            compiled.total = int(self._fetch_one(counting)[0])
        return compiled.total

    def _counted_rows(self, compiled: CompiledQuery) -> Fragment:
        """Return the `FROM ... WHERE ...` that is counted."""
        return compiled.from_where

    def _while_open(self, bodies: Iterator[bytes] | Sequence[bytes]) -> Iterator[bytes]:
        for body in bodies:
            self._check_open()
            yield body

    @abstractmethod
    def _check_open(self) -> None:
        """Raise StorageUnavailableError if the snapshot is closed."""

    @abstractmethod
    def _path_id(self, collection: str, path: str) -> int:
        """Return the id of a path, or -1 if it was never stored."""

    @abstractmethod
    def _fetch(self, sql: Fragment) -> Iterator[list[Any]]:
        """Yield the rows of a statement, up to FETCH_ROWS at a time."""

    @abstractmethod
    def _fetch_all(self, sql: Fragment) -> list[Any]:
        """Return all rows of a statement."""

    @abstractmethod
    def _fetch_one(self, sql: Fragment) -> Any:
        """Return the first row of a statement."""
