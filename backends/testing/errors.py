"""Tests of rejected input. Every error must be a StorageError, never a driver's own error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from backends import (
    FOLDED_KEY,
    KEY,
    MATCH_ALL,
    MAX_SUBSTRING_LENGTH,
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
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, find_keys, needs, person, record

__all__ = ["ErrorConformance"]

LONE_SURROGATE = "\ud800"

BAD_CONDITIONS: list[Where] = [
    Compare("no such field", "=", "x"),
    Compare("metadata", "=", "x"),
    Compare("title", "=", "x"),
    Compare("", "=", "x"),
    Compare("name", "=", 1),
    Compare("tags", "<", 1.5),
    Compare("metadata.x", "=", 1),
    Compare(KEY, "=", 1),
    Compare(FOLDED_KEY, "=", 1),
    Compare("age", "=", "1"),
    Compare("scores", ">=", ""),
    Compare("age", "~", 1),
    Compare("scores", "~", 1),
    Compare("age", "=", float("nan")),
    Compare("age", "<", 10**400),
    Compare("name", "=", LONE_SURROGATE),
    Compare(KEY, "~", LONE_SURROGATE),
    Compare("name", "~", "x" * (MAX_SUBSTRING_LENGTH + 1)),
    Compare("tags", "~", "x" * (MAX_SUBSTRING_LENGTH + 1)),
    Compare("metadata." + LONE_SURROGATE, "=", "x"),
    In("no such field", ("x",)),
    In("no such field", ()),
    In("name", ("x", 1)),
    In("age", (1, "x")),
    In("name", ("x", LONE_SURROGATE)),
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
    Query("people", order=(OrderBy("metadata." + LONE_SURROGATE),)),
    Query("people", offset=-1),
    Query("people", limit=-1),
    Query("people", max_total=-1),
]

BAD_RECORDS = [
    Record("a", b"{}", {"no such field": "x"}),
    Record("a", b"{}", {"no such field": None}),
    Record("a", b"{}", {"title": "x"}),
    Record("a", b"{}", {KEY: "b"}),
    Record("a", b"{}", {FOLDED_KEY: "a"}),
    Record("a", b"{}", {"name": 1}),
    Record("a", b"{}", {"age": "1"}),
    Record("a", b"{}", {"name": ("x",)}),
    Record("a", b"{}", {"tags": ("x", 1)}),
    Record("a", b"{}", {"scores": ("x",)}),
    Record("a", b"{}", {"metadata.x": 1}),
    Record("a", b"{}", {"age": float("nan")}),
    Record("a", b"{}", {"age": float("inf")}),
    Record("a", b"{}", {"age": 10**400}),
    Record("a", b"{}", {"name": LONE_SURROGATE}),
    Record("a", b"{}", {"metadata." + LONE_SURROGATE: "x"}),
    Record(LONE_SURROGATE, b"{}"),
    Record("a", b""),
    Record("a", b'{"a":\n1}'),
    Record("a", b'{"a":\t1}'),
]


class ErrorConformance(Conformance):
    """Tests that invalid input raises an error of the contract and leaves the store intact."""

    def test_invalid_condition_is_rejected(self, store: Backend) -> None:
        with store.read(TENANT) as snapshot:
            for where in BAD_CONDITIONS:
                for call in (
                    lambda where: snapshot.find(Query("people", where)),
                    lambda where: list(snapshot.keys("people", where)),
                    lambda where: snapshot.exists("people", where),
                ):
                    assert is_rejected(partial(call, where)), where

    def test_invalid_query_is_rejected(self, store: Backend) -> None:
        with store.read(TENANT) as snapshot:
            for query in BAD_QUERIES:
                assert is_rejected(partial(snapshot.find, query)), query

    def test_invalid_record_rolls_back_its_transaction(self, store: Backend) -> None:
        for bad in BAD_RECORDS:
            assert is_rejected(partial(fill, store, "people", [person(1), bad, person(2)])), bad
        fill(store, "people", [person(3)])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p003"]

    def test_unknown_collection_is_rejected_by_every_method(self, store: Backend) -> None:
        with store.read(TENANT) as snapshot:
            with pytest.raises(InvalidQueryError):
                snapshot.get_many("no such collection", ["a"])
            with pytest.raises(InvalidQueryError):
                list(snapshot.get_each("no such collection", ["a"]))
            with pytest.raises(InvalidQueryError):
                list(snapshot.keys("no such collection"))
            with pytest.raises(InvalidQueryError):
                snapshot.exists("no such collection")
            with pytest.raises(InvalidQueryError):
                list(snapshot.scan("no such collection"))
        with pytest.raises(InvalidQueryError):
            fill(store, "no such collection", [])
        with pytest.raises(InvalidQueryError):
            remove(store, "no such collection", [])

    def test_error_message_names_the_field(self, store: Backend) -> None:
        with store.read(TENANT) as snapshot, pytest.raises(InvalidQueryError, match=r"people.*shoeSize"):
            snapshot.find(Query("people", Compare("shoeSize", "=", 1)))

    def test_keys_without_utf8_form_are_unknown_or_rejected(self, store: Backend) -> None:
        fill(store, "people", [person(1)])
        with store.read(TENANT) as snapshot:
            assert result_or_empty(lambda: snapshot.get_many("people", [LONE_SURROGATE])) == {}
        result_or_empty(lambda: remove(store, "people", [LONE_SURROGATE]))
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]

    def test_closed_snapshot_raises_storage_unavailable_error(self, store: Backend) -> None:
        with store.read(TENANT) as snapshot:
            pass
        snapshot.close()
        for call in (
            lambda: snapshot.revision,
            lambda: snapshot.find(Query("people")),
            lambda: snapshot.exists("people"),
            lambda: snapshot.get_many("people", ["a"]),
            lambda: list(snapshot.get_each("people", ["a"])),
            lambda: list(snapshot.keys("people")),
            lambda: list(snapshot.scan("people")),
        ):
            with pytest.raises(StorageUnavailableError):
                call()

    def test_finished_transaction_raises_storage_unavailable_error(self, store: Backend) -> None:
        with store.write(TENANT) as committed:
            committed.put("people", [person(1)])
        with pytest.raises(ZeroDivisionError), store.write(TENANT) as rolled_back:
            raise ZeroDivisionError
        for transaction in committed, rolled_back:
            for call in method_calls(transaction):
                with pytest.raises(StorageUnavailableError):
                    call()
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]

    def test_closed_store_raises_storage_unavailable_error(self, url: str) -> None:
        store = open_store(url, COLLECTIONS)
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.read(TENANT),
            lambda: store.write(TENANT),
            lambda: store.version(TENANT),
            store.check,
            store.tenants,
        ]
        for call in calls:
            with pytest.raises(StorageUnavailableError):
                call()

    @needs("broken_url")
    def test_file_of_another_program_is_not_opened(self, broken_url: str) -> None:
        with pytest.raises(StorageUnavailableError) as caught:
            use(broken_url)
        assert str(caught.value)
        assert caught.value.__cause__ is not None


def is_rejected(call: Callable[[], object]) -> bool:
    """Return True if the call raises InvalidQueryError."""
    try:
        call()
    except InvalidQueryError:
        return True
    return False


def remove(store: Backend, collection: str, keys: list[str]) -> None:
    """Delete the records in a separate transaction."""
    with store.write(TENANT) as transaction:
        transaction.delete(collection, keys)


def method_calls(transaction: Transaction) -> list[Callable[[], Any]]:
    """Return calls of all methods of the transaction."""
    return [
        lambda: transaction.put("people", [record("late")]),
        lambda: transaction.delete("people", ["p001"]),
        lambda: transaction.find(Query("people")),
        lambda: transaction.exists("people"),
        lambda: transaction.get_many("people", ["p001"]),
        lambda: list(transaction.get_each("people", ["p001"])),
        lambda: list(transaction.keys("people")),
        lambda: list(transaction.scan("people")),
    ]


def result_or_empty(call: Callable[[], Any]) -> Any:
    """Return the result of the call, or an empty dict if it raises InvalidQueryError."""
    try:
        return call()
    except InvalidQueryError:
        return {}


def use(url: str) -> None:
    """Open the store and read from it."""
    with open_store(url, COLLECTIONS) as store, store.read(TENANT) as snapshot:
        snapshot.find(Query("people")).body()
