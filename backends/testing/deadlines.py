"""Tests of the time limit of queries: an expensive query ends early, and a slow consumer of a page loses nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from backends import (
    KEY,
    MAX_SUBSTRING_LENGTH,
    Backend,
    Compare,
    In,
    Not,
    Or,
    OrderBy,
    Query,
    QueryTimeoutError,
    Snapshot,
    Subquery,
    Where,
)
from backends.testing.base import TENANT, Conformance, document_keys, fill, record

__all__ = ["DeadlineConformance"]

RECORDS = 2000
TERMS = 300
MAX_TERMS = 100_000
LONG_TEXTS = 30
"""Number of records with a long text, to search which takes longer than `SHORT_SECONDS`."""
LONG_TEXT = "a" * 300_000
SHORT_SECONDS = 0.002
"""Time limit that every expensive query exceeds."""
LONG_SECONDS = 60.0
"""Time limit that no query of this suite exceeds."""
MEASURABLE_SECONDS = 0.5
PAUSE_SECONDS = 0.4
STEP_SECONDS = 1.0
"""Time limit of a step; three pauses together take longer."""


def comparisons(terms: int) -> Where:
    """Return a condition that compares each record with this number of values, and matches none."""
    return Or(tuple(Compare("name", "~", f"no name {number}") for number in range(terms)))


EXPENSIVE = comparisons(TERMS)
CHEAP = Compare(KEY, "=", "p0007")

EXPENSIVE_CALLS: list[Callable[[Snapshot], object]] = [
    lambda snapshot: snapshot.find(Query("people", EXPENSIVE, limit=1)),
    lambda snapshot: snapshot.find(Query("people", EXPENSIVE)),
    lambda snapshot: snapshot.find(Query("people", Not(EXPENSIVE), (OrderBy("name", descending=True),), limit=5)),
    lambda snapshot: snapshot.find(Query("people", In(KEY, Subquery("people", KEY, EXPENSIVE)), limit=1)),
    lambda snapshot: snapshot.exists("people", EXPENSIVE),
    lambda snapshot: list(snapshot.keys("people", EXPENSIVE)),
]


class DeadlineConformance(Conformance):
    """Tests of `query_seconds` on 2,000 records."""

    @pytest.fixture
    def large_store(self, store: Backend) -> Backend:
        """Return the store with 2,000 people."""
        fill(store, "people", [record(f"p{number:04}", name=f"name {number}") for number in range(RECORDS)])
        return store

    def test_query_beyond_its_time_limit_raises_query_timeout_error(self, large_store: Backend) -> None:
        with large_store.read(TENANT, query_seconds=SHORT_SECONDS) as snapshot:
            for call in EXPENSIVE_CALLS:
                with pytest.raises(QueryTimeoutError):
                    call(snapshot)
                assert snapshot.get_many("people", ["p0007"]) == {"p0007": record("p0007", name="name 7").body}
        with large_store.read(TENANT, query_seconds=LONG_SECONDS) as snapshot:
            assert document_keys(snapshot.find(Query("people", CHEAP)).body()) == ["p0007"]
            assert snapshot.find(Query("people", EXPENSIVE, limit=1)).total == 0
            assert not snapshot.exists("people", EXPENSIVE)

    def test_time_limit_ends_a_query_early(self, large_store: Backend) -> None:
        terms, seconds = TERMS, 0.0
        while seconds < MEASURABLE_SECONDS and terms < MAX_TERMS:
            terms *= 2
            seconds = seconds_of_find(large_store, Query("people", comparisons(terms), limit=1))
        fill(large_store, "people", [record("p0000", name="changed")])  # ends the validity of cached totals
        query = Query("people", comparisons(terms), limit=1)
        limited = min(seconds_of_find(large_store, query, SHORT_SECONDS) for _ in range(3))  # the machine may be busy
        assert limited < seconds / 2

    def test_time_limit_ends_a_search_in_few_long_texts(self, store: Backend) -> None:
        fill(store, "people", [record(f"p{n:04}", name=LONG_TEXT, tags=(LONG_TEXT,)) for n in range(LONG_TEXTS)])
        longest = "a" * (MAX_SUBSTRING_LENGTH - 1) + "b"
        for field in ("name", "tags"):
            query = Query("people", Compare(field, "~", longest), limit=1)
            with store.read(TENANT, query_seconds=SHORT_SECONDS) as snapshot:
                with pytest.raises(QueryTimeoutError):
                    snapshot.find(query)
                assert snapshot.get_many("people", ["p9999"]) == {}
            with store.read(TENANT, query_seconds=LONG_SECONDS) as snapshot:
                assert snapshot.find(query).total == 0

    def test_query_in_a_transaction_has_no_time_limit(self, large_store: Backend) -> None:
        with large_store.write(TENANT) as transaction:
            assert transaction.find(Query("people", EXPENSIVE, limit=1)).total == 0

    def test_each_step_of_an_iteration_has_its_own_time_limit(self, large_store: Backend) -> None:
        with large_store.read(TENANT, query_seconds=STEP_SECONDS) as snapshot:
            chunks = snapshot.find(Query("people")).chunks
            keys, records = snapshot.keys("people"), snapshot.scan("people")
            read, first_keys, first_records = [], [], []
            for _ in range(3):
                read.append(next(chunks))
                first_keys.append(next(keys))
                first_records.append(next(records).key)
                time.sleep(PAUSE_SECONDS)
            expected = [f"p{number:04}" for number in range(RECORDS)]
            assert document_keys(b",".join([*read, *chunks])) == expected
            assert [*first_keys, *keys] == [*first_records, *(one.key for one in records)] == expected


def seconds_of_find(store: Backend, query: Query, query_seconds: float | None = None) -> float:
    """Return the duration of a query; with `query_seconds`, it must end with QueryTimeoutError."""
    expected = contextlib.nullcontext() if query_seconds is None else pytest.raises(QueryTimeoutError)
    with store.read(TENANT, query_seconds=query_seconds) as snapshot:
        start = time.monotonic()
        with expected:
            snapshot.find(query)
        return time.monotonic() - start
