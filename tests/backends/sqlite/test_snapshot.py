"""Queries of SQLite snapshots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import And, Backend, Compare, Not, OrderBy, Query, QueryTimeoutError, Where, open_store
from backends.sqlite.backend import SQLiteBackend
from backends.sqlite.query_cache import CachedQuery
from backends.testing.base import COLLECTIONS, record


def test_deep_condition_with_a_range_finds_its_records(tmp_path: Path) -> None:
    deep: Where = Compare("name", "=", "b")
    for _ in range(60):
        deep = Not(And((deep, Compare("name", "=", "b"))))
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        with store.write("default") as transaction:
            transaction.put("people", [record("a", name="b")])
        with store.read("default") as snapshot:
            assert snapshot.find(Query("people", And((Compare("name", ">=", ""), deep)))).total == 1


def test_reader_waits_for_the_sort_of_another_within_its_limit(tmp_path: Path) -> None:
    query = Query("people", order=(OrderBy("name"),))
    with ThreadPoolExecutor(1) as other, open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        with store.write("default") as transaction:
            transaction.put("people", [record("a", name="b")])

        def sort() -> int:
            with store.read("default", query_seconds=0.5) as snapshot:
                return snapshot.find(query).total

        with store.read("default") as snapshot:
            snapshot.find(Query("people", order=query.order, limit=1))  # compiles the query
            sorting = cached_query(store, query, snapshot.revision).lock  # another reader holds it while it sorts
            with sorting, pytest.raises(QueryTimeoutError):
                other.submit(sort).result(timeout=10)
        assert sort() == 1


def cached_query(store: Backend, query: Query, revision: int) -> CachedQuery:
    """Return the cache entry of a query that was executed before."""
    assert isinstance(store, SQLiteBackend)
    cached = store._query_cache.get(("default", query.collection, query.where, query.order), revision)
    assert cached is not None
    return cached
