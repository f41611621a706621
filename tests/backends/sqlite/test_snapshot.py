"""Queries of SQLite snapshots."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import (
    And,
    Backend,
    Compare,
    In,
    Not,
    Operator,
    Or,
    OrderBy,
    Query,
    QueryTimeoutError,
    Record,
    Subquery,
    Where,
    open_store,
)
from backends.sql import Compiler
from backends.sqlite.backend import SQLiteBackend
from backends.sqlite.cached_query import CachedQuery
from backends.sqlite.dialect import SQLITE
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


def test_subqueries_between_lists_at_any_depth_are_compiled(tmp_path: Path) -> None:
    same, match_all = Compare("name", "=", "b"), And(())
    inner = And((same, In("tags", Subquery("people", "tags", Compare("tags", "=", "b")))))
    deep: Where = And((same, same, In("tags", Subquery("people", "tags", And((match_all, Not(inner)))))))
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.read("default") as snapshot:
        for _ in range(14):
            assert not snapshot.exists("people", And((deep, match_all)))
            assert snapshot.find(Query("people", deep)).total == 0
            deep = And((same, deep))


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
                other.submit(sort).result(timeout=60)
        assert sort() == 1


def cached_query(store: Backend, query: Query, revision: int) -> CachedQuery:
    """Return the cache entry of a query that was executed before."""
    assert isinstance(store, SQLiteBackend)
    cached = store._query_cache.get(("default", query.collection, query.where, query.order), revision)
    assert cached is not None
    return cached


@pytest.mark.parametrize("operator", ["~", "="])
def test_alternatives_on_one_field_read_its_values_once(operator: Operator) -> None:
    people = {collection.name: collection for collection in COLLECTIONS}
    alternatives = Or(tuple(Compare("tags", operator, f"tag {number}") for number in range(100)))
    compiler = Compiler(SQLITE, people, lambda _collection, _path: 1, tenant=1)
    condition = compiler.from_where(people["people"], And((alternatives, Compare("name", "=", "x"))))
    assert condition.text.count("FROM _many") == 1


def test_condition_with_many_values_is_evaluated_once_per_query(tmp_path: Path) -> None:
    alternatives = Or(tuple(Compare("tags", "~", f"tag {number}") for number in range(100)))
    query = Query("people", alternatives, (OrderBy("name"),), limit=1)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        with store.write("default") as transaction:
            transaction.put("people", [record(f"{number}", tags=(f"tag {number}",)) for number in range(3)])
        with store.read("default") as snapshot:
            assert snapshot.find(query).total == 3
            ids = cached_query(store, query, snapshot.revision).ids
            assert ids is not None
            assert len(ids) == 3


def test_scan_of_large_records_reads_few_at_once(tmp_path: Path) -> None:
    count, body = 40, b'"%b"' % (b"x" * 1_000_000)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        with store.write("default") as transaction:
            transaction.put("people", (record(f"p{n:02}", name="a")._replace(body=body) for n in range(count)))
        tracemalloc.start()
        with store.read("default") as snapshot:
            assert sum(len(one.body) for one in snapshot.scan("people")) == count * len(body)
            assert sum(len(one) for _, one in snapshot.get_each("people", list(snapshot.keys("people")))) > 0
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * len(body)


def test_put_of_large_records_holds_few_at_once(tmp_path: Path) -> None:
    count, size = 60, 1_000_000
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        tracemalloc.start()
        with store.write("default") as transaction:
            bodies = (b'"%b"' % (b"%d" % (n % 10) * size) for n in range(count))
            transaction.put(
                "people", (record(f"p{n:02}", name="a")._replace(body=body) for n, body in enumerate(bodies))
            )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with store.read("default") as snapshot:
            assert len(list(snapshot.keys("people"))) == count
    assert peak < count * size * 2 / 3


def test_pages_without_escapes_are_known(tmp_path: Path) -> None:
    first, last = Query("people", limit=3), Query("people", offset=550, limit=50)
    by_name = Query("people", order=(OrderBy("name", descending=True),), offset=550, limit=50)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:

        def write(*records: Record) -> None:
            with store.write("default") as transaction:
                transaction.put("people", records)

        def escapes() -> list[bool]:
            with store.read("default") as snapshot:
                return [snapshot.find(query).has_escapes for query in (first, last, by_name, Query("people"))]

        write(*(Record(f"{number:03}", b'{"href":"\\/orgs"}', {"name": f"{number:03}"}) for number in range(600)))
        assert escapes() == [False] * 4
        write(Record("590", b'{"a":"\\""}', {"name": "590"}))
        # The rows of the first page are not known before they are read.
        assert escapes() == [True, True, False, True]
        write(Record("590", b'{"a":"b"}', {"name": "590"}))
        assert escapes() == [False] * 4
        write(*(Record(f"x{number:04}", b'{"a":"\\n"}') for number in range(1001)))
        assert escapes() == [True] * 4
        with store.write("other") as transaction:
            transaction.put("people", [Record("a", b"1")])
        with store.read("other") as snapshot:
            assert not snapshot.find(first).has_escapes
