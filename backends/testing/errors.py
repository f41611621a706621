"""What is refused, and that no error of a driver ever comes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backends import (
    EVERYTHING,
    KEY,
    AllOf,
    Among,
    Backend,
    BadQuery,
    Compare,
    Not,
    Order,
    Query,
    Record,
    Select,
    StoreFailed,
    Transaction,
    Where,
    open_store,
)
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, found, needs, person, record, shown

__all__ = ["ErrorConformance"]

LONE = "\ud800"

BAD_CONDITIONS: list[Where] = [
    Compare("no such field", "=", "x"),
    Compare("metadata", "=", "x"),
    Compare("title", "=", "x"),
    Compare("", "=", "x"),
    Compare("name", "=", 1),
    Compare("tags", "<", 1.5),
    Compare("metadata.x", "=", 1),
    Compare(KEY, "=", 1),
    Compare("age", "=", "1"),
    Compare("scores", ">=", ""),
    Compare("age", "~", 1),
    Compare("scores", "~", 1),
    Compare("age", "=", float("nan")),
    Compare("age", "<", 10**400),
    Compare("name", "=", LONE),
    Compare(KEY, "~", LONE),
    Compare("metadata." + LONE, "=", "x"),
    Among("no such field", ("x",)),
    Among("no such field", ()),
    Among("name", ("x", 1)),
    Among("age", (1, "x")),
    Among("name", ("x", LONE)),
    Among("name", Select("no such collection", "name", EVERYTHING)),
    Among("name", Select("groups", "no such field", EVERYTHING)),
    Among("name", Select("groups", "name", EVERYTHING)),
    Among("name", Select("groups", "title", Compare("age", "=", 1))),
    Among("name", Select("groups", "size", EVERYTHING)),
    Among("age", Select("groups", "title", EVERYTHING)),
    Among(KEY, Select("groups", KEY, Among("members", Select("people", "nope", EVERYTHING)))),
    Not(Compare("no such field", "=", "x")),
    AllOf((EVERYTHING, Not(Compare("age", "=", "x")))),
]

BAD_QUERIES = [
    Query("no such collection"),
    Query(""),
    Query("people", order=(Order("no such field"),)),
    Query("people", order=(Order("name"), Order("title", descending=True))),
    Query("people", order=(Order("metadata." + LONE),)),
    Query("people", offset=-1),
    Query("people", limit=-1),
]

BAD_RECORDS = [
    Record("a", b"{}", {"no such field": "x"}),
    Record("a", b"{}", {"no such field": None}),
    Record("a", b"{}", {"title": "x"}),
    Record("a", b"{}", {KEY: "b"}),
    Record("a", b"{}", {"name": 1}),
    Record("a", b"{}", {"age": "1"}),
    Record("a", b"{}", {"name": ("x",)}),
    Record("a", b"{}", {"tags": ("x", 1)}),
    Record("a", b"{}", {"scores": ("x",)}),
    Record("a", b"{}", {"metadata.x": 1}),
    Record("a", b"{}", {"age": float("nan")}),
    Record("a", b"{}", {"age": float("inf")}),
    Record("a", b"{}", {"age": 10**400}),
    Record("a", b"{}", {"name": LONE}),
    Record("a", b"{}", {"metadata." + LONE: "x"}),
    Record(LONE, b"{}"),
    Record("a", b""),
    Record("a", b'{"a":\n1}'),
    Record("a", b'{"a":\t1}'),
]


class ErrorConformance(Conformance):
    """Only errors of the contract's own tree come out, and the store is whole after each."""

    @pytest.mark.parametrize("where", BAD_CONDITIONS, ids=shown)
    def test_a_condition_on_what_is_not_declared_or_of_another_kind_is_refused(
        self, store: Backend, where: Where
    ) -> None:
        with store.read(TENANT) as at:
            with pytest.raises(BadQuery):
                at.find(Query("people", where))
            with pytest.raises(BadQuery):
                list(at.keys("people", where))

    @pytest.mark.parametrize("query", BAD_QUERIES, ids=shown)
    def test_a_query_of_what_is_not_declared_is_refused(self, store: Backend, query: Query) -> None:
        with store.read(TENANT) as at, pytest.raises(BadQuery):
            at.find(query)

    @pytest.mark.parametrize("bad", BAD_RECORDS, ids=shown)
    def test_a_record_that_does_not_fit_undoes_its_transaction(self, store: Backend, bad: Record) -> None:
        with pytest.raises(BadQuery):
            fill(store, "people", [person(1), bad, person(2)])
        fill(store, "people", [person(3)])
        with store.read(TENANT) as at:
            assert found(at) == ["p003"]

    def test_an_unknown_collection_is_refused_everywhere(self, store: Backend) -> None:
        with store.read(TENANT) as at:
            with pytest.raises(BadQuery):
                at.bodies("no such collection", ["a"])
            with pytest.raises(BadQuery):
                list(at.keys("no such collection"))
            with pytest.raises(BadQuery):
                list(at.records("no such collection"))
        with pytest.raises(BadQuery):
            fill(store, "no such collection", [])
        with pytest.raises(BadQuery):
            remove(store, "no such collection", [])

    def test_an_error_names_what_was_wrong(self, store: Backend) -> None:
        with store.read(TENANT) as at, pytest.raises(BadQuery, match=r"people.*shoeSize"):
            at.find(Query("people", Compare("shoeSize", "=", 1)))

    def test_keys_that_no_store_could_hold_are_unknown_or_refused(self, store: Backend) -> None:
        fill(store, "people", [person(1)])
        with store.read(TENANT) as at:
            assert nothing_or_refused(lambda: at.bodies("people", [LONE])) == {}
        nothing_or_refused(lambda: remove(store, "people", [LONE]))
        with store.read(TENANT) as at:
            assert found(at) == ["p001"]

    def test_a_closed_snapshot_answers_nothing_more(self, store: Backend) -> None:
        with store.read(TENANT) as at:
            pass
        at.close()
        for ask in (
            lambda: at.revision,
            lambda: at.find(Query("people")),
            lambda: at.bodies("people", ["a"]),
            lambda: list(at.keys("people")),
            lambda: list(at.records("people")),
        ):
            with pytest.raises(StoreFailed):
                ask()

    def test_a_transaction_that_is_over_takes_nothing_more(self, store: Backend) -> None:
        with store.write(TENANT) as committed:
            committed.put("people", [person(1)])
        with pytest.raises(ZeroDivisionError), store.write(TENANT) as undone:
            raise ZeroDivisionError
        for over in committed, undone:
            for ask in writes(over):
                with pytest.raises(StoreFailed):
                    ask()
        with store.read(TENANT) as at:
            assert found(at) == ["p001"]

    def test_a_closed_store_says_so(self, url: str) -> None:
        store = open_store(url, COLLECTIONS)
        store.close()
        store.close()
        asks: list[Callable[[], object]] = [
            lambda: store.read(TENANT),
            lambda: store.write(TENANT),
            lambda: store.stamp(TENANT),
            store.check,
            store.tenants,
        ]
        for ask in asks:
            with pytest.raises(StoreFailed):
                ask()

    @needs("broken_url")
    def test_what_is_no_store_is_not_taken_for_one(self, broken_url: str) -> None:
        with pytest.raises(StoreFailed) as caught:
            use(broken_url)
        assert str(caught.value)
        assert caught.value.__cause__ is not None


def remove(store: Backend, collection: str, keys: list[str]) -> None:
    """Delete in a transaction of its own."""
    with store.write(TENANT) as transaction:
        transaction.delete(collection, keys)


def writes(transaction: Transaction) -> list[Callable[[], Any]]:
    """Everything that a transaction can be asked."""
    return [
        lambda: transaction.put("people", [record("late")]),
        lambda: transaction.delete("people", ["p001"]),
        lambda: transaction.find(Query("people")),
        lambda: transaction.bodies("people", ["p001"]),
        lambda: list(transaction.keys("people")),
        lambda: list(transaction.records("people")),
    ]


def nothing_or_refused(ask: Callable[[], Any]) -> Any:
    """The answer, where BadQuery counts as none."""
    try:
        return ask()
    except BadQuery:
        return {}


def use(url: str) -> None:
    """Open the store and look into it."""
    with open_store(url, COLLECTIONS) as store, store.read(TENANT) as at:
        at.find(Query("people")).body()
