"""What is refused, and that no error of a driver ever comes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backends import (
    KEY,
    MATCH_ALL,
    And,
    Backend,
    Compare,
    In,
    InvalidQueryError,
    Not,
    OrderBy,
    Query,
    Record,
    StorageUnavailableError,
    Subquery,
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
    In("no such field", ("x",)),
    In("no such field", ()),
    In("name", ("x", 1)),
    In("age", (1, "x")),
    In("name", ("x", LONE)),
    In("name", Subquery("no such collection", "name", MATCH_ALL)),
    In("name", Subquery("groups", "no such field", MATCH_ALL)),
    In("name", Subquery("groups", "name", MATCH_ALL)),
    In("name", Subquery("groups", "title", Compare("age", "=", 1))),
    In("name", Subquery("groups", "size", MATCH_ALL)),
    In("age", Subquery("groups", "title", MATCH_ALL)),
    In(KEY, Subquery("groups", KEY, In("members", Subquery("people", "nope", MATCH_ALL)))),
    Not(Compare("no such field", "=", "x")),
    And((MATCH_ALL, Not(Compare("age", "=", "x")))),
]

BAD_QUERIES = [
    Query("no such collection"),
    Query(""),
    Query("people", order=(OrderBy("no such field"),)),
    Query("people", order=(OrderBy("name"), OrderBy("title", descending=True))),
    Query("people", order=(OrderBy("metadata." + LONE),)),
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
            with pytest.raises(InvalidQueryError):
                at.find(Query("people", where))
            with pytest.raises(InvalidQueryError):
                list(at.keys("people", where))
            with pytest.raises(InvalidQueryError):
                at.exists("people", where)

    @pytest.mark.parametrize("query", BAD_QUERIES, ids=shown)
    def test_a_query_of_what_is_not_declared_is_refused(self, store: Backend, query: Query) -> None:
        with store.read(TENANT) as at, pytest.raises(InvalidQueryError):
            at.find(query)

    @pytest.mark.parametrize("bad", BAD_RECORDS, ids=shown)
    def test_a_record_that_does_not_fit_undoes_its_transaction(self, store: Backend, bad: Record) -> None:
        with pytest.raises(InvalidQueryError):
            fill(store, "people", [person(1), bad, person(2)])
        fill(store, "people", [person(3)])
        with store.read(TENANT) as at:
            assert found(at) == ["p003"]

    def test_an_unknown_collection_is_refused_everywhere(self, store: Backend) -> None:
        with store.read(TENANT) as at:
            with pytest.raises(InvalidQueryError):
                at.get_many("no such collection", ["a"])
            with pytest.raises(InvalidQueryError):
                list(at.keys("no such collection"))
            with pytest.raises(InvalidQueryError):
                at.exists("no such collection")
            with pytest.raises(InvalidQueryError):
                list(at.scan("no such collection"))
        with pytest.raises(InvalidQueryError):
            fill(store, "no such collection", [])
        with pytest.raises(InvalidQueryError):
            remove(store, "no such collection", [])

    def test_an_error_names_what_was_wrong(self, store: Backend) -> None:
        with store.read(TENANT) as at, pytest.raises(InvalidQueryError, match=r"people.*shoeSize"):
            at.find(Query("people", Compare("shoeSize", "=", 1)))

    def test_keys_that_no_store_could_hold_are_unknown_or_refused(self, store: Backend) -> None:
        fill(store, "people", [person(1)])
        with store.read(TENANT) as at:
            assert nothing_or_refused(lambda: at.get_many("people", [LONE])) == {}
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
            lambda: at.exists("people"),
            lambda: at.get_many("people", ["a"]),
            lambda: list(at.keys("people")),
            lambda: list(at.scan("people")),
        ):
            with pytest.raises(StorageUnavailableError):
                ask()

    def test_a_transaction_that_is_over_takes_nothing_more(self, store: Backend) -> None:
        with store.write(TENANT) as committed:
            committed.put("people", [person(1)])
        with pytest.raises(ZeroDivisionError), store.write(TENANT) as undone:
            raise ZeroDivisionError
        for over in committed, undone:
            for ask in writes(over):
                with pytest.raises(StorageUnavailableError):
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
            lambda: store.version(TENANT),
            store.check,
            store.tenants,
        ]
        for ask in asks:
            with pytest.raises(StorageUnavailableError):
                ask()

    @needs("broken_url")
    def test_what_is_no_store_is_not_taken_for_one(self, broken_url: str) -> None:
        with pytest.raises(StorageUnavailableError) as caught:
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
        lambda: transaction.exists("people"),
        lambda: transaction.get_many("people", ["p001"]),
        lambda: list(transaction.keys("people")),
        lambda: list(transaction.scan("people")),
    ]


def nothing_or_refused(ask: Callable[[], Any]) -> Any:
    """The answer, where InvalidQueryError counts as none."""
    try:
        return ask()
    except InvalidQueryError:
        return {}


def use(url: str) -> None:
    """Open the store and look into it."""
    with open_store(url, COLLECTIONS) as store, store.read(TENANT) as at:
        at.find(Query("people")).body()
