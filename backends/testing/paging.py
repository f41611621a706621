"""Pages: counts, offsets, limits, chunks, and deep pages that are asked again and again."""

from __future__ import annotations

import pytest

from backends import (
    KEY,
    MATCH_ALL,
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
from backends.testing.base import TENANT, Conformance, break_off, documents, fill, found, person, record, shown

__all__ = ["PagingConformance"]

HUGE = 10**18 - 1
PEOPLE = [person(number) for number in range(700)]
KEYS = [one.key for one in PEOPLE]


class PagingConformance(Conformance):
    """Seven hundred people, in any order, from any place."""

    @pytest.fixture
    def crowd(self, store: Backend) -> Backend:
        """The store with seven hundred people in it."""
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
        ids=shown,
    )
    def test_pages_laid_side_by_side_are_the_whole(
        self, crowd: Backend, where: Where, order: tuple[OrderBy, ...], expected: list[str] | None
    ) -> None:
        with crowd.read(TENANT) as at:
            whole = at.find(Query("people", where, order))
            bodies = whole.body()
            keys = documents(bodies)
            assert whole.total == len(keys) == len(set(keys))
            assert expected is None or keys == expected
            for size in 1, 99, 256, 257, 700, 701:
                starts = range(0, len(keys), size) if size > 1 else [0, 1, len(keys) - 1]
                for start in starts:
                    page = at.find(Query("people", where, order, start, size))
                    assert documents(page.body()) == keys[start : start + size]
                    assert page.total == len(keys)

    @pytest.mark.parametrize("offset", [0, 1, 350, 699, 700, 701, HUGE])
    @pytest.mark.parametrize("limit", [None, 0, 1, 2, 256, HUGE])
    def test_offset_and_limit_may_lie_far_outside(self, crowd: Backend, offset: int, limit: int | None) -> None:
        with crowd.read(TENANT) as at:
            page = at.find(Query("people", offset=offset, limit=limit))
            end = None if limit is None else offset + limit
            assert documents(page.body()) == KEYS[offset:end]
            assert page.total == 700

    def test_an_empty_page_has_no_chunks_and_every_chunk_has_a_document(self, crowd: Backend) -> None:
        with crowd.read(TENANT) as at:
            for empty in (
                Query("people", limit=0),
                Query("people", offset=700),
                Query("people", Compare("name", "=", "nobody")),
                Query("groups"),
            ):
                assert list(at.find(empty).chunks) == []
            chunks = list(at.find(Query("people")).chunks)
            assert all(documents(chunk) for chunk in chunks)
            assert b",".join(chunks) == b",".join(one.body for one in PEOPLE)

    def test_a_page_that_nobody_reads_to_its_end_is_in_nobodys_way(self, crowd: Backend) -> None:
        for _ in range(20):
            with crowd.read(TENANT) as at:
                assert next(at.find(Query("people")).chunks).startswith(PEOPLE[0].body)
                assert next(at.keys("people")) == "p000"
        fill(crowd, "people", [person(700)])
        with crowd.read(TENANT) as at:
            assert at.find(Query("people", limit=1)).total == 701

    def test_two_pages_of_one_snapshot_may_be_read_in_turn(self, crowd: Backend) -> None:
        with crowd.read(TENANT) as at:
            one, two = (at.find(Query("people", order=(OrderBy("name"),))).chunks for _ in range(2))
            turns = list(zip(one, two, at.keys("people"), strict=False))
            assert all(left == right for left, right, _ in turns)
            assert [key for *_, key in turns] == KEYS[: len(turns)]

    def test_closing_the_snapshot_ends_its_pages(self, crowd: Backend) -> None:
        with crowd.read(TENANT) as at:
            page, keys = at.find(Query("people")), at.keys("people")
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
            (Not(Compare("name", "=", "nobody")), (OrderBy("age"),)),
        ],
        ids=shown,
    )
    def test_a_deep_page_stays_right_however_often_it_is_asked_and_whatever_is_written(
        self, crowd: Backend, where: Where, order: tuple[OrderBy, ...]
    ) -> None:
        query = Query("people", where, order, 600, 50)
        with crowd.read(TENANT) as old:
            before = asked_often(old, query)
            with crowd.write(TENANT) as transaction:
                assert asked_often(transaction, query) == before
                first = documents(transaction.find(Query("people", where, order, 0, 1)).body())
                transaction.delete("people", first)
                within = asked_often(transaction, query)
                assert within == (before[0] - 1, before[1][1:] + within[1][-1:])
            assert asked_often(old, query) == before
        with crowd.read(TENANT) as new:
            assert asked_often(new, query) == within

    def test_deep_pages_that_a_failed_transaction_saw_are_forgotten_with_it(self, crowd: Backend) -> None:
        query = Query("people", Compare("tags", "=", "all"), (OrderBy("age"),), 500, 50)
        with crowd.read(TENANT) as at:
            before = asked_often(at, query)

        def work(transaction: Transaction) -> None:
            transaction.delete("people", KEYS[:200])
            assert asked_often(transaction, query)[0] == 500

        break_off(crowd, work)
        with crowd.read(TENANT) as at:
            assert asked_often(at, query) == before

    def test_deep_pages_of_what_is_not_served_stay_right_though_the_revision_does_not_move(
        self, crowd: Backend
    ) -> None:
        fill(crowd, "notes", [record(key, state="open") for key in KEYS])
        for query in (
            Query("notes", Compare("state", "=", "open"), (), 500, 10),
            Query("people", In(KEY, Subquery("notes", KEY, Compare("state", "=", "open"))), (), 500, 10),
        ):
            with crowd.read(TENANT) as at:
                assert asked_often(at, query)[1][0] == query_key(at, query)
                total, keys = asked_often(at, query)
            with crowd.write(TENANT) as transaction:
                transaction.delete("notes", [next(transaction.keys("notes"))])
            with crowd.read(TENANT) as at:
                assert asked_often(at, query)[0] == total - 1
                assert asked_often(at, query)[1][:-1] == keys[1:]

    def test_keys_are_found_in_order_and_may_be_written_to_meanwhile(self, crowd: Backend) -> None:
        third = Compare("tags", "=", "t0")
        with crowd.write(TENANT) as transaction:
            transaction.delete("people", transaction.keys("people", third))
            assert found(transaction) == [key for number, key in enumerate(KEYS) if number % 3]
            transaction.put("people", (record(key, name="all of you") for key in transaction.keys("people")))
        with crowd.read(TENANT) as at:
            assert at.find(Query("people", Compare("name", "=", "all of you"), limit=0)).total == 466

    def test_bodies_are_given_for_thousands_of_keys_that_may_be_unknown_or_repeated(self, crowd: Backend) -> None:
        asked = [f"nobody {number}" for number in range(4000)] + KEYS + KEYS[:300]
        with crowd.read(TENANT) as at:
            assert at.get_many("people", asked) == {one.key: one.body for one in PEOPLE}
            assert at.get_many("people", []) == {}
            assert at.get_many("groups", asked) == {}


def asked_often(at: Snapshot, query: Query) -> tuple[int, list[str]]:
    """Total and keys of the page, which must be the same each of four times: caches fill at the second sighting."""
    answers = []
    for _ in range(4):
        page = at.find(query)
        answers.append((page.total, documents(page.body())))
    assert answers[1:] == answers[:1] * 3
    return answers[0]


def query_key(at: Snapshot, query: Query) -> str:
    """The key that stands at the page's beginning, counted out."""
    return list(at.keys(query.collection, query.where))[query.offset]
