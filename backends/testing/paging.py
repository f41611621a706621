"""Tests of pages: totals, offsets, limits, chunks, and repeated deep pages, which a backend may cache."""

from __future__ import annotations

from itertools import product

import pytest

from backends import (
    KEY,
    MATCH_ALL,
    MAX_CHUNK_BYTES,
    Backend,
    Compare,
    In,
    Not,
    OrderBy,
    Query,
    Snapshot,
    StorageUnavailableError,
    Subquery,
    Transaction,
    Where,
)
from backends.testing.base import (
    TENANT,
    Conformance,
    document_keys,
    fill,
    find_keys,
    parameter_id,
    person,
    record,
    roll_back,
)

__all__ = ["PagingConformance"]

HUGE = 10**18 - 1
LARGE_TEXT = "x" * (MAX_CHUNK_BYTES // 3)
"""Text in a document of which two fit into one chunk."""
PEOPLE = [person(number) for number in range(700)]
KEYS = [one.key for one in PEOPLE]


class PagingConformance(Conformance):
    """Tests of pages of 700 records in any order."""

    @pytest.fixture
    def filled_store(self, store: Backend) -> Backend:
        """Return the store with 700 people."""
        fill(store, "people", PEOPLE)
        return store

    @pytest.mark.parametrize(
        ("where", "order", "expected"),
        [
            (MATCH_ALL, (), KEYS),
            (MATCH_ALL, (OrderBy(KEY, descending=True),), KEYS[::-1]),
            (MATCH_ALL, (OrderBy("name"),), sorted(KEYS, key=lambda key: int(key[1:]) % 7)),
            (MATCH_ALL, (OrderBy("name", descending=True),), sorted(KEYS, key=lambda key: -(int(key[1:]) % 7))),
            (MATCH_ALL, (OrderBy("tags"), OrderBy("age")), None),
            (Compare("name", "=", "name 3"), (), KEYS[3::7]),
            (Compare("tags", "=", "t1"), (OrderBy("age", descending=True),), None),
            (Not(Compare("age", ">", 0)), (), KEYS[::5]),
        ],
        ids=parameter_id,
    )
    def test_consecutive_pages_contain_every_record_once(
        self, filled_store: Backend, where: Where, order: tuple[OrderBy, ...], expected: list[str] | None
    ) -> None:
        with filled_store.read(TENANT) as snapshot:
            complete = snapshot.find(Query("people", where, order))
            bodies = complete.body()
            keys = document_keys(bodies)
            assert complete.total == len(keys) == len(set(keys))
            assert expected is None or keys == expected
            for size in 1, 99, 256, 257, 700, 701:
                starts = range(0, len(keys), size) if size > 1 else [0, 1, len(keys) - 1]
                for start in starts:
                    page = snapshot.find(Query("people", where, order, start, size))
                    assert document_keys(page.body()) == keys[start : start + size]
                    assert page.total == len(keys)

    def test_offset_and_limit_may_exceed_the_number_of_records(self, filled_store: Backend) -> None:
        for offset, limit in product([0, 1, 350, 699, 700, 701, HUGE], [None, 0, 1, 2, 256, HUGE]):
            with filled_store.read(TENANT) as snapshot:
                page = snapshot.find(Query("people", offset=offset, limit=limit))
                end = None if limit is None else offset + limit
                assert document_keys(page.body()) == KEYS[offset:end]
                assert page.total == 700

    @pytest.mark.parametrize(
        "where", [MATCH_ALL, Compare("name", "=", "name 3"), Compare("age", ">", 2)], ids=parameter_id
    )
    def test_max_total_limits_the_total_and_not_the_page(self, filled_store: Backend, where: Where) -> None:
        order = (OrderBy(KEY, descending=True),)
        with filled_store.read(TENANT) as snapshot:
            keys = document_keys(snapshot.find(Query("people", where, order)).body())
        for max_total, offset, limit in product([0, 1, 99, 700, HUGE], [0, 40, 650, HUGE], [None, 0, 5]):
            with filled_store.read(TENANT) as snapshot:
                for query in (Query("people", where, order, offset, limit, max_total),) * 2:
                    page = snapshot.find(query)
                    assert document_keys(page.body()) == keys[offset : None if limit is None else offset + limit]
                    assert page.total == min(max_total, len(keys))
                assert snapshot.find(Query("people", where, limit=1)).total == len(keys)

    def test_max_total_limits_the_total_of_a_new_query(self, filled_store: Backend) -> None:
        for number, (max_total, order) in enumerate(product([0, 7, 140, HUGE], [(), (OrderBy("age"),)])):
            where = Compare("age", ">", number)  # no earlier query has counted its records
            matching = sum(age > number for age in range(700) if age % 5)
            with filled_store.read(TENANT) as snapshot:
                page = snapshot.find(Query("people", where, order, 2, 5, max_total))
                assert len(document_keys(page.body())) == 5
                assert page.total == min(max_total, matching)

    def test_empty_page_has_no_chunks_and_each_chunk_has_a_document(self, filled_store: Backend) -> None:
        with filled_store.read(TENANT) as snapshot:
            for empty in (
                Query("people", limit=0),
                Query("people", offset=700),
                Query("people", Compare("name", "=", "unknown")),
                Query("groups"),
            ):
                assert list(snapshot.find(empty).chunks) == []
            chunks = list(snapshot.find(Query("people")).chunks)
            assert all(document_keys(chunk) for chunk in chunks)
            assert b",".join(chunks) == b",".join(one.body for one in PEOPLE)

    def test_chunks_of_large_documents_are_limited_in_bytes(self, store: Backend) -> None:
        texts = [LARGE_TEXT if number % 10 > 2 else "small" for number in range(40)]
        texts[20] = LARGE_TEXT * 4
        people = [
            record(f"p{number:03}", age=number)._replace(body=b'{"key":"p%03d","text":"%b"}' % (number, text.encode()))
            for number, text in enumerate(texts)
        ]
        fill(store, "people", people)
        all_of_them, descending = Compare("age", ">=", 0), (OrderBy("age", descending=True),)
        for query, expected in (
            (Query("people"), people),
            (Query("people", order=descending), people[::-1]),
            (Query("people", all_of_them, limit=40), people),
            (Query("people", all_of_them, descending, 3, 30), people[::-1][3:33]),
            (Query("people", Compare(KEY, "=", "p020")), [people[20]]),
        ):
            for _ in range(3):  # caches fill with the second query
                with store.read(TENANT) as snapshot:
                    chunks = list(snapshot.find(query).chunks)
                assert b",".join(chunks) == b",".join(one.body for one in expected)
                assert all(len(chunk) <= MAX_CHUNK_BYTES or len(document_keys(chunk)) == 1 for chunk in chunks)

    def test_unfinished_page_does_not_block_writers_or_readers(self, filled_store: Backend) -> None:
        for _ in range(20):
            with filled_store.read(TENANT) as snapshot:
                assert next(snapshot.find(Query("people")).chunks).startswith(PEOPLE[0].body)
                assert next(snapshot.keys("people")) == "p000"
        fill(filled_store, "people", [person(700)])
        with filled_store.read(TENANT) as snapshot:
            assert snapshot.find(Query("people", limit=1)).total == 701

    def test_pages_of_one_snapshot_can_be_read_alternately(self, filled_store: Backend) -> None:
        with filled_store.read(TENANT) as snapshot:
            one, two = (snapshot.find(Query("people", order=(OrderBy("name"),))).chunks for _ in range(2))
            turns = list(zip(one, two, snapshot.keys("people"), strict=False))
            assert all(left == right for left, right, _ in turns)
            assert [key for *_, key in turns] == KEYS[: len(turns)]

    def test_closed_snapshot_ends_its_pages(self, filled_store: Backend) -> None:
        with filled_store.read(TENANT) as snapshot:
            page, keys = snapshot.find(Query("people")), snapshot.keys("people")
        with pytest.raises(StorageUnavailableError):
            list(page.chunks)
        with pytest.raises(StorageUnavailableError):
            list(keys)

    @pytest.mark.parametrize(
        ("where", "order"),
        [
            (MATCH_ALL, ()),
            (MATCH_ALL, (OrderBy("name", descending=True),)),
            (Compare("tags", "=", "all"), ()),
            (Not(Compare("name", "=", "unknown")), (OrderBy("age"),)),
        ],
        ids=parameter_id,
    )
    def test_repeated_deep_pages_are_correct_after_each_write(
        self, filled_store: Backend, where: Where, order: tuple[OrderBy, ...]
    ) -> None:
        query = Query("people", where, order, 600, 50)
        with filled_store.read(TENANT) as old:
            before = repeat(old, query)
            with filled_store.write(TENANT) as transaction:
                assert repeat(transaction, query) == before
                first = document_keys(transaction.find(Query("people", where, order, 0, 1)).body())
                transaction.delete("people", first)
                within = repeat(transaction, query)
                assert within == (before[0] - 1, before[1][1:] + within[1][-1:])
            assert repeat(old, query) == before
        with filled_store.read(TENANT) as new:
            assert repeat(new, query) == within

    def test_deep_pages_of_a_failed_transaction_are_not_cached(self, filled_store: Backend) -> None:
        query = Query("people", Compare("tags", "=", "all"), (OrderBy("age"),), 500, 50)
        with filled_store.read(TENANT) as snapshot:
            before = repeat(snapshot, query)

        def work(transaction: Transaction) -> None:
            transaction.delete("people", KEYS[:200])
            assert repeat(transaction, query)[0] == 500

        roll_back(filled_store, work)
        with filled_store.read(TENANT) as snapshot:
            assert repeat(snapshot, query) == before

    def test_deep_pages_are_correct_without_a_new_revision(self, filled_store: Backend) -> None:
        fill(filled_store, "notes", [record(key, state="open") for key in KEYS])
        for query in (
            Query("notes", Compare("state", "=", "open"), (), 500, 10),
            Query("people", In(KEY, Subquery("notes", KEY, Compare("state", "=", "open"))), (), 500, 10),
        ):
            with filled_store.read(TENANT) as snapshot:
                assert repeat(snapshot, query)[1][0] == first_key(snapshot, query)
                total, keys = repeat(snapshot, query)
            with filled_store.write(TENANT) as transaction:
                transaction.delete("notes", [next(transaction.keys("notes"))])
            with filled_store.read(TENANT) as snapshot:
                assert repeat(snapshot, query)[0] == total - 1
                assert repeat(snapshot, query)[1][:-1] == keys[1:]

    def test_keys_come_in_order_and_allow_writes_during_iteration(self, filled_store: Backend) -> None:
        third = Compare("tags", "=", "t0")
        with filled_store.write(TENANT) as transaction:
            transaction.delete("people", transaction.keys("people", third))
            assert find_keys(transaction) == [key for number, key in enumerate(KEYS) if number % 3]
            transaction.put("people", (record(key, name="all of you") for key in transaction.keys("people")))
        with filled_store.read(TENANT) as snapshot:
            assert snapshot.find(Query("people", Compare("name", "=", "all of you"), limit=0)).total == 466

    def test_get_many_accepts_thousands_of_unknown_or_repeated_keys(self, filled_store: Backend) -> None:
        keys = [f"unknown {number}" for number in range(4000)] + KEYS + KEYS[:300]
        with filled_store.read(TENANT) as snapshot:
            assert snapshot.get_many("people", keys) == {one.key: one.body for one in PEOPLE}
            assert snapshot.get_many("people", []) == {}
            assert snapshot.get_many("groups", keys) == {}

    def test_storage_order_has_all_records_once_or_none(self, filled_store: Backend) -> None:
        with filled_store.read(TENANT) as snapshot:
            bodies = list(snapshot.in_storage_order("people"))
            assert bodies == [] or sorted(bodies) == [(one.key, one.body) for one in PEOPLE]
            assert list(snapshot.in_storage_order("groups")) == []

    def test_get_each_yields_what_get_many_returns_one_by_one(self, filled_store: Backend) -> None:
        keys = [f"unknown {number}" for number in range(2000)] + KEYS + KEYS[:300]
        with filled_store.read(TENANT) as snapshot:
            bodies = list(snapshot.get_each("people", keys))
            assert sorted(bodies) == [(one.key, one.body) for one in PEOPLE]
            assert list(snapshot.get_each("people", [])) == []
            assert list(snapshot.get_each("groups", keys)) == []
            unfinished = snapshot.get_each("people", KEYS)
            assert next(unfinished)[0] in KEYS
        with pytest.raises(StorageUnavailableError):
            list(unfinished)
        with filled_store.write(TENANT) as transaction:
            transaction.put("people", [record("p000", name="changed")])
            assert dict(transaction.get_each("people", KEYS[:2])) == transaction.get_many("people", KEYS[:2])


def repeat(snapshot: Snapshot, query: Query) -> tuple[int, list[str]]:
    """Return total and keys of the page after four equal results. Caches fill with the second query."""
    results = []
    for _ in range(4):
        page = snapshot.find(query)
        results.append((page.total, document_keys(page.body())))
    assert results[1:] == results[:1] * 3
    return results[0]


def first_key(snapshot: Snapshot, query: Query) -> str:
    """Return the first key of the page, found with `keys`."""
    return list(snapshot.keys(query.collection, query.where))[query.offset]
