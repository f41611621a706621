"""Reading a SQLite store: one statement a page, deep pages from cached arrays of row numbers."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import lt
from typing import Any

import orjson

from backends.base import Page, Snapshot
from backends.errors import StorageUnavailableError
from backends.query import KEY, MATCH_ALL, And, Compare, Key, Query, Where
from backends.records import Collection, Record, Value
from backends.sqlite.compiler import Compiler, Fragment, collections_read, quote_identifier, uses_range_index
from backends.sqlite.connection import driver_errors
from backends.sqlite.pool import ReadConnection
from backends.sqlite.query_cache import CachedQuery, Kind, QueryCache
from backends.sqlite.schema import scalar_paths
from backends.validation import get_collection, validate, validate_where

__all__ = ["PooledSnapshot", "QueryCache", "SQLiteSnapshot"]

CHUNK_RECORDS = 512
"""Documents a chunk: about 64 to 800 KiB of roster."""

FEW = 5_000
"""So many rows that a range found are sorted in less time than it takes to walk over all in order."""


class SQLiteSnapshot(Snapshot):
    """What one connection sees in its transaction. `plans` is None where nothing may be cached."""

    def __init__(
        self,
        reader: ReadConnection,
        tenant: str,
        collections: Mapping[str, Collection],
        plans: QueryCache | None = None,
    ) -> None:
        self._connection: sqlite3.Connection | None = reader.connection
        self._tenant = tenant
        self._collections = collections
        self._plans = plans
        self._walking = 0
        self._tenant_id, self._revision = reader.tenant(tenant)

    @property
    def revision(self) -> int:
        """The revision of the tenant when the snapshot was taken."""
        self._open()
        return self._revision

    def find(self, query: Query) -> Page:
        """The page: by key, from the cached row numbers, or straight from an index."""
        if _names_key(query.where):
            return self._one(query)
        kind = (self._tenant, query.collection, query.where, query.order)
        plan = self._plan(kind, query)
        if plan.ids is None and (query.limit is None or query.limit > CHUNK_RECORDS or _worth_an_array(plan, query)):
            self._number_rows(kind, plan)
        if plan.ids is not None:
            end = len(plan.ids) if query.limit is None else query.offset + query.limit
            return Page(self._by_row(query.collection, plan.ids[query.offset : end], plan.rising), len(plan.ids))
        return self._direct(plan, query)

    def exists(self, collection: str, where: Where = MATCH_ALL) -> bool:
        """Return True if a record matches. SQLite stops at the first match; the result is not cached."""
        owner = get_collection(collection, self._collections)
        validate_where(where, owner, self._collections)
        compiler = self._compiler()
        rows = compiler.rows(owner, where, by_range=uses_range_index(owner, where) is not None)
        with_ = compiler.prefix()
        sql = Fragment(f"{with_.text}SELECT EXISTS (SELECT 1 {rows.text})", with_.params + rows.params)
        return bool(self._execute(sql).fetchone()[0])

    def get_many(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those keys that exist."""
        table = quote_identifier(get_collection(collection, self._collections).name)
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), CHUNK_RECORDS):
            part = keys[start : start + CHUNK_RECORDS]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT _key, _body FROM {table} WHERE _tenant = ? AND _key IN ({marks})"
            found.update(self._execute(Fragment(sql, (self._tenant_id, *part))).fetchall())
        return found

    def keys(self, collection: str, where: Where = MATCH_ALL) -> Iterator[str]:
        """The keys in order, a thousand at a time."""
        owner = get_collection(collection, self._collections)
        validate_where(where, owner, self._collections)
        compiler = self._compiler()
        rows = compiler.rows(owner, where)
        with_ = compiler.prefix()
        walk = self._walk(Fragment(f"{with_.text}SELECT _key {rows.text} ORDER BY _key", with_.params + rows.params))
        return (key for batch in walk for (key,) in batch)

    def scan(self, collection: str) -> Iterator[Record]:
        """The records in key order, a thousand at a time."""
        return self._whole(get_collection(collection, self._collections))

    def _whole(self, owner: Collection) -> Iterator[Record]:
        stored = RecordLoader(owner)
        paths = {number: path for number, path in self._execute(stored.paths()) if owner.has_field(path)}
        for rows in self._walk(stored.rows(self._tenant_id)):
            sides = self._execute(stored.sides(rows, paths)).fetchall() if paths else []
            yield from stored.records(rows, sides, paths)

    def _plan(self, kind: Kind, query: Query) -> CachedQuery:
        plan = self._plans.get(kind, self._revision) if self._plans else None
        if plan is None:
            owner = validate(query, self._collections)
            compiler = self._compiler()
            rows, order = compiler.rows(owner, query.where), compiler.order(owner, query.order)
            plan = CachedQuery(self._revision, compiler.prefix(), rows, order)
            if ranged := uses_range_index(owner, query.where):
                plan.quick = compiler.rows(owner, query.where, by_range=True)
                plan.in_order = bool(query.order) and query.order[0].field == ranged
            self._keep(kind, plan)
        elif query.offset < 0 or (query.limit is not None and query.limit < 0):
            validate(query, self._collections)
        plan.asked += 1
        return plan

    def _keep(self, kind: Kind, plan: CachedQuery) -> None:
        names = {kind[1]} | collections_read(kind[2])
        if self._plans and all(self._collections[name].bumps_revision for name in names):
            self._plans.store(kind, plan)

    def _compiler(self) -> Compiler:
        return Compiler(self._collections, self._path_id, self._tenant_id)

    def _path_id(self, collection: str, path: str) -> int:
        sql = Fragment("SELECT id FROM _paths WHERE collection = ? AND path = ?", (collection, path))
        row = self._execute(sql).fetchone()
        return int(row[0]) if row else -1

    def _one(self, query: Query) -> Page:
        owner = validate(query, self._collections)
        compiler = self._compiler()
        rows = compiler.rows(owner, query.where)
        with_ = compiler.prefix()
        found = self._execute(Fragment(f"{with_.text}SELECT _body {rows.text}", with_.params + rows.params)).fetchall()
        bodies = [body for (body,) in found]
        end = len(bodies) if query.limit is None else query.offset + query.limit
        return Page(self._while_open(bodies[query.offset : end]), len(bodies))

    def _direct(self, plan: CachedQuery, query: Query) -> Page:
        total = self._total(plan)
        if query.offset >= total or not query.limit:
            return Page(iter(()), total)
        page = Fragment(
            f"{plan.with_.text}SELECT CAST(group_concat(_body) AS BLOB) FROM"
            f" (SELECT _body {plan.rows.text} {plan.order.text} LIMIT ? OFFSET ?)",
            (*plan.with_.params, *plan.rows.params, *plan.order.params, query.limit, query.offset),
        )
        return Page(self._while_open(row[0] for row in self._execute(page).fetchall()), total)

    def _total(self, plan: CachedQuery) -> int:
        """How many rows match; afterwards the plan knows how to have them."""
        if plan.total is None:
            rows = plan.quick or plan.rows
            counting = Fragment(f"{plan.with_.text}SELECT count(*) {rows.text}", plan.with_.params + rows.params)
            plan.total = int(self._execute(counting).fetchone()[0])
            if plan.in_order or plan.total <= FEW:
                plan.rows = rows
        return plan.total

    def _number_rows(self, kind: Kind, plan: CachedQuery) -> None:
        """Give the plan its array. Whoever asks the same meanwhile waits for it: a crowd would sort all at once."""
        with plan.numbering:
            if plan.ids is None:
                ids = self._row_numbers(plan)
                plan.rising = all(map(lt, ids, islice(ids, 1, None)))
                plan.total = len(ids)
                plan.ids = ids
                self._keep(kind, plan)

    def _row_numbers(self, plan: CachedQuery) -> array[int]:
        if plan.quick is not None:
            self._total(plan)
        bound = plan.with_.params + plan.rows.params + plan.order.params
        cursor = self._execute(Fragment(f"{plan.with_.text}SELECT _id {plan.rows.text} {plan.order.text}", bound))
        ids = array("q")
        with driver_errors("reading"):
            while rows := cursor.fetchmany(8192):
                ids.extend([row[0] for row in rows])
        return ids

    def _by_row(self, collection: str, ids: array[int], rising: bool) -> Iterator[bytes]:
        """The documents with these row numbers, in their order; `rising` when that is the order of the table."""
        table = quote_identifier(collection)
        # The outer loop of a CROSS JOIN is its left side, so the documents come in the order of the array.
        one_by_one = f"json_each(?) AS n CROSS JOIN {table} AS d ON d._id = n.value"
        in_a_row = f"{table} AS d WHERE d._id BETWEEN ? AND ? ORDER BY d._id"
        for start in range(0, len(ids), CHUNK_RECORDS):
            part = ids[start : start + CHUNK_RECORDS]
            together = rising and part[-1] - part[0] == len(part) - 1
            rows = Fragment(in_a_row, (part[0], part[-1])) if together else Fragment(one_by_one, (str(part.tolist()),))
            text = f"SELECT CAST(group_concat(_body) AS BLOB) FROM (SELECT d._body FROM {rows.text})"
            yield self._execute(Fragment(text, rows.params)).fetchone()[0]

    def _walk(self, sql: Fragment) -> Iterator[list[Any]]:
        self._walking += 1  # whoever stops half-way leaves a statement running
        cursor = self._execute(sql)
        while True:
            self._open()
            with driver_errors("reading"):
                rows = cursor.fetchmany(1000)
            if not rows:
                self._walking -= 1
                return
            yield rows

    def _while_open(self, bodies: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
        for body in bodies:
            self._open()
            yield body

    def _execute(self, sql: Fragment) -> sqlite3.Cursor:
        with driver_errors("reading"):
            return self._open().execute(sql.text, sql.params)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageUnavailableError("the snapshot is closed")
        return self._connection


class PooledSnapshot(SQLiteSnapshot):
    """A snapshot whose connection goes back into the pool on close."""

    def __init__(
        self,
        reader: ReadConnection,
        tenant: str,
        collections: Mapping[str, Collection],
        plans: QueryCache,
        release: Callable[[ReadConnection, bool], None],
    ) -> None:
        super().__init__(reader, tenant, collections, plans)
        self._reader = reader
        self._release = release

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection = None
            self._release(self._reader, self._walking == 0)


def _worth_an_array(plan: CachedQuery, query: Query) -> bool:
    """Whether a second look at a question would have to skip, sort or search again; a count alone does not."""
    return (
        plan.asked > 1
        and query.limit != 0
        and (query.offset > CHUNK_RECORDS or bool(query.order) or query.where != MATCH_ALL)
    )


def _names_key(where: Where) -> bool:
    match where:
        case Compare(field, operator, _):
            return field == KEY and operator == "="
        case And(terms):
            return any(_names_key(term) for term in terms)
        case _:
            return False


class RecordLoader:
    """How the records of one collection lie in the tables. SQLite gives numbers as floats, and the values of a path
    once and in ascending order: as the contract wants them."""

    def __init__(self, owner: Collection) -> None:
        self._owner = owner
        self._scalars = scalar_paths(owner)

    def paths(self) -> Fragment:
        """The numbers and names of the paths of which the side table holds values."""
        return Fragment("SELECT id, path FROM _paths WHERE collection = ?", (self._owner.name,))

    def rows(self, tenant: int) -> Fragment:
        """Row number, key, body and scalar values of a tenant's records, in key order."""
        names = ", ".join(["_id", "_key", "_body", *map(quote_identifier, self._scalars)])
        return Fragment(
            f"SELECT {names} FROM {quote_identifier(self._owner.name)} WHERE _tenant = ? ORDER BY _key", (tenant,)
        )

    def sides(self, rows: Sequence[Sequence[Any]], paths: Mapping[int, str]) -> Fragment:
        """What the side table holds of these rows under these paths: row number, path and value, ascending."""
        numbers, wanted = (orjson.dumps(each).decode() for each in ([row[0] for row in rows], list(paths)))
        return Fragment(
            "SELECT id, path, value FROM _many WHERE id IN (SELECT value FROM json_each(?))"
            " AND path IN (SELECT value FROM json_each(?)) ORDER BY id, path, value",
            (numbers, wanted),
        )

    def records(
        self, rows: Sequence[Sequence[Any]], sides: Sequence[tuple[int, int, Key]], paths: Mapping[int, str]
    ) -> Iterator[Record]:
        """The records of the rows; what lies under a path that is declared no more is left out."""
        held: dict[int, dict[str, tuple[Key, ...]]] = {}
        for number, path, value in sides:
            many = held.setdefault(number, {})
            many[paths[path]] = (*many.get(paths[path], ()), value)
        for number, key, body, *scalars in rows:
            values: dict[str, Value] = {
                path: value for path, value in zip(self._scalars, scalars, strict=True) if value is not None
            }
            yield Record(key, bytes(body), values | held.get(number, {}))
